"""What Lookahead adds: beside SGD at its own and at other rates, beside means that are only looked
at, and beside other methods with an average or an outer step, on the same mini-batches and after as
many trials.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations, _tuning
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.settings import Settings

TAKEN_APART = ("sgd", "lookahead", "schedule-free", "outer-nesterov")  # methods
OWN_RATE = tuple(arm for method in TAKEN_APART for arm in IMAGE_METHODS[method].arms)
# SGD at a rate that Lookahead's own says: the same inner rate, and alpha times it.
DERIVED = {"sgd-same": False, "sgd-alpha": True}


def rates(settings: Settings) -> dict[str, list[float]]:
    """Method -> rates that are run: the grid, and for SGD alpha times each of it."""
    lower = [times_alpha(settings.alpha, rate) for rate in settings.rates]
    grid = dict.fromkeys(TAKEN_APART, list(settings.rates))
    return grid | {"sgd": sorted({*settings.rates, *lower})}


def times_alpha(alpha: float, rate: float) -> float:
    """alpha times a rate, without the last digits in which two ways to it differ."""
    return float(f"{alpha * rate:.9g}")


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, schedule, arm and regime, with `lr` and `at_edge`.

    A seed's rate is the one with the lowest mean validation loss of the other seeds; a rate at
    which any of them was lost is out. at_edge: 1 where it is the first or the last of the grid.
    """
    return pd.DataFrame([row for _, rows in table.groupby("schedule") for row in _choose(rows)])


def list_points(settings: Settings) -> list[dict]:
    """Every method at each of its rates, under each schedule."""
    return [
        {"seed": seed, "schedule": schedule, "method": method, "lr": lr}
        | {"weight_decay": settings.weight_decay}
        for seed in settings.seeds
        for schedule in settings.schedules
        for method, grid in rates(settings).items()
        for lr in grid
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs."""
    return _operations.count_runs(settings, list_points(settings))


@experiment(
    fields={
        "schedule": lambda settings: settings.schedules,
        "arm": (*OWN_RATE, *DERIVED),
        "regime": tuple(_tuning.GRID_MOVES),
    },
    metrics=_networks.ALL_METRICS,
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar10-arms": Evidence(55, "what Lookahead adds to SGD, ResNet-18")},
    night={"cifar10-arms": Evidence(72, "what Lookahead adds to SGD, with every control")},
)
def decomposition(settings: Settings) -> pd.DataFrame:
    """The ends of all runs: columns seed, schedule, method, lr, weight_decay, alpha, grid, arm, and
    the metrics.

    grid: whether a rate is one that is chosen from; early_loss: training loss at the first drop.
    """
    table = runs.each(_networks.train_run, settings, list_points(settings)).table
    return table.assign(alpha=settings.alpha, grid=table.lr.isin(settings.rates))


def _choose(table: pd.DataFrame) -> Iterator[dict]:
    """The judged rows of one schedule."""
    by_arm = {arm: rows.set_index(["seed", "lr"]) for arm, rows in table.groupby("arm")}
    grid = sorted(table.lr[table.grid].unique())
    (alpha,) = table.alpha.unique()
    for arm in (*OWN_RATE, *DERIVED):
        trials = table[table.arm.eq(arm if arm in OWN_RATE else "lookahead") & table.grid]
        runs_of_arm = by_arm[arm if arm in OWN_RATE else "sgd"]
        for seed, (_, chosen) in _tuning.choose_trials(trials, ("valid_loss",)).items():
            for regime, rate in _tuning.regimes(grid, chosen):
                lr = times_alpha(alpha, rate) if DERIVED.get(arm) else rate
                labels = {"arm": arm, "regime": regime, "seed": seed, "lr": lr}
                edge = {"at_edge": _tuning.is_at_edge(grid, chosen)}
                yield runs_of_arm.loc[(seed, lr)].to_dict() | labels | edge
