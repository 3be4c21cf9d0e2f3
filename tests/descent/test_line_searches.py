"""The exact search finds the lowest point along a ray, and backtracking is backtracking."""

import numpy as np
import pytest

from replicate import descent
from replicate.descent import Armijo, ExactSearch, Net

A = np.array([1.0, 0.3, 0.05, 2.0])
START = np.array([1.0, -2.0, 3.0, 0.5])


def bowl(theta, data):
    return 0.5 * (data[0] * theta**2).sum()


def steepest(theta, steps):
    for _ in range(steps):
        g = A * theta
        theta = theta - (g @ g) / (g @ (A * g)) * g
    return theta


@pytest.mark.parametrize("lr", [1e-6, 1.0])
def test_on_a_quadratic_it_is_steepest_descent_in_closed_form_at_any_rate(lr):
    run = descent.train(ExactSearch(2), bowl, (A,), START, lr, 15)
    np.testing.assert_allclose(run.weights, steepest(START, 15), rtol=1e-5, atol=1e-9)
    assert run.forwards.tolist() == list(range(16)) and run.mini_steps.tolist() == [1] * 15


def polynomial(
    net: Net, root: np.ndarray, weights: np.ndarray, gradient: np.ndarray
) -> np.polynomial.Polynomial:
    """L(w - t g) by multiplying polynomials in t, layer after layer; L = |R v|^2."""
    poly = np.polynomial.Polynomial
    ends = np.cumsum([np.prod(shape) for shape in net.shapes])[:-1]
    parts = [np.split(one, ends) for one in (weights, gradient)]
    entries = [np.array([poly([w, -g]) for w, g in zip(a, b, strict=True)], dtype=object).reshape(shape)
               for a, b, shape in zip(*parts, net.shapes, strict=True)]  # fmt: skip
    row, constant = entries[-2], entries[-1]
    for w, b in zip(entries[-4::-2], entries[-3::-2], strict=True):
        constant, row = constant + row @ b, row @ w
    v = np.array([*row[0], constant[0], poly([-1.0])], dtype=object)
    return sum((one**2 for one in root @ v), poly([0.0]))


def test_along_a_ray_of_a_deep_linear_net_it_finds_the_root_of_the_polynomial():
    net = Net((3, 2, 2, 1))
    moments, loss = descent.moments(descent.rows(30, 3, 0)), descent.moments_loss(net)
    for seed in (0, 1, 2, 20):  # at two of them the lowest point lies in a narrow second valley
        weights = 3 * descent.initial_weights(net, seed)
        gradient = descent.gradient(loss, moments, weights)
        along = polynomial(net, moments.root, weights, gradient)
        assert along.degree() == 6 and along(0) == pytest.approx(
            descent.value(loss, moments, weights)
        )
        roots = along.deriv().roots()
        lowest = min(along(t.real) for t in roots if abs(t.imag) < 1e-9 and t.real > 0)
        run = descent.train(ExactSearch(2 * 3), loss, moments, weights, 0.1, 1)
        assert run.losses[1] == pytest.approx(lowest, rel=1e-9) and run.forwards[1] == 5


def backtracking(theta, lr, steps, c=1e-4, shrink=0.5, grow=2.0, max_steps=20):
    """Written out: where it stands after each step, and how many losses it has looked at."""
    first, path, looks = lr, [theta], [0]
    for _ in range(steps):
        g, f = A * theta, 0.5 * A @ theta**2
        lengths = first * shrink ** np.arange(max_steps)
        low = [0.5 * A @ (theta - t * g) ** 2 <= f - c * t * g @ g for t in lengths]
        seen = low.index(True) + 1 if True in low else max_steps
        if True in low:
            theta, first = theta - lengths[seen - 1] * g, lengths[seen - 1] * grow
        else:
            first = lengths[-1]
        path.append(theta)
        looks.append(looks[-1] + seen)
    return path, looks


@pytest.mark.parametrize(
    "lr, about",
    [
        (0.01, {}),
        (100.0, {}),
        (1.0, {"c": 0.4, "shrink": 0.3, "grow": 1.0}),
        (1e3, {"max_steps": 3}),
    ],
)
def test_backtracking_is_backtracking(lr, about):
    run = descent.train(Armijo(**about), bowl, (A,), START, lr, 12, path=True)
    path, looks = backtracking(START, lr, 12, **about)
    np.testing.assert_allclose(run.path, path, rtol=1e-9, atol=1e-300)
    assert run.forwards.tolist() == looks and np.all(np.diff(run.losses) <= 0)


REFUSED = [
    (lambda: ExactSearch(1), "degree must be 0 or at least 2, got 1"),
    (lambda: Armijo(c=0.0), r"c and shrink must be in \(0, 1\), got 0.0 and 0.5"),
    (lambda: Armijo(shrink=1.0), "got 0.0001 and 1.0"),
    (lambda: Armijo(grow=0.5), "grow must be finite and at least 1, got 0.5"),
    (lambda: Armijo(max_steps=0), "max_steps must be at least 1, got 0"),
]


@pytest.mark.parametrize("make, said", REFUSED)
def test_bad_arguments_are_named_with_bound_and_value(make, said):
    with pytest.raises(ValueError, match=said):
        make()
