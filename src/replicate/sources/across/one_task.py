"""All methods on one task after as many trials each: where they are when equal gradients, forward
passes or modelled seconds are spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.sources import images as kit
from replicate.sources.across import _contenders, _prices
from replicate.sources.across._data import Data
from replicate.sources.across._prices import PriceList
from replicate.sources.across._racing import BY_SECONDS, RACE_AXES, Race
from replicate.sources.across._task import Task
from replicate.sources.protocol import Evidence, experiment

TRIAL_MOVES = {"tuned": 0, "tuned lower": -1, "tuned higher": 1}  # from a chosen trial
TRIAL_CHOSEN_BY = "valid_loss"
TRIAL_COLUMNS = ["arm", "axis", "pace"]


def operations(task: Task) -> float:
    """Of every gradient of every run, and of a walk's checks as if it took all it may. No
    evaluation.
    """
    forward, gradient = kit.operations_per_image(task, task.dataset)
    contenders = _contenders.list_contenders(task).values()
    walks = sum(contender.walks for contender in contenders)
    per_step = len(contenders) * gradient + walks * task.checks * forward
    return per_step * len(task.paces) * len(task.seeds) * task.steps * task.batch


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, arm, axis and TRIAL_MOVES: with error, 1 - top1, and `at_edge`.

    A seed's trial is the one at which the other seeds have the lowest mean loss on held-out images
    at the end of the axis's budget; one at which any of them was lost is out.
    """
    rows = pd.DataFrame(list(_choose(table)), columns=["seed", *TRIAL_COLUMNS, "rate", "at_edge"])
    chosen = rows.merge(table, on=["seed", *TRIAL_COLUMNS])
    return chosen.assign(error=1 - chosen.top1, log2_pace=np.log2(chosen.pace))


@experiment(
    fields={"arm": _contenders.list_arms, "axis": RACE_AXES, "rate": tuple(TRIAL_MOVES)},
    metrics=("test_loss", "train_loss", "error", "log2_pace", "gradients", "checks", "seconds",
             "seconds again", "newton_steps"),
    datasets=("digits", "cifar10"),
    needs_data=True,
    clocked={"axis": BY_SECONDS, "seconds": None, "seconds again": None},
    operations=operations,
    derive=derive,
    night={"cifar10": Evidence(61, "all methods side by side on one task, after equal trials")},
)  # fmt: skip
def one_task(settings: Task) -> pd.DataFrame:
    """The ends of every trial of every method.

    Columns: seed, method, arm (the method, or a mean of its iterates), pace (the rate of SGD that
    goes as far), lr, axis (the budget that is spent), gradients, checks (a gradient), seconds and
    seconds again (modelled, by prices that were timed in turn), newton_steps (of Newton's method that
    the budget of gradients pays for), train_loss, valid_loss, test_loss
    (nats, without the task's noise), valid_top1, top1 (fractions).
    """
    prices = runs.each(_prices.list_prices, settings, [{"seed": seed} for seed in settings.seeds])
    grid = [
        {"seed": seed, "method": method}
        for seed in settings.seeds
        for method in _contenders.list_contenders(settings)
    ]
    return runs.each(run_trials, settings, grid, after=prices).table


def run_trials(
    settings: Task, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every trial of one method on one seed."""
    (table,) = runs.tables_in(parents)
    prices = PriceList.read(settings, table)
    data = Data.load(settings, device)
    seed, method = point["seed"], point["method"]
    rates = _contenders.list_rates(settings, _contenders.list_contenders(settings)[method])
    rows = [
        {"pace": pace, "lr": lr} | row
        for pace, lr in zip(settings.paces, map(float, rates), strict=True)
        for row in Race(settings, data, seed, prices, method, lr, device).run()
    ]
    return pd.DataFrame(rows)


def _choose(table: pd.DataFrame) -> Iterator[tuple]:
    """(seed, arm, axis, pace, rate, at_edge) of each seed's trial and its neighbours on the grid."""
    for (arm, axis), trials in table.groupby(["arm", "axis"], sort=False):
        losses = trials.pivot(index="seed", columns="pace", values=TRIAL_CHOSEN_BY).sort_index(
            axis=1
        )
        paces = list(losses.columns)
        for seed in losses.index:
            means = losses.drop(index=seed).mean(axis=0, skipna=False).to_numpy()
            if not np.isfinite(means).any():
                continue
            place = int(np.nanargmin(means))
            at_edge = int(place in (0, len(paces) - 1))
            for rate, step in TRIAL_MOVES.items():
                if 0 <= place + step < len(paces):
                    yield seed, arm, axis, paces[place + step], rate, at_edge
