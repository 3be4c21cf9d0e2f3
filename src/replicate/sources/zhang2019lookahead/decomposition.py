"""What Lookahead adds: beside SGD at its own and at other rates, and beside means that are only
looked at, on the same mini-batches and after as many trials.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import runs
from replicate.sources.protocol import experiment
from replicate.sources.zhang2019lookahead import _networks
from replicate.sources.zhang2019lookahead.settings import Settings

OWN_RATE = ("sgd", "sgd-ema", "tail", "lookahead", "lookahead-ema")  # arms with a rate of their own
# SGD at a rate that Lookahead's own says: the same inner rate, and alpha times it.
DERIVED = {"sgd-same": False, "sgd-alpha": True}
DECAYS = {
    "tuned lower": -1,
    "tuned": 0,
    "tuned higher": 1,
}  # steps of the grid from the tuned rate


def rates(settings: Settings) -> dict[str, list[float]]:
    """Method -> rates that are run: the grid, and for SGD alpha times each of it."""
    lower = [times_alpha(settings.alpha, rate) for rate in settings.rates]
    return {"lookahead": list(settings.rates), "sgd": sorted({*settings.rates, *lower})}


def times_alpha(alpha: float, rate: float) -> float:
    """alpha times a rate, without the last digits in which two ways to it differ."""
    return float(f"{alpha * rate:.9g}")


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, schedule, arm and regime, with `lr` and `at_edge`.

    A seed's rate is the one with the lowest mean validation loss of the other seeds; a rate at
    which any of them was lost is out. at_edge: 1 where it is the first or the last of the grid.
    """
    return pd.DataFrame([row for _, part in table.groupby("schedule") for row in _choose(part)])


@experiment(
    fields={
        "schedule": lambda settings: settings.schedules,
        "arm": (*OWN_RATE, *DERIVED),
        "regime": tuple(DECAYS),
    },
    metrics=_networks.ALL_METRICS,
    datasets=_networks.ENTRIES_OF_IMAGES,
    needs_data=True,
    derive=derive,
)
def decomposition(settings: Settings) -> pd.DataFrame:
    """The ends of all runs: columns seed, schedule, method, lr, alpha, grid, arm, and the metrics.

    grid: whether a rate is one that is chosen from; early_loss: training loss at the first drop.
    """
    points = [
        {"seed": seed, "schedule": schedule, "method": method, "lr": lr}
        for seed in settings.seeds
        for schedule in settings.schedules
        for method, grid in rates(settings).items()
        for lr in grid
    ]
    table = runs.each(_networks.train_run, settings, points).table
    return table.assign(alpha=settings.alpha, grid=table.lr.isin(settings.rates))


def _choose(table: pd.DataFrame) -> Iterator[dict]:
    """The judged rows of one schedule."""
    by_arm = {arm: rows.set_index(["seed", "lr"]) for arm, rows in table.groupby("arm")}
    grid = sorted(table.lr[table.grid].unique())
    (alpha,) = table.alpha.unique()
    for seed in table.seed.unique():
        for arm in (*OWN_RATE, *DERIVED):
            of_rate = arm if arm in OWN_RATE else "lookahead"
            place = _tune(by_arm[of_rate], seed, grid)
            if place is None:
                continue
            for regime, step in DECAYS.items():
                if not 0 <= place + step < len(grid):
                    continue
                lr = grid[place + step]
                lr = times_alpha(alpha, lr) if DERIVED.get(arm) else lr
                row = by_arm[arm if arm in OWN_RATE else "sgd"].loc[(seed, lr)]
                labels = {"arm": arm, "regime": regime, "seed": seed, "lr": lr}
                edge = {"at_edge": int(place in (0, len(grid) - 1))}
                yield row.to_dict() | labels | edge


def _tune(rows: pd.DataFrame, seed: int, grid: list[float]) -> int | None:
    """The place in the grid of the rate that the other seeds choose; None if they lose at all."""
    losses = rows.valid_loss.unstack("lr")[grid].drop(index=seed)
    means = losses.mean(skipna=False)
    if not len(losses) or not np.isfinite(means).any():
        return None
    return int(np.nanargmin(means.to_numpy()))
