"""Exact second moments are those of the optimizers themselves, of drawn paths, and of closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import SGD, Lookahead
from replicate.problems import (
    lookahead_mean_square,
    lookahead_variance,
    match_rate,
    mean_variance,
    second_moments,
    sgd_variance,
    slow_factor,
)

A = np.array([2.0, 0.3, 0.05])
CASES = [  # momentum, alpha, k, inner state
    (0.0, 1.0, None, "maintain"),
    (0.0, 0.5, 5, "maintain"),
    (0.9, 0.5, 5, "maintain"),
    (0.9, 0.8, 3, "reset"),
    (0.9, 0.8, 3, "interpolate"),
]
every_case = pytest.mark.parametrize("momentum, alpha, k, inner_state", CASES)


def run_optimizer(noise, rates, momentum, alpha, k, inner_state, weights):
    """theta, phi and mean after every step, (steps + 1, lanes, 3); noise: (steps, lanes, 3)."""
    theta = nn.Parameter(torch.ones(noise.shape[1:], dtype=torch.float64))
    optimizer = SGD([theta], lr=1.0, momentum=momentum)
    if k:
        optimizer = Lookahead(optimizer, k, alpha, inner_state)
    slow = [theta.detach().numpy().copy()]
    mean = [slow[0]]
    fast = [slow[0]]
    for t, n in enumerate(noise):
        optimizer.param_groups[0]["lr"] = rates[t]
        theta.grad = torch.from_numpy(A * fast[-1] + n)
        optimizer.step()
        fast.append(theta.detach().numpy().copy())
        slow.append(optimizer.state[theta]["slow"].numpy().copy() if k else slow[0])
        mean.append((1 - weights[t]) * mean[-1] + weights[t] * fast[-1])
    return np.array(fast), np.array(slow), np.array(mean)


@every_case
def test_without_noise_they_are_the_squares_of_the_optimizers_path(momentum, alpha, k, inner_state):
    rates = np.linspace(0.3, 0.05, 20)
    weights = 1 / np.arange(1, 21)
    paths = run_optimizer(np.zeros((20, 1, 3)), rates, momentum, alpha, k, inner_state, weights)
    found = second_moments(A, 0.0, rates, momentum, alpha, k, weights, inner_state)
    for name, path in zip(("theta", "phi", "mean"), paths, strict=True):
        if name in found:
            np.testing.assert_allclose(found[name], path[:, 0] ** 2, rtol=1e-10, atol=1e-20)
    assert ("phi" in found) == bool(k)


@every_case
def test_with_noise_they_are_those_of_drawn_paths(momentum, alpha, k, inner_state):
    rates, weights, lanes = np.linspace(0.3, 0.05, 15), np.full(15, 0.2), 20_000
    noise = np.random.default_rng(0).standard_normal((15, lanes, 3)) * np.sqrt(0.5) * A
    paths = run_optimizer(noise, rates, momentum, alpha, k, inner_state, weights)
    found = second_moments(A, 0.5 * A**2, rates, momentum, alpha, k, weights, inner_state)
    for name, path in zip(("theta", "phi", "mean"), paths, strict=True):
        if name in found:
            error = (path**2).std(1) / np.sqrt(lanes) + 1e-12
            assert (np.abs((path**2).mean(1) - found[name]) < 5 * error).all(), name


@pytest.mark.parametrize("alpha, k", [(0.5, 5), (0.8, 1), (1.0, 4), (0.3, 10)])
@pytest.mark.parametrize("x", [0.1, 0.9, 1.7])
def test_closed_forms_are_what_is_followed(alpha, k, x):
    cycles = 4000 // k
    q = 0.49
    # theta^2 / 2 with noise q of a gradient and rate x: noise x^2 q of a step.
    paths = second_moments(1.0, q, np.full(cycles * k, x), alpha=alpha, k=k, start=0.7)
    for at in (0, 1, 2, 7):
        closed = lookahead_mean_square(x, alpha, k, at, x**2 * q, 0.7)
        assert closed == pytest.approx(paths["phi"][at * k], rel=1e-10)
    assert lookahead_variance(x, alpha, k, x**2 * q) == pytest.approx(paths["phi"][-1], rel=1e-10)
    ratio = alpha**2 * (1 - (1 - x) ** (2 * k))
    ratio /= ratio + 2 * alpha * (1 - alpha) * (1 - (1 - x) ** k)  # as equation (7) has it
    seven = ratio * x**2 * q / (1 - (1 - x) ** 2)
    assert lookahead_variance(x, alpha, k, x**2 * q) == pytest.approx(seven, rel=1e-12)


def test_sgd_and_its_running_mean_settle_where_the_formulas_say():
    x, beta = 0.3, 0.8
    paths = second_moments(1.0, 1.0, np.full(600, x), weights=np.full(600, 1 - beta), start=2.0)
    assert sgd_variance(x, x**2) == pytest.approx(paths["theta"][-1], rel=1e-12)
    assert mean_variance(x, beta, x**2) == pytest.approx(paths["mean"][-1], rel=1e-12)


def test_what_does_not_settle_is_infinite_and_what_is_no_number_stays_none():
    assert np.isinf(sgd_variance(2.0)) and np.isinf(lookahead_variance(2.3, 0.5, 5))
    assert np.isfinite(lookahead_variance(2.2, 0.5, 5))
    assert np.isnan(sgd_variance(np.nan))
    assert np.isnan(match_rate(1.9, 0.9, 5))


def test_the_matched_rate_contracts_as_lookahead_does():
    x = np.array([0.01, 0.5, 1.2])
    matched = match_rate(x, 0.5, 5)
    np.testing.assert_allclose((1 - matched) ** 5, slow_factor(x, 0.5, 5), rtol=1e-12)
    np.testing.assert_allclose(match_rate(x, 0.3, 1), 0.3 * x, rtol=1e-12)


def test_lanes_are_rates_by_curvatures_by_whatever_else():
    rates = np.ones((7, 1, 1)) * np.array([0.1, 0.2])[:, None]
    found = second_moments(A, A**2, rates, alpha=0.5, k=2)
    alone = second_moments(A[1], A[1] ** 2, np.full(7, 0.2), alpha=0.5, k=2)
    np.testing.assert_allclose(found["phi"][:, 1, 1], alone["phi"], rtol=1e-14)


@pytest.mark.parametrize(
    "given, line",
    [
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"inner_state": "forget"}, "inner_state must be one of maintain, reset, interpolate"),
        ({"weights": [0.1]}, "weights must have one entry a step, got 1 for 3 steps"),
    ],
)
def test_what_cannot_be_followed_is_refused(given, line):
    with pytest.raises(ValueError, match=line):
        second_moments(A, 0.0, np.ones(3), **given)
