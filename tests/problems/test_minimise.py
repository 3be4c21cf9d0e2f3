"""A path is what a loop written out by hand makes of it, and lanes do not see each other."""

import numpy as np
import pytest

from replicate.optim import SGD, Adam
from replicate.problems import minimise, rosenbrock


def slope(x):
    bend = x[1] - x[0] ** 2
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * bend, 200 * bend])


def adam_path(start, lr, steps, plain=0.0, begin=0):
    """Adam with torch's defaults, and from `begin` on a plain gradient step of the same gradient."""
    x, m, v, path = np.array(start), np.zeros(2), np.zeros(2), [np.array(start)]
    for t in range(1, steps + 1):
        g = slope(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - (plain * g if t > begin else 0)
        path.append(x)
    return np.array(path)


def test_the_path_is_that_of_a_loop_and_a_late_optimizer_begins_late():
    start = np.array([[-1.5, 1.0]])
    path = minimise(
        rosenbrock, start, lambda theta: [Adam(theta, lr=0.1), SGD(theta, lr=1e-4)], 40, begins=[0, 7]
    )  # fmt: skip
    np.testing.assert_allclose(path[:, 0], adam_path(start[0], 0.1, 40, 1e-4, 7), rtol=1e-9)
    assert np.abs(path[:, 0] - adam_path(start[0], 0.1, 40, 1e-4, 6)).max() > 1e-3


def test_thousands_of_starts_are_as_many_runs():
    starts = np.random.Generator(np.random.Philox(1)).uniform(-2, 2, (2, 5, 2))
    rates = [0.05, 0.1]

    def made(theta):
        return [Adam([{"params": [p], "lr": lr} for p, lr in zip(theta, rates, strict=True)])]

    together = minimise(rosenbrock, starts, made, 30, every=10)
    assert together.shape == (4, 2, 5, 2)
    for group, lr in enumerate(rates):
        for lane in range(5):
            alone = adam_path(starts[group, lane], lr, 30)[::10]
            np.testing.assert_allclose(together[:, group, lane], alone, rtol=1e-8)


def test_noise_is_added_to_the_gradient():
    start, kicks = np.zeros((1, 2)), np.arange(6.0).reshape(3, 1, 2)
    path = minimise(
        lambda x: (0 * x).sum(-1),
        start,
        lambda theta: [SGD(theta, lr=0.5)],
        3,
        noise=lambda t: kicks[t],
    )
    np.testing.assert_allclose(path[:, 0], np.concatenate([start, -0.5 * kicks[:, 0].cumsum(0)]))


def test_what_diverges_stays_in_the_path():
    path = minimise(rosenbrock, np.array([[3.0, -3.0]]), lambda theta: [SGD(theta, lr=1.0)], 20)
    assert np.isfinite(path[0]).all() and not np.isfinite(path[-1]).any()


@pytest.mark.parametrize(
    "change, line", [({"steps": 0}, "steps"), ({"every": 0}, "every"), ({"begins": [0]}, "begins")]
)
def test_what_cannot_be_walked_is_refused(change, line):
    about = {"steps": 5, "every": 1, "begins": [0, 0]} | change
    with pytest.raises(ValueError, match=line):
        minimise(
            rosenbrock,
            np.zeros((1, 2)),
            lambda theta: [SGD(theta, lr=1.0), SGD(theta, lr=1.0)],
            **about,
        )
