"""Exact moments equal those of paths that are drawn, of the recursion written out, and of the
optimizer itself.
"""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import SGD, TaylorExtrapolation
from replicate.optim.stencils import step_coefficients
from replicate.problems import (
    heavy_ball,
    heavy_ball_variance,
    largest_stable,
    mean_squares,
    noise_gain,
    spectral_radius,
    stationary_variance,
)

CASES = [
    (0.1, 3, "bdf", 1),
    (0.5, 3, "bdf", 4),
    (0.3, 2, "backward", 1),
    (0.2, 1, "bdf", 2),
    (0.4, 4, "bdf", 3),
]
every_case = pytest.mark.parametrize("s, order, derivative, every", CASES)


def recursion(c, x, noise, every, start=1.0) -> np.ndarray:
    """The path written out, displacements in a list; noise: (steps, lanes) -> (steps + 1, lanes)."""
    w, moved, path = np.full(noise.shape[1], start), [], [np.full(noise.shape[1], start)]
    for t, e in enumerate(noise, start=1):
        moved.insert(0, -x * w + e)
        w = w + moved[0]
        ahead = sum(c_j * d for c_j, d in zip(c, moved, strict=False))
        known = t >= len(c)
        if every and t % every == 0 and known:
            w = w + ahead
        path.append(w + ahead if every is None and known else w)
    return np.array(path)


@every_case
def test_moments_without_noise_are_the_squares_of_the_optimizers_path(s, order, derivative, every):
    x = np.array([0.05, 0.4, 0.9])
    w = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer, path = (
        TaylorExtrapolation(SGD([w], lr=0.1), s * 0.1, None, order, derivative, every=every),
        [np.ones(3)],
    )
    for _ in range(30):
        w.grad = torch.from_numpy(x / 0.1) * w.detach()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    found = mean_squares(step_coefficients(s, order, derivative), x, 30, every=every)
    np.testing.assert_allclose(found, np.square(path), rtol=1e-10, atol=1e-16)


@every_case
@pytest.mark.parametrize("adopted", [True, False])
def test_moments_with_noise_are_those_of_many_paths(s, order, derivative, every, adopted):
    c, x, q, lanes = step_coefficients(s, order, derivative), 0.3, 0.2, 20_000
    every = every if adopted else None
    noise = np.random.default_rng(0).standard_normal((24, lanes)) * np.sqrt(q)
    drawn = recursion(c, x, noise, every)
    found = mean_squares(c, x, 24, q=q, every=every)
    error = (drawn**2).std(1) / np.sqrt(lanes) + 1e-12
    assert np.abs((drawn**2).mean(1) - found).max() < 5 * error.max()
    assert (np.abs((drawn**2).mean(1) - found) < 5 * error).all()


@every_case
def test_moments_settle_at_the_stationary_variance_of_their_place_in_the_cycle(
    s, order, derivative, every
):
    c, x, steps = step_coefficients(s, order, derivative), 0.3, 480
    settled = mean_squares(c, x, steps, start=3.0, q=0.7, every=every)
    np.testing.assert_allclose(
        stationary_variance(c, x, every) * 0.7, settled[steps - every + 1 :], rtol=1e-10
    )
    assert settled[0] == 9.0
    shown = mean_squares(c, x, steps, q=0.7, every=None)
    np.testing.assert_allclose(stationary_variance(c, x, None) * 0.7, shown[-1:], rtol=1e-10)


def test_gradient_descent_and_its_larger_rate_are_special_cases():
    x = 0.3
    for s in (0.0, 0.4):
        own = (1 + s) * x
        assert largest_stable((s,)) == pytest.approx(2 / (1 + s), abs=1e-11)
        assert spectral_radius((s,), x) == pytest.approx(abs(1 - own))
        np.testing.assert_allclose(
            stationary_variance((s,), x), (1 + s) ** 2 / (own * (2 - own)), rtol=1e-12
        )
    np.testing.assert_allclose(stationary_variance((0.0,), x, None), 1 / (x * (2 - x)), rtol=1e-12)


