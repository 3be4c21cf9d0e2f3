"""The kernel of the least loss: no change lowers its loss, and textbook weights where there is one
direction.
"""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from replicate import averaging, problems

KAPPA, NOISE, RATE, BETA = np.array([4.0, 0.7, 0.02]), np.array([0.5, 2.0, 0.1]), 0.1, 0.8


def loss(mu: np.ndarray, beta: float = BETA) -> float:
    """By the responses of `replicate.problems.ends`."""
    moments = problems.stationary_moments(KAPPA, NOISE, RATE, beta)
    rates = np.full(len(mu) - 1, RATE)
    return problems.predict_loss(KAPPA, NOISE, rates, beta, mu, moments).sum()


def test_autocovariances_are_those_of_the_stationary_law():
    """By scipy's Lyapunov equation and powers of the matrix of a step."""
    lagged = problems.autocovariances(KAPPA, NOISE, RATE, BETA, 7)
    for i, (kappa, c) in enumerate(zip(KAPPA, NOISE, strict=True)):
        step = np.array([[1 - RATE * kappa, -RATE * BETA], [kappa, BETA]])
        drive = np.array([-RATE, 1.0])
        moments = solve_discrete_lyapunov(step, c * np.outer(drive, drive))
        expected = [(np.linalg.matrix_power(step, d) @ moments)[0, 0] for d in range(8)]
        np.testing.assert_allclose(lagged[:, i], expected, rtol=1e-9)


@pytest.mark.parametrize("beta", [0.0, BETA])
@pytest.mark.parametrize("k", [1, 2, 25])
def test_no_change_of_the_weights_lowers_the_loss(k, beta):
    best = problems.least_loss_kernel(KAPPA, NOISE, RATE, beta, k)
    assert best.shape == (k + 1,) and best.sum() == pytest.approx(1)
    changes = np.random.default_rng(0).standard_normal((10, k + 1))
    for change in changes - changes.mean(1, keepdims=True):
        up, down = loss(best + 0.01 * change, beta), loss(best - 0.01 * change, beta)
        assert up - loss(best, beta) == pytest.approx(down - loss(best, beta), rel=1e-5) and up > loss(best, beta)  # fmt: skip


@pytest.mark.parametrize("curvature", [0.5, 6.0])
def test_one_direction_without_momentum_has_textbook_weights(curvature):
    """The mean of a first-order autoregression with factor f: weights 1, 1 - f, ..., 1 - f, 1."""
    best = problems.least_loss_kernel(np.array([curvature]), np.array([3.0]), RATE, 0.0, 6)
    weights = np.array([1, *[RATE * curvature] * 5, 1])
    np.testing.assert_allclose(best, weights / weights.sum(), rtol=1e-9)


def test_with_momentum_the_ends_are_taken_on():
    """beta of the iterate beside an end is taken off it, as that says where the run would go."""
    best = problems.least_loss_kernel(KAPPA, NOISE, RATE, BETA, 30)
    assert best[0] > 0 > best[1] and best[-2] / best[-1] == pytest.approx(-BETA, rel=0.15)
    np.testing.assert_allclose(best, best[::-1], rtol=1e-8)
    assert loss(best) < 0.9 * min(loss(averaging.swa(30)), loss(averaging.ema(30)), loss(averaging.two_point(30)))  # fmt: skip


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        problems.least_loss_kernel(KAPPA, NOISE, RATE, BETA, 0)
    with pytest.raises(ValueError, match="to settle, got 50"):
        problems.least_loss_kernel(np.array([50.0]), np.ones(1), RATE, BETA, 3)
