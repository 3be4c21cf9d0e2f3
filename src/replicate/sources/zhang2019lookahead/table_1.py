"""Table 1 and its training curves: SGD, Polyak averaging, AdamW and Lookahead, each after as many
trials on held-out training images.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations, _tuning
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.settings import Settings

TABLE_METHODS = (
    "sgd",
    "adamw",
    "lookahead",
)  # methods; "tail", the mean of SGD's tail, is Polyak's row
ROWS = tuple(arm for method in TABLE_METHODS for arm in IMAGE_METHODS[method].arms)
TRIAL_METRICS = ("valid_top1", "valid_loss")  # the table is of accuracies; ties go to the loss


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, arm and regime, with `lr`, `weight_decay` and `at_edge`.

    A seed's trial is the one at which the other seeds have the highest mean accuracy on held-out
    images. deviation: |top1 - mean over seeds| of the arm at its tuned trials.
    """
    rows = pd.DataFrame(list(_choose(table)))
    means = rows.groupby(["arm", "regime"]).top1.transform("mean")
    return rows.assign(deviation=(rows.top1 - means).abs())


def list_points(settings: Settings) -> list[dict]:
    """The trials: all rates times all weight decays of the settings for every method."""
    return [
        {"seed": seed, "schedule": "decayed", "method": method, "lr": lr}
        | {"weight_decay": weight_decay}
        for seed in settings.seeds
        for method in TABLE_METHODS
        for lr in settings.rates
        for weight_decay in settings.decays
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all trials."""
    return _operations.count_runs(settings, list_points(settings))


@experiment(
    fields={"arm": ROWS, "regime": tuple(_tuning.GRID_MOVES)},
    metrics=(*_networks.ALL_METRICS, "deviation"),
    datasets=("digits", "cifar10", "cifar100"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={
        "cifar10": Evidence(68, "Table 1 on CIFAR-10, ResNet-18"),
        "cifar100": Evidence(45, "Table 1 on CIFAR-100, ResNet-18"),
    },
    night={
        "cifar10": Evidence(70, "Table 1 on CIFAR-10: four optimizers after equal trials"),
        "cifar100": Evidence(58, "Table 1 on CIFAR-100: four optimizers after equal trials"),
    },
)
def table_1(settings: Settings) -> pd.DataFrame:
    """The ends of all trials: columns seed, schedule, method, lr, weight_decay, arm, the metrics and
    the training curve, `_networks.CURVE`.

    Units of rates and weight decays are those of `_methods`.
    """
    return runs.each(_networks.train_run, settings, list_points(settings)).table


def _choose(table: pd.DataFrame) -> Iterator[dict]:
    """The judged rows."""
    grid = sorted(table.lr.unique())
    for arm, trials in table.groupby("arm"):
        places = trials.set_index(["seed", *_tuning.TRIAL])
        for seed, (decay, rate) in _tuning.choose_trials(trials, TRIAL_METRICS).items():
            for regime, lr in _tuning.regimes(grid, rate):
                labels = {"arm": arm, "regime": regime, "seed": seed, "lr": lr}
                edge = {"at_edge": _tuning.is_at_edge(grid, rate), "weight_decay": decay}
                yield places.loc[(seed, decay, lr)].to_dict() | labels | edge
