"""A cycle as a matrix is the optimizer; edges and the best alpha are those that a search finds."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import SGD, Lookahead
from replicate.problems import (
    cycle_rate,
    find_alpha,
    game_matrix,
    heavy_ball_matrix,
    largest_stable_rate,
)


def run(optimizer, theta, gradient, steps) -> np.ndarray:
    path = [theta.detach().numpy().copy()]
    for _ in range(steps):
        theta.grad = gradient(theta.detach())
        optimizer.step()
        path.append(theta.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize(
    "alpha, k, beta", [(0.5, 5, 0.9), (0.8, 3, 0.5), (1.0, 1, 0.9), (0.5, 20, 0.99)]
)
def test_a_path_dies_out_at_the_rate_of_the_cycle(alpha, k, beta):
    x = np.array([0.02, 0.5])
    theta = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = Lookahead(SGD([theta], lr=1.0, momentum=beta), k, alpha)
    cycles = 400 // k
    path = run(optimizer, theta, lambda w: torch.from_numpy(x) * w, 2 * cycles * k)
    rates = cycle_rate(heavy_ball_matrix(x, beta), alpha, k, slow=1)
    # The largest of several cycles, because the weights swing.
    early, late = (
        np.abs(path[end * k - 10 * k : end * k + 1 : k]).max(0) for end in (cycles, 2 * cycles)
    )
    seen = (late / early) ** (1 / (cycles * k))
    np.testing.assert_allclose(seen, rates, rtol=0.01)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 10, 11])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8, 1.0])
def test_the_optimizer_grows_above_the_largest_stable_rate_alone(alpha, k):
    edge = largest_stable_rate(alpha, k)
    x = edge * np.array([0.98, 1.02])
    theta = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = Lookahead(SGD([theta], lr=1.0), k, alpha)
    path = np.abs(run(optimizer, theta, lambda w: torch.from_numpy(x) * w, 300 * k)[::k])
    assert (path[-1] < path[0]).tolist() == [True, False]


def test_the_best_alpha_is_the_one_of_a_search():
    rng = np.random.default_rng(0)
    a, start, minimum = rng.uniform(0.1, 1, 6), rng.standard_normal(6), rng.standard_normal(6)
    end = minimum + (start - minimum) * (1 - 0.7 * a) ** 4
    grid = np.linspace(0, 2, 200_001)
    points = start + grid[:, None] * (end - start) - minimum
    searched = grid[np.argmin((a * points**2).sum(1))]
    assert find_alpha(a, start, end, minimum) == pytest.approx(searched, abs=1e-5)
    assert find_alpha(a, start, end) != pytest.approx(searched, abs=1e-3)


def test_a_game_spirals_out_and_under_lookahead_in():
    alone, ahead = [], []
    for k, paths in ((None, alone), (5, ahead)):
        theta = nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = SGD([theta], lr=0.3)
        optimizer = Lookahead(optimizer, k, 0.5) if k else optimizer
        paths.append(run(optimizer, theta, lambda w: torch.stack([w[1], -w[0]]), 100))
    sizes = [np.linalg.norm(path[0][-1]) / np.sqrt(2) for path in (alone, ahead)]
    assert sizes[0] > 1 > sizes[1]
    assert sizes[0] == pytest.approx(cycle_rate(game_matrix(0.3), 1.0, 1) ** 100, rel=1e-9)
    assert sizes[1] == pytest.approx(cycle_rate(game_matrix(0.3), 0.5, 5) ** 100, rel=1e-9)
