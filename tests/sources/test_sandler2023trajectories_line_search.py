"""Section 1: a line search that minds an unseen batch, on quadratics where rates are known, and on a
network against a search written out.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from replicate import claims
from replicate.app import registry
from replicate.sources.sandler2023trajectories import _branches, line_search
from replicate.sources.sandler2023trajectories.presets import PRESETS

CURVATURES = torch.tensor([0.3, 0.1, 0.02])
SOURCE = registry.source("sandler2023trajectories")


START = torch.tensor([1.0, -2.0, 3.0])
GRID = 2.0 ** np.arange(-6, 10.5, 0.5)


class Function:
    """A loss of weights (3,) that torch can derive, at one step."""

    def __init__(self, loss, step):
        self._loss, self._step = loss, step

    def loss(self, weights) -> float:
        return float(self._loss(weights, self._step))

    def gradient(self, weights):
        asked = weights.clone().requires_grad_()
        return torch.autograd.grad(self._loss(asked, self._step), asked)[0]


def descent(loss, steps: int = 60) -> line_search.Descent:
    """Descent on loss(weights, step)."""
    return line_search.Descent(lambda step: Function(loss, step), START, GRID, steps)


def quadratic(weights, step):
    return 0.5 * (CURVATURES * weights**2).sum()


def test_the_largest_rate_is_the_last_of_the_grid_below_two_over_the_largest_curvature():
    # 2 / 0.3 = 6.67: of the grid .., 4, 5.66, 8, .. the last below is 2^2.5.
    assert descent(quadratic).find_largest() == pytest.approx(2**2.5)
    assert 2**2.5 < 2 / CURVATURES.max() < 2**3


def test_a_rate_that_leaves_the_loss_of_a_guess_counts_as_diverged():
    """Where the weights become large the loss is flat, just below the first one, as that of a network of
    which nothing is left.
    """

    def cliff(weights, step):
        return torch.where(
            weights.abs().max() > 3.01, 0.99 * quadratic(START, 0), quadratic(weights, step)
        )

    steep = descent(lambda weights, step: cliff(8 * weights, step))
    assert np.isnan(steep.find_largest())  # every step is beyond the cliff
    assert descent(cliff).find_largest() < 2**3


@pytest.mark.parametrize("weights", [(1.0, -2.0, 3.0), (0.5, 0.0, 2.0)])
def test_without_a_penalty_the_search_is_the_exact_one_of_a_quadratic(weights):
    point = torch.tensor(weights)
    g = CURVATURES * point
    best = float((g @ g) / (g @ (CURVATURES * g)))
    # The loss is a parabola in the rate: the nearest of the grid is the best.
    assert descent(quadratic).search(0, point, 0.0) == GRID[np.abs(GRID - best).argmin()]


@pytest.mark.parametrize(("weight", "expected"), [(0.25, 16.0), (1.0, 4.0), (4.0, 1.0)])
def test_the_penalty_holds_the_step_where_the_own_batch_gains_what_the_next_one_loses(
    weight, expected
):
    """Own batch: -w_1, slope 1 without an end; next one: w_1^2 / 8, its least at the start.

    d/d eta [-eta + weight eta^2 / 8] = 0 at eta = 4 / weight.
    """

    def losses(weights, step):
        moved = weights[0] - 1
        return -moved if step == 0 else moved**2 / 8

    assert descent(losses).search(0, START, weight) == pytest.approx(expected)
    assert descent(losses).search(0, START, 0.0) == GRID[-1]


def test_a_fall_of_the_next_batch_is_not_rewarded():
    """Both fall: the own batch until 2, the next one for ever."""

    def losses(weights, step):
        moved = weights[0] - 1
        return (moved - 2) ** 2 if step == 0 else -100 * moved

    assert descent(losses).search(0, START, 1.0) == 0.5  # times the gradient's 4 it is 2


NET = replace(PRESETS["smoke"]["digits"], width=8, seeds=(3,), first_branch=6)


def test_a_run_is_a_search_written_out():
    made = line_search.search_rates(NET, {"seed": 3}, None, [], "cpu").set_index("arm").log2_rate
    main = _branches.Main.load(NET, 3, "cpu")

    def loss_of(weights, step):
        images, labels = main.data.batch(3, 0, step)
        return functional.cross_entropy(functional_call(model, weights, (images,)), labels)

    for arm, minds in (("penalised", True), ("no penalty", False)):
        model = main.state().model
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        chosen = []
        for step in range(6):
            asked = {name: w.requires_grad_() for name, w in weights.items()}
            gradients = torch.autograd.grad(loss_of(asked, step), list(asked.values()))
            weights = {name: w.detach() for name, w in asked.items()}
            trials = []
            for power in np.arange(-6, 10.5, 0.5):
                rate = NET.lr * 2.0**power
                moved = {
                    name: w - rate * g
                    for (name, w), g in zip(weights.items(), gradients, strict=True)
                }
                rise = float(loss_of(moved, step + 1) - loss_of(weights, step + 1))
                trials.append(
                    (float(loss_of(moved, step)) + (max(rise, 0) if minds else 0), power, moved)
                )
            _, power, weights = min(trials, key=lambda trial: trial[0])
            chosen.append(power)
        assert made[arm] == pytest.approx(np.mean(chosen[3:]))
    assert made["penalised"] < made["no penalty"]


def test_a_search_whose_loss_is_lost_has_no_rate():
    task = descent(lambda weights, step: (weights**2).sum() * (float("nan") if step == 4 else 1))
    rates, losses = task.walk(lambda step, weights: task.search(step, weights, 0.0))
    assert (
        np.isfinite(losses[:4]).all() and np.isnan(losses[4:]).all() and np.isnan(rates[4:]).all()
    )


@pytest.mark.parametrize(("shift", "word"), [(0.0, "reproduced"), (-0.5, "reproduced"), (-2.0, "contradicted"), (2.0, "contradicted")])  # fmt: skip
def test_the_claim_holds_within_a_factor_of_two(shift, word):
    noise = np.random.Generator(np.random.Philox(0)).normal(0, 0.1, 8)
    rows = [{"seed": seed, "arm": arm, "log2_rate": rate + noise[seed] * (arm == "penalised")}
            for seed in range(8)
            for arm, rate in (("penalised", 5 + shift), ("no penalty", 9.0), ("largest constant", 5.0))]  # fmt: skip
    table = pd.DataFrame(rows).assign(
        dataset="digits", commit="", device="", setting="the source's"
    )
    tables = lambda each: table if each.name == "line_search" else pd.DataFrame()  # noqa: E731
    listed = registry.claims_of(SOURCE)
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    judged = claims.judge(SOURCE.name, listed, claims.measure(listed, decide), "cpu")
    (row,) = judged[(judged.claim == "TRAJ-50") & (judged.role == "primary")].to_dict("records")
    assert row["value"] == pytest.approx(shift + noise.mean()) and row["verdict"] == word
