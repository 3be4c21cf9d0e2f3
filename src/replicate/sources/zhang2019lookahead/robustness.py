"""Hyperparameter robustness: training losses at the paper's inner rates and momenta, and how far
they lie apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import numpy as np
import pandas as pd

from replicate import datasets, runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.decomposition import times_alpha
from replicate.sources.zhang2019lookahead.settings import Settings

SPREADS = ("spread", "log_spread", "worst")


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row a seed and arm, over the pairs of rate and momentum.

    spread: standard deviation of the training loss at the end, nats; log_spread: of its log10;
    worst: its largest. A run that was lost counts as one that learned nothing: log of the classes.
    """
    losses = table.train_loss.fillna(table.chance).clip(upper=table.chance)
    cells = table.assign(loss=losses, log_loss=np.log10(losses))
    groups = cells.groupby(["seed", "arm"])
    return groups.agg(
        spread=("loss", "std"), log_spread=("log_loss", "std"), worst=("loss", "max")
    ).reset_index()


def list_points(settings: Settings) -> list[dict]:
    """SGD, Lookahead, and SGD at alpha times the rate, at each pair of rate and momentum."""
    return [
        {"seed": seed, "schedule": "decayed", "momentum": momentum} | run
        for seed in settings.seeds
        for rate, momentum in pairs(settings)
        for run in _runs_at(settings, rate)
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs."""
    return _operations.count_runs(settings, list_points(settings))


@experiment(
    fields={
        "arm": (*IMAGE_METHODS["sgd"].arms, *IMAGE_METHODS["lookahead"].arms, "sgd-alpha"),
    },
    metrics=SPREADS,
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar10-arms": Evidence(50, "the robustness figures, ResNet-18")},
    night={"cifar10-arms": Evidence(66, "the robustness figures at the paper's rates and momenta")},
)
def robustness(settings: Settings) -> pd.DataFrame:
    """The ends of all runs, the rate decayed: columns seed, method, lr, momentum, place, chance, arm
    and the metrics.

    place: the rate of the settings, of which arm "sgd-alpha", SGD, has alpha times; chance: log of
    the number of classes.
    """
    table = runs.each(_networks.train_run, settings, list_points(settings)).table
    is_lower = table.place.ne(table.lr)
    table = table[~is_lower | table.arm.eq("sgd")]  # at alpha times the rate no mean is looked at
    names = table.arm.mask(table.place.ne(table.lr), "sgd-alpha")
    return table.assign(arm=names, chance=log(datasets.describe(settings.dataset).classes))


def pairs(settings: Settings) -> list[tuple[float, float]]:
    """(rate, momentum): the paper's rates at its first momentum, its momenta at its first rate."""
    along_rates = [(rate, settings.momenta[0]) for rate in settings.robust_rates]
    return along_rates + [(settings.robust_rates[0], beta) for beta in settings.momenta[1:]]


def _runs_at(settings: Settings, rate: float) -> Iterator[dict]:
    yield {"method": "sgd", "lr": rate, "place": rate}
    yield {"method": "lookahead", "lr": rate, "place": rate}
    yield {"method": "sgd", "lr": times_alpha(settings.alpha, rate), "place": rate}
