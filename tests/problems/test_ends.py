"""Where averages and side-trips end: against heavy ball itself, Monte Carlo, and the formulas of
others.
"""

import numpy as np
import pytest

from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.problems import (
    heavy_ball,
    predict_loss,
    responses,
    stationary_moments,
    weigh_last,
)

RATE, BETA = 0.05, 0.9
KAPPA = np.array([1.0, 0.1, 0.015])
KERNELS = {"swa": swa, "two-point": two_point, "ema": ema}


def philox(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(list(key)))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("trip", [False, True])
def test_an_end_is_the_sum_of_its_responses(kernel, trip):
    """One random path of heavy ball, its end from the path and from the responses."""
    k, rng = 23, philox(1, trip)
    mu = KERNELS[kernel](k)
    rates = RATE * kernel_weights(mu) if trip else np.full(k, RATE)
    noise, start, buffer = rng.standard_normal((k, 3)), *rng.standard_normal((2, 3))
    path = heavy_ball(noise, rates, BETA, start, buffer, KAPPA)
    weights = weigh_last(k) if trip else mu
    ends = responses(KAPPA, rates, BETA, weights)
    end = ends.start * start + ends.buffer * buffer + (ends.noise * noise).sum(0)
    np.testing.assert_allclose(end, weights @ path, rtol=1e-12)


def test_frozen_gradients_make_the_side_trip_end_at_the_average():
    """Lemma 2: without curvature both ends answer alike to start, buffer and every step's noise."""
    for name, kernel in KERNELS.items():
        mu = kernel(12)
        average = responses(np.zeros(1), np.full(12, RATE), BETA, mu)
        trip = responses(np.zeros(1), RATE * kernel_weights(mu), BETA, weigh_last(12))
        for part in ("start", "buffer", "noise"):
            np.testing.assert_allclose(
                getattr(trip, part), getattr(average, part), rtol=1e-12, err_msg=name
            )
        curved = [responses(np.ones(1), rates, BETA, weights).noise
                  for rates, weights in ((np.full(12, RATE), mu), (RATE * kernel_weights(mu), weigh_last(12)))]  # fmt: skip
        assert np.abs(curved[0] - curved[1]).max() > 1e-3


def test_stationary_moments_stay_what_they_are():
    """One more step of the recursion, its noise added, leaves them unchanged."""
    noise = np.array([0.3, 2.0, 0.7])
    moments = stationary_moments(KAPPA, noise, RATE, BETA)
    for kappa, c, of_start in zip(KAPPA, noise, moments, strict=True):
        step = np.array([[1 - RATE * kappa, -RATE * BETA], [kappa, BETA]])
        into = np.array([-RATE, 1.0])
        np.testing.assert_allclose(
            step @ of_start @ step.T + c * np.outer(into, into), of_start, rtol=1e-12
        )


def test_the_moments_of_an_average_are_those_of_many_runs():
    k, runs, rng = 40, 40_000, philox(2)
    noise = np.array([1.0])
    mu = swa(k)
    moments = stationary_moments(KAPPA[:1], noise, RATE, BETA)[0]
    starts = rng.standard_normal((runs, 2)) @ np.linalg.cholesky(moments).T
    steps = rng.standard_normal((k, runs))
    rates = {"average": np.full(k, RATE), "trip": RATE * kernel_weights(mu)}
    for name, weights in (("average", mu), ("trip", weigh_last(k))):
        path = heavy_ball(steps, rates[name], BETA, starts[:, 0], starts[:, 1], KAPPA[0])
        predicted = predict_loss(KAPPA[:1], noise, rates[name], BETA, weights, moments[None])
        measured = 0.5 * KAPPA[0] * (weights @ path) ** 2
        assert predicted[0] == pytest.approx(
            measured.mean(), rel=4 * measured.std() / measured.mean() / runs**0.5
        )


def test_an_average_has_the_variance_of_its_autocorrelation():
    """Var (C_0 + 2 sum C_d rho_d), C_d the kernel's autocorrelation, rho by its own recursion."""
    k = 100
    mu = swa(k)
    moments = stationary_moments(KAPPA, np.ones(3), RATE, BETA)
    variance = moments[:, 0, 0]
    rho = np.ones((k + 1, 3))
    rho[1] = (1 + BETA - RATE * KAPPA) / (1 + BETA)
    for j in range(1, k):
        rho[j + 1] = (1 + BETA - RATE * KAPPA) * rho[j] - BETA * rho[j - 1]
    overlaps = np.correlate(mu, mu, "full")[k:]
    expected = variance * (overlaps[0] + 2 * (overlaps[1:, None] * rho[1:]).sum(0))
    ends = responses(KAPPA, np.full(k, RATE), BETA, mu)
    np.testing.assert_allclose(ends.second_moment(np.ones(3), moments), expected, rtol=1e-9)


def test_without_momentum_the_weigh_last_has_the_textbook_variance():
    """lambda c / (kappa (2 - lambda kappa)), which a constant rate does not leave."""
    moments = stationary_moments(KAPPA, np.ones(3), RATE, 0.0)
    expected = RATE / (KAPPA * (2 - RATE * KAPPA))
    np.testing.assert_allclose(moments[:, 0, 0], expected, rtol=1e-12)
    loss = predict_loss(KAPPA, np.ones(3), np.full(7, RATE), 0.0, weigh_last(7), moments)
    np.testing.assert_allclose(loss, 0.5 * KAPPA * expected, rtol=1e-12)


@pytest.mark.parametrize("changes, message", [
    ({"mu": swa(3)}, "mu must be one weight more than the 5 rates"),
    ({"mu": np.ones(6)}, "sum to 1, got 6, sum 6"),
    ({"momentum": 1.0}, "momentum must be in"),
    ({"curvatures": np.array([np.nan])}, "curvatures must be a finite vector"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(changes, message):
    given = {"curvatures": KAPPA, "rates": np.full(5, RATE), "momentum": BETA, "mu": swa(5)}
    with pytest.raises(ValueError, match=message):
        responses(**given | changes)


@pytest.mark.parametrize("kappa", [0.0, -0.1, 2 * (1 + BETA) / RATE])
def test_a_direction_that_does_not_settle_is_named(kappa):
    with pytest.raises(ValueError, match="curvatures must lie in"):
        stationary_moments(np.array([1.0, kappa]), np.ones(2), RATE, BETA)
