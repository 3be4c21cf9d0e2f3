"""What the post asks its readers for: walks, vaults, SGD and Adam on mini-batches of images, all tuned
alike, by gradients, forward passes and seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.sources import images as kit
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.warmerdam2020descent import _spending
from replicate.sources.warmerdam2020descent._images import TUNING_SEEDS, ImageTask
from replicate.sources.warmerdam2020descent._spending import BUDGET_AXES, BY_NAME, SAME_AGAIN

CHOSEN_BY = {"tuned": "train_loss", "validated": "valid_loss"}
GRID_STEPS = {"": 0, " lower": -1, " higher": 1}  # steps of the grid from a chosen rate
CHOICES = tuple(f"{kind}{move}" for kind in CHOSEN_BY for move in GRID_STEPS)
OF_A_RUN = ["arm", "lr", "axis"]


def operations(settings: ImageTask) -> float:
    """Of the gradients and checks of every run, as if each ended with its forward-equivalents. No
    evaluation.
    """
    tuning = len(settings.arms) * len(settings.grid)
    judged = (len(settings.arms) + 1) * (4 if settings.neighbours else 2)
    images = (tuning + judged) * len(settings.seeds) * settings.steps * settings.batch
    return images * kit.operations_per_image(settings, settings.dataset)[1]


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run, rate and axis: where it is when the budget is spent, and the mean of its log
    loss on the way.
    """
    log_loss = np.log10(table.train_loss)
    names = ["arm", "rate", "axis", "seed"]
    means = log_loss.groupby([table[name] for name in names]).mean()
    ends = table[table.share == 1.0].set_index(names)
    gradients = ends["gradients"]
    return ends.assign(
        log_loss=np.log10(ends.train_loss),
        mean_log_loss=means,
        log_test_loss=np.log10(ends.test_loss),
        error=1 - ends.top1,
        checks=ends["forward-equivalents"] / gradients - _spending.OF_A_GRADIENT,
        log_rate=np.log10(ends.lr),
    ).reset_index()


@experiment(
    fields={
        "arm": lambda settings: (*settings.arms, SAME_AGAIN),
        "rate": CHOICES,
        "axis": BUDGET_AXES,
    },
    metrics=(
        "log_loss",
        "mean_log_loss",
        "log_test_loss",
        "error",
        "checks",
        "log_rate",
        "seconds",
    ),
    datasets=("digits", "cifar10"),
    needs_data=True,
    clocked={"axis": "seconds", "seconds": None},
    operations=operations,
    derive=derive,
    night={"cifar10": Evidence(60, "the post's own wish: does it work on your data set")},
    whole=True,
)
def your_dataset(settings: ImageTask) -> pd.DataFrame:
    """Losses and accuracies at shares of three budgets, every arm at rates of its own.

    Columns: seed, arm, rate (one of CHOICES: chosen by training or by held-out loss at the end of the
    axis's budget, on a seed that is not judged; with " lower" or " higher" its neighbour), lr,
    at_edge (1 where the chosen rate is the first or last of the grid), and what
    `_spending.advance_in_turn` gives. A rate at which the tuning run is lost is out; an arm without
    any other has no rows.
    """
    tuning = runs.each(tune, settings, [{"seed": seed} for seed in settings.seeds])
    grid = [{"seed": seed} for seed in settings.seeds]
    return runs.each(run_arms, settings, grid, after=tuning).table


def tune(
    settings: ImageTask, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every arm at each of its rates on the tuning seed of a seed: the ends of its budgets."""
    plan = [(arm, lr) for arm in settings.arms for lr in list_rates(settings, arm)]
    seed = TUNING_SEEDS + point["seed"]
    return _spending.advance_in_turn(settings, plan, seed, 1, device, test=False)


def run_arms(
    settings: ImageTask, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every arm of one seed at the rates that its tuning runs choose."""
    (table,) = runs.tables_in(parents)
    chosen = choose_rates(table)
    if not settings.neighbours:
        chosen = chosen[chosen.rate.isin(CHOSEN_BY)]
    plan = list(dict.fromkeys(zip(chosen.arm, chosen.lr, strict=True)))
    seed, count = point["seed"], settings.shares
    rows = _spending.advance_in_turn(settings, plan, seed, count, device, test=True)
    return chosen.merge(rows, on=OF_A_RUN)


def list_rates(settings: ImageTask, arm: str) -> list[float]:
    """The rates of an arm, as many for each."""
    return [float(f"{lr * BY_NAME[arm].factor:.6g}") for lr in settings.grid]


def choose_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The rate of each arm at which its tuning run ends lowest, and its neighbours: columns arm,
    axis, rate, lr, at_edge. SGD's are those of the same work again, too.

    table: arm, lr, axis, train_loss and valid_loss of the tuning runs; NaN where one was lost. A
    neighbour beyond the grid has no row.
    """
    rows = []
    for (arm, axis), of_arm in table.groupby(["arm", "axis"], sort=False):
        by_rate = of_arm.sort_values("lr").reset_index(drop=True)
        for kind, metric in CHOSEN_BY.items():
            losses = by_rate[metric]
            if losses.isna().all():
                continue
            best = int(losses.idxmin())
            at_edge = int(best in (0, len(by_rate) - 1))
            rows += [
                (name, axis, kind + move, by_rate.lr[best + step], at_edge)
                for name in ((arm, SAME_AGAIN) if arm == "SGD" else (arm,))
                for move, step in GRID_STEPS.items()
                if 0 <= best + step < len(by_rate)
            ]
    return pd.DataFrame(rows, columns=["arm", "axis", "rate", "lr", "at_edge"])
