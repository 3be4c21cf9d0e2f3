"""Dense second-order methods against a plain loop in torch, and what one Newton step does to a
linear net with biases.
"""

import numpy as np
import pytest
import torch

from replicate import descent
from replicate.descent.second_order import SecondOrder
from replicate.errors import BadParameter

RELU = descent.Net((4, 3, 3, 1), "relu")
LINEAR = descent.Net((4, 3, 3, 1))


def draw(count=40, seed=0):
    rows = descent.rows(count, 4, seed)
    noise = np.random.default_rng(seed).standard_normal(count)
    return descent.Rows(rows.x, rows.y + 0.5 * noise + 0.3)


def residuals(net, rows):
    """w -> r with L = |r|^2, in torch, with the weights in the order of its `parameters()`."""
    x, y = (torch.tensor(array, dtype=torch.float64) for array in rows)

    def at(w):
        pieces = torch.split(w, [int(np.prod(shape)) for shape in net.shapes])
        layers = [piece.reshape(shape) for piece, shape in zip(pieces, net.shapes, strict=True)]
        a = x
        for i in range(0, len(layers), 2):
            a = layers[i] @ a + layers[i + 1][:, None]
            if net.activation == "relu" and i < len(layers) - 2:
                a = a.clamp(min=0)
        return (a[0] - y) / len(y) ** 0.5

    return at


def loop(net, rows, w, steps, gauss_newton):
    """Losses and tries of the damped method, written out."""
    r = residuals(net, rows)
    w = torch.tensor(w, dtype=torch.float64)
    losses, tries, mu = [float((r(w) ** 2).sum())], [0], None
    for _ in range(steps):
        jacobian = torch.autograd.functional.jacobian(r, w)
        gradient = 2 * jacobian.T @ r(w)
        curvature = 2 * jacobian.T @ jacobian
        if not gauss_newton:
            curvature = torch.autograd.functional.hessian(lambda v: (r(v) ** 2).sum(), w)
        if mu is None:
            mu = 1e-3 * float(curvature.diagonal().abs().max())
        for count in range(1, 31):
            new = w - torch.linalg.solve(curvature + mu * torch.eye(len(w)), gradient)
            if (loss := float((r(new) ** 2).sum())) < losses[-1]:
                mu /= 10
                break
            mu *= 10
        w = new
        losses.append(loss)
        tries.append(tries[-1] + count)
    return np.array(losses), np.array(tries)


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("net", [RELU, LINEAR], ids=["relu", "linear"])
def test_the_damped_path_is_that_of_a_plain_loop(net, curvature):
    rows, start = draw(), descent.initial_weights(net, 1)
    path = SecondOrder(curvature).descend(net, rows, start, 5)
    losses, tries = loop(net, rows, start, 5, curvature == "gauss-newton")
    np.testing.assert_allclose(path.losses, losses, rtol=1e-6)
    assert path.forwards.tolist() == tries.tolist()
    assert np.all(np.diff(path.losses) < 0)
    paid = np.arange(6) * (1 + 2 * net.size) + tries / 3
    np.testing.assert_allclose(path.gradients, paid, rtol=1e-12)


def test_a_try_that_does_not_lower_the_loss_is_paid_for_and_not_taken():
    rows, start = draw(), descent.initial_weights(LINEAR, 1)
    path = SecondOrder("gauss-newton").descend(LINEAR, rows, start, 1)
    assert path.forwards[1] > 1 and path.losses[1] < path.losses[0]


def test_second_moments_give_the_path_of_the_rows():
    rows, start = draw(), descent.initial_weights(LINEAR, 1)
    for method in (SecondOrder("gauss-newton"), SecondOrder("hessian")):
        paths = [method.descend(LINEAR, data, start, 6) for data in (rows, descent.moments(rows))]
        np.testing.assert_allclose(paths[0].losses, paths[1].losses, rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_one_newton_step_ends_a_linear_net_with_biases(depth):
    """Move W_1 by S and b_1 by s with  u S = A - A*,  S v + rho s = 0  and the last bias by the
    rest, where u is the product of the later maps, A - A* what the net has too much, and v and rho
    the means of r x and r. The residual then goes to zero along a line, and no other map has a
    slope on it: the second derivatives that Gauss and Newton leave out vanish.
    """
    net = descent.Net((4, *[3] * (depth - 1), 1))
    rows = descent.rows(60, 4, 3)
    start = descent.initial_weights(net, 5)
    path = SecondOrder(damped=False).descend(net, rows, start, 1)
    assert path.losses[0] > 1 and path.losses[1] < 1e-12 * path.losses[0]

    r = residuals(net, rows)
    w = torch.tensor(start)
    hessian = torch.autograd.functional.hessian(lambda v: (r(v) ** 2).sum(), w)
    gradient = torch.autograd.functional.jacobian(lambda v: (r(v) ** 2).sum(), w)
    move = torch.tensor(_step_of_the_proof(net, rows, start, r(w).numpy() * 60**0.5))
    np.testing.assert_allclose(hessian @ move, gradient, rtol=1e-6, atol=1e-9)
    assert float((r(w - move) ** 2).sum()) < 1e-20


def _step_of_the_proof(net, rows, start, residual):
    maps = [np.asarray(each) for each in _arrays(net, start)]
    u = maps[-2]
    for w in reversed(maps[2:-2:2]):
        u = u @ w
    a = (u @ maps[0])[0]
    v, rho = (residual * rows.x).mean(1), residual.mean()
    s_map = np.outer(u[0] / (u[0] @ u[0]), a - 1)  # y is the sum of x
    s_bias = -s_map @ v / rho
    constant = (residual - (a - 1) @ rows.x).mean()  # what the net adds to every row
    move = [s_map, s_bias, *(np.zeros_like(each) for each in maps[2:])]
    move[-1] = np.array([constant - u[0] @ s_bias])
    return np.concatenate([each.ravel() for each in move])


def _arrays(net, weights):
    ends = np.cumsum([int(np.prod(shape)) for shape in net.shapes])[:-1]
    return [p.reshape(s) for p, s in zip(np.split(weights, ends), net.shapes, strict=True)]


def test_undamped_with_relu_the_step_may_rise_and_a_lost_path_ends_in_nan(monkeypatch):
    rows, start = draw(), descent.initial_weights(RELU, 1)
    path = SecondOrder(damped=False).descend(RELU, rows, start, 3)
    assert path.losses[1] > path.losses[0]
    far = descent.Rows(rows.x, np.full(40, np.inf))
    lost = SecondOrder(damped=False).descend(RELU, far, start, 2)
    assert np.isnan(lost.points[1:]).all() and not np.isfinite(lost.losses).any()


def test_a_path_at_its_lowest_stays_and_pays_no_more():
    rows = descent.rows(40, 4, 0)
    path = SecondOrder("gauss-newton").descend(descent.Net((4, 1)), rows, np.zeros(5), 40)
    assert path.losses[-1] < 1e-25
    still = np.flatnonzero(np.diff(path.gradients) == 0)
    assert len(still) and np.all(path.points[still[0] :] == path.points[-1])


def test_bad_input_is_refused():
    with pytest.raises(BadParameter, match="did you mean 'gauss-newton'"):
        SecondOrder("gauss newton")
    rows, start = draw(), descent.initial_weights(RELU, 0)
    with pytest.raises(BadParameter, match="steps must be at least 0, got -1"):
        SecondOrder().descend(RELU, rows, start, -1)
    with pytest.raises(BadParameter, match="linear for second moments, got relu"):
        SecondOrder().descend(RELU, descent.moments(rows), start, 1)
