"""Every filter is what its optimizer does with an impulse, and its numbers are those that other
formulas give.
"""

import numpy as np
import pytest
import torch

from replicate import optim, problems
from replicate.averaging import KernelAverages, ema, kernel_weights, swa, two_point
from replicate.errors import BadParameter
from replicate.optim.stencils import step_coefficients
from replicate.problems import filters

WARM = 30  # steps without a gradient before the pulse, a multiple of every cycle here
STEPS = 40


def sgd(p, **settings):
    return optim.SGD(p, lr=1.0, **settings)


def extrapolate(order, every=1, s=0.5):
    return lambda p: optim.TaylorExtrapolation(sgd(p), dt=s, order=order, every=every)


def pull(k, alpha, momentum=0.0, **settings):
    return lambda p: optim.Lookahead(sgd(p, momentum=momentum), k=k, alpha=alpha, **settings)


OPTIMIZERS = {
    "sgd": (filters.sgd(), sgd),
    "heavy ball": (filters.heavy_ball(0.9), lambda p: sgd(p, momentum=0.9)),
    "nesterov": (filters.nesterov(0.8), lambda p: sgd(p, momentum=0.8, nesterov=True)),
    **{
        f"extrapolation {order}": (filters.extrapolation(step_coefficients(0.5, order)), extrapolate(order))
        for order in (1, 2, 3, 6)
    },
    "extrapolation every 3": (filters.extrapolation(step_coefficients(0.5, 3), 3), extrapolate(3, 3)),
    "lookahead": (filters.lookahead(5, 0.5), pull(5, 0.5)),
    "lookahead 1": (filters.lookahead(1, 1.5), pull(1, 1.5, extrapolate=True)),
    **{
        f"lookahead, momentum {kept}": (
            filters.lookahead(3, 0.6, 0.9, kept), pull(3, 0.6, 0.9, inner_state=kept)
        )
        for kept in filters.KEPT_STATES
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_filter_is_what_its_optimizer_does_with_an_impulse_at_every_phase(name):
    method, make = OPTIMIZERS[name]
    for phase in range(method.phases):
        answer = problems.answer_pulse(make, STEPS, WARM + phase)
        assert method.impulse(STEPS, phase) == pytest.approx(answer, abs=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("x", [0.05, 0.7])
def test_on_a_quadratic_the_loop_goes_as_the_optimizer_does(name, x):
    """After a push at each phase, with the gradient x w from then on."""
    method, make = OPTIMIZERS[name]
    for phase in range(method.phases):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer, state, ours, theirs = make([weight]), np.zeros(len(method.look)), [], []
        for step in range(WARM + phase + STEPS):
            push = float(step == WARM + phase)
            weight.grad = x * weight.detach() - push
            optimizer.step()
            at = step % method.phases
            state = method.push[at] @ state + method.inject[at] * (push - x * state[0])
            ours.append(state[0])
            theirs.append(float(weight.detach()))
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_a_decay_is_that_of_a_long_path():
    for method, x in ((filters.heavy_ball(0.5), 0.2), (filters.lookahead(3, 0.5, 0.5), 0.3)):
        state, sizes = np.array([1.0, *np.zeros(method.loop - 1)]), []
        for step in range(360):
            at = step % method.phases
            state = method.push[at] @ state - method.inject[at] * x * state[0]
            sizes.append(np.abs(state).max())
        growth = (max(sizes[320:360]) / max(sizes[200:240])) ** (1 / 120)
        assert method.decay(x) == pytest.approx(growth, abs=2e-3)


@pytest.mark.parametrize("kernel", [swa(7), two_point(7), ema(7)], ids=["swa", "two-point", "ema"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_average_is_that_of_the_run(kernel, momentum):
    """At every phase of the window, beside `KernelAverages` on the optimizer's own weights."""
    method = filters.average(filters.heavy_ball(momentum), kernel)
    for j in range(7):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = sgd([weight], momentum=momentum)
        averages = KernelAverages({"it": kernel}, [weight])
        for step in range(7):
            weight.grad = torch.full((1,), -float(step == 6 - j), dtype=torch.float64)
            optimizer.step()
            averages.update([weight])
        assert method.impulse(7)[j] == pytest.approx(float(averages["it"]), abs=1e-12)


@pytest.mark.parametrize("kernel", [swa(9), two_point(9), ema(9)], ids=["swa", "two-point", "ema"])
def test_what_an_average_leaves_of_each_gradient_is_its_schedule(kernel):
    impulse = filters.average(filters.sgd(), kernel).impulse(9)
    assert impulse == pytest.approx(kernel_weights(kernel)[::-1], abs=1e-14)


def test_a_running_mean_is_a_loop_over_the_weights():
    method, y, theta, d = filters.running_mean(filters.heavy_ball(0.9), 0.2), 0.0, 0.0, 0.0
    for j, moved in enumerate(method.impulse(30)):
        d = 0.9 * d + (j == 0)
        theta += d
        y += 0.2 * (theta - y)
        assert moved == pytest.approx(y, abs=1e-12)


def test_variances_are_those_of_other_formulas():
    for x in (0.01, 0.5, 1.5):
        assert filters.sgd().variance(x) == pytest.approx(1 / (x * (2 - x)))
        assert filters.heavy_ball(0.9).variance(x) == pytest.approx(
            float(problems.heavy_ball_variance(x, 0.9))
        )
        shrunk = problems.shrinkage(1 - x, swa(8)) / (x * (2 - x))
        assert filters.average(filters.sgd(), swa(8)).variance(x) == pytest.approx(float(shrunk))
    for coefficients, every in ((step_coefficients(0.5, 3), 1), (step_coefficients(0.3, 2), 4)):
        expected = problems.stationary_variance(coefficients, 0.2, every).mean()
        assert filters.extrapolation(coefficients, every).variance(0.2) == pytest.approx(expected)
    assert filters.sgd().variance(2.1) == np.inf


def test_the_variance_at_pulls_is_that_of_proposition_2():
    """The mean over a cycle, by the slow weights' variance and a step after the other from it."""
    x, k, alpha = 0.3, 5, 0.5
    slow = float(problems.lookahead_variance(x, alpha, k))
    cycle = [slow]
    for _ in range(k - 1):
        cycle.append(cycle[-1] * (1 - x) ** 2 + 1.0)
    assert filters.lookahead(k, alpha).variance(x) == pytest.approx(np.mean(cycle))


def test_a_variance_is_that_of_a_long_path():
    method, x = filters.running_mean(filters.nesterov(0.5), 0.3), 0.4
    noise = np.random.default_rng(0).standard_normal(200_000)
    state, path = np.zeros(3), []
    for e in noise:
        state = method.push[0] @ state + method.inject[0] * (e - x * state[0])
        path.append(state @ method.look)
    assert np.var(path[100:]) == pytest.approx(method.variance(x), rel=0.03)


EDGES = {
    "sgd": (filters.sgd(), 2.0),
    "heavy ball": (filters.heavy_ball(0.9), 3.8),
    "nesterov": (filters.nesterov(0.9), 2 * 1.9 / 2.8),
    "extrapolation": (filters.extrapolation(step_coefficients(0.5, 3)),
                      problems.largest_stable(step_coefficients(0.5, 3))),
    "extrapolation every 2": (filters.extrapolation(step_coefficients(0.5, 2), 2),
                              problems.largest_stable(step_coefficients(0.5, 2), 2)),
    "lookahead 5": (filters.lookahead(5, 0.5), problems.largest_stable_rate(0.5, 5)),
    "lookahead 4": (filters.lookahead(4, 0.5), 2.0),
    "an average": (filters.average(filters.heavy_ball(0.5), swa(6)), 3.0),
    "an ema": (filters.running_mean(filters.sgd(), 0.01), 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_those_of_other_formulas(name):
    method, edge = EDGES[name]
    assert method.largest_stable() == pytest.approx(edge, abs=1e-9)


@pytest.mark.parametrize(
    "method, pace, lag",
    [
        (filters.sgd(), 1.0, 0.0),
        (filters.heavy_ball(0.9), 10.0, 9.0),  # beta / (1 - beta)
        (filters.nesterov(0.9), 10.0, 8.1),  # beta^2 / (1 - beta)
        (filters.extrapolation((0.5,)), 1.5, 0.0),
        (filters.extrapolation((2.0, -1.0)), 2.0, -0.5),
        (filters.lookahead(4, 0.5), 0.5, -1.5),  # a step counts twice until the pull, 0 to 3 steps on
        (filters.average(filters.sgd(), swa(5)), 1.0, 2.0),
        (filters.running_mean(filters.sgd(), 0.1), 1.0, 9.0),
    ],
    ids=lambda value: "" if isinstance(value, filters.Filter) else f"{value:g}",
)  # fmt: skip
def test_pace_and_lag(method, pace, lag):
    assert (method.pace, method.lag) == pytest.approx((pace, lag), abs=1e-9)


@pytest.mark.parametrize("name", ["heavy ball", "nesterov", "extrapolation 3", "sgd"])
def test_a_response_is_the_transfer_function(name):
    """(z - 1) c (z - P)^-1 b at z = exp(i omega), which is another way to the same number."""
    method, _ = OPTIMIZERS[name]
    omega = np.array([0.01, 0.3, 1.0, np.pi])
    for w, value in zip(omega, method.response(omega), strict=True):
        z = np.exp(1j * w)
        inverse = np.linalg.solve(z * np.eye(len(method.look)) - method.push[0], method.inject[0])
        assert value == pytest.approx((z - 1) * method.look @ inverse, abs=1e-9)
    assert method.response([0.0])[0] == pytest.approx(method.pace)


def test_the_response_of_lookahead_is_that_of_its_mean_step():
    """1 at once, and 1 - alpha back within k steps, at each distance once a cycle."""
    omega = np.array([0.1, 2.0])
    expected = 1 - 0.5 / 4 * sum(np.exp(-1j * omega * j) for j in range(1, 4)) - 0.5 / 4
    assert filters.lookahead(4, 0.5).response(omega) == pytest.approx(expected, abs=1e-12)


def test_what_is_and_what_is_no_same_filter():
    ball, ema_of = filters.heavy_ball(0.9), filters.running_mean(filters.sgd(), 0.1)
    assert filters.difference(ema_of, ball, 0.1) < 1e-14
    assert filters.difference(ema_of, ball, 0.11) > 0.05
    ahead = filters.look_ahead(ball, 1, 0.9)
    assert filters.difference(filters.nesterov(0.9), ahead) < 1e-14
    assert filters.difference(filters.nesterov(0.9), ball) > 0.05
    assert filters.difference(filters.extrapolation((0.5,)), filters.lookahead(1, 1.5)) < 1e-14
    assert filters.difference(filters.lookahead(3, 0.5), filters.lookahead(2, 0.5)) > 0.2


def test_noise_at_pace_of_heavy_ball_is_the_closed_form():
    beta, x = 0.9, 0.2
    expected = (1 + beta) * (2 - x) / (2 * (1 + beta) - x * (1 - beta))
    assert filters.heavy_ball(beta).noise_at_pace(x) == pytest.approx(expected)
    assert filters.sgd().noise_at_pace(x) == pytest.approx(1.0)


def test_what_cannot_be_is_refused():
    with pytest.raises(BadParameter, match="did you mean 'reset'"):
        filters.lookahead(5, 0.5, 0.9, "resett")
    with pytest.raises(ValueError, match="must settle within"):
        filters.heavy_ball(1.0).response([1.0])
    with pytest.raises(ValueError, match="a constant pace, it grows"):
        _ = filters.heavy_ball(1.0).pace


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pace_is_how_far_a_constant_gradient_has_moved(name):
    method, make = OPTIMIZERS[name]
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, path = make([weight]), []
    for _ in range(600):
        weight.grad = -torch.ones(1, dtype=torch.float64)
        optimizer.step()
        path.append(float(weight.detach()))
    assert method.pace == pytest.approx((path[599] - path[299]) / 300, rel=1e-9)
