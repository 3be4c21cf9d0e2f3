"""Section 1: the rates that a line search chooses which minds an unseen batch.

eta_t = argmin_eta  L_b(theta_t - eta g_b) + w [L_u(theta_t - eta g_b) - L_u(theta_t)]_+

g_b: gradient of the step's own mini-batch b (`own`); u: the next step's, which is unseen; w: weight of
the penalty, 1 (`penalised`) or 0 (`no penalty`). Beside it the largest constant rate at which the same
steps do not diverge.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import training
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

PENALTIES = {"penalised": 1.0, "no penalty": 0.0}  # ours; a rise counts as a fall does
CONSTANT = "largest constant"
# Ours: rates that are tried, over the main run's: from far below to where one step ruins a network.
OVER_MAIN_RATE = 2.0 ** np.arange(-6, 10.5, 0.5)
FALL = 0.1  # ours; a network of which large steps leave nothing stays at the loss of a guess
SEARCH_STEPS = 400  # ours; of which the second half is looked at, when the first fall is over


def length(settings: Settings) -> int:
    """Steps of a run."""
    return min(SEARCH_STEPS, settings.first_branch)


def operations(settings: Settings) -> float:
    """Multiplications and additions of the searches and of a run a constant rate."""
    tried = len(PENALTIES) * 2 * (len(OVER_MAIN_RATE) + 1) / 3  # a look is a third of a gradient
    steps = length(settings) * (tried + len(PENALTIES) + len(OVER_MAIN_RATE))
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


@experiment(
    fields={"arm": (*PENALTIES, CONSTANT)},
    metrics=("log2_rate",),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(30, "section 1: what an adaptive rate that minds unseen batches is")},
)  # fmt: skip
def line_search(settings: Settings) -> pd.DataFrame:
    """Rates of plain SGD from a seed's first weights: columns seed, arm, log2_rate (of the main run's
    rate; of a search the mean over the second half of the steps).

    log2_rate is NaN where a search ends at a loss that is not finite, and where every rate diverges.
    """
    return _trips.run_each(search_rates, settings).table


def search_rates(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed: a row for each search, and one for the constant rates."""
    main = _branches.Main.load(settings, point["seed"], device)
    model = main.state().model

    def see(step: int) -> training.Surface:
        return training.Surface(model, [main.data.batch(main.seed, MAIN, step)])

    task = Descent(
        see, training.flat_weights(model), settings.lr * OVER_MAIN_RATE, length(settings)
    )
    rows = []
    for arm, weight in PENALTIES.items():
        chosen, losses = task.walk(lambda step, at, weight=weight: task.search(step, at, weight))
        settled = np.log2(chosen[len(chosen) // 2 :] / settings.lr)
        rate = settled.mean() if np.isfinite(losses).all() else np.nan
        rows.append({"arm": arm, "log2_rate": float(rate)})
    rows.append({"arm": CONSTANT, "log2_rate": np.log2(task.find_largest() / settings.lr)})
    return pd.DataFrame(rows)


class Descent:
    """Plain SGD from weights (d,), on a function of its own at every step.

    see: step -> `training.Surface`, or what has its `loss` and `gradient`; rates: those that are tried.
    """

    def __init__(self, see: Callable, start, rates: np.ndarray, steps: int):
        self.see, self.start, self.rates, self.steps = see, start, rates, steps

    def walk(self, choose: Callable) -> tuple[np.ndarray, np.ndarray]:
        """(rates, losses of the mini-batches before their steps), (steps,) each, NaN from where a loss
        is not finite. choose(step, weights): the rate.
        """
        rates, losses = np.full((2, self.steps), np.nan)
        weights = self.start
        for step in range(self.steps):
            losses[step] = self.see(step).loss(weights)
            if not np.isfinite(losses[step]):
                break
            rates[step] = choose(step, weights)
            weights = weights - rates[step] * self.see(step).gradient(weights)
        return rates, losses

    def search(self, step: int, weights, penalty: float) -> float:
        """The rate with the least sum of the own batch's loss and the weighted rise of the next one's."""
        batch, unseen = self.see(step), self.see(step + 1)
        gradient, before = batch.gradient(weights), unseen.loss(weights)
        sums = []
        for rate in self.rates:
            ahead = weights - rate * gradient
            rise = max(0.0, unseen.loss(ahead) - before) if penalty else 0.0
            sums.append(batch.loss(ahead) + penalty * rise)
        return float(self.rates[np.argmin(np.where(np.isfinite(sums), sums, np.inf))])

    def find_largest(self) -> float:
        """The largest rate at which training does not diverge: over the last tenth of the steps the
        loss is FALL or more below that of the first weights on the same mini-batches. NaN if there
        is none.
        """
        last = slice(-max(1, self.steps // 10), None)
        _, still = self.walk(lambda step, weights: 0.0)
        least = (1 - FALL) * still[last].mean()
        for rate in self.rates[::-1]:
            _, losses = self.walk(lambda step, weights, rate=rate: rate)
            if losses[last].mean() <= least:
                return float(rate)
        return np.nan