@every_case
def test_paths_die_out_below_the_largest_stable_rate_and_grow_above(s, order, derivative, every):
    c = step_coefficients(s, order, derivative)
    edge = largest_stable(c, every)
    for x, dies in ((0.97 * edge, True), (1.03 * edge, False)):
        path = np.abs(recursion(c, x, np.zeros((1200, 1)), every)[:, 0])
        assert bool(path[-60:].max() < 1e-3) is dies
        assert bool(np.isfinite(stationary_variance(c, x, every)).all()) is dies


@every_case
def test_the_radius_is_the_rate_at_which_a_path_dies_out(s, order, derivative, every):
    c, x = step_coefficients(s, order, derivative), np.array([0.05, 0.1])
    for one, radius in zip(x, spectral_radius(c, x, every), strict=True):
        path = recursion(c, one, np.zeros((240, 1)), every)[:, 0]
        assert (path[-1] / path[-1 - 20 * every]) ** (1 / (20 * every)) == pytest.approx(
            radius, rel=1e-9
        )


def test_an_edge_at_the_end_of_the_search_is_the_end():
    """Coefficients that undo the step are stable everywhere."""
    assert largest_stable((-0.9,)) == 4.0 and largest_stable((-1.0,)) == 4.0


def test_the_gain_of_noise_is_what_noise_alone_gains():
    assert noise_gain(step_coefficients(1.0, 3)) == pytest.approx(19) and noise_gain((0.5,)) == 0.25
    c = step_coefficients(0.7, 3)
    steps = mean_squares(
        c, 0.0, 3, start=0.0, q=1.0
    )  # three steps of noise, the newest of them 1 + c_0 fold, ...
    assert steps[3] == pytest.approx(3 + 2 * 0.7 + noise_gain(c))


def test_noise_decides_how_far_to_extrapolate():
    """After 60 steps on a spectrum: far without noise, less with some, nowhere with much; every s
    at its exact risk.
    """
    a, s = np.geomspace(0.01, 0.5, 20), np.linspace(0, 0.8, 33)
    best = []
    for q in (0.0, 3e-4, 1e-2):
        risk = [(a * mean_squares(step_coefficients(one, 3), a, 60, q=q)[-1]).sum() for one in s]
        best.append(s[int(np.argmin(risk))])
    assert best[0] > best[1] > best[2] == 0


@pytest.mark.parametrize("x, beta", [(0.3, 0.5), (1.5, 0.9), (0.05, 0.0)])
def test_heavy_balls_variance_is_that_of_its_paths(x, beta):
    rng = np.random.default_rng(1)
    lanes, steps = 20_000, 150
    path = heavy_ball(
        rng.standard_normal((steps, lanes)),
        np.ones(steps),
        beta,
        np.zeros(lanes),
        np.zeros(lanes),
        curvature=x,
    )
    expected = float(heavy_ball_variance(x, beta))
    assert path[-1].var() == pytest.approx(expected, rel=5 * np.sqrt(2 / lanes))
    assert np.isinf(heavy_ball_variance(2 * (1 + beta) + 1e-9, beta))


@pytest.mark.parametrize("call", [lambda c, **how: spectral_radius(c, 0.1, **how), largest_stable,
                                  lambda c, **how: stationary_variance(c, 0.1, **how),
                                  lambda c, **how: mean_squares(c, 0.1, 3, **how)])  # fmt: skip
def test_what_is_no_extrapolation_is_refused(call):
    for c in ((), (np.nan,), 0.5):
        with pytest.raises(
            ValueError, match="coefficients must be at least one finite number, got"
        ):
            call(c)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        call((0.1,), every=0)


def test_a_momentum_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\), got 1.0"):
        heavy_ball_variance(0.1, 1.0)
