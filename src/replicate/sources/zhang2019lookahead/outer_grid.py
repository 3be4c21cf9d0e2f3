"""Hyperparameter robustness, Lookahead's own: every pair of k and alpha, and SGD at alpha times the
rate beside each alpha.
"""

from __future__ import annotations

import math

import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.decomposition import times_alpha
from replicate.sources.zhang2019lookahead.settings import Settings


def list_points(settings: Settings) -> list[dict]:
    """Lookahead at every pair of k and alpha, at the settings' rate."""
    about = {"schedule": "decayed", "lr": settings.lr}
    return [
        {"seed": seed, "method": "lookahead", "k": k, "alpha": alpha} | about
        for seed in settings.seeds
        for k in settings.ks
        for alpha in settings.alphas
    ]


def list_points_without_pulls(settings: Settings) -> list[dict]:
    """SGD at the settings' rate, and at each alpha times it."""
    lower = [times_alpha(alpha, settings.lr) for alpha in settings.alphas]
    return [
        {"seed": seed, "method": "sgd", "schedule": "decayed", "lr": lr}
        for seed in settings.seeds
        for lr in (settings.lr, *lower)
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs."""
    return _operations.count_runs(
        settings, [*list_points(settings), *list_points_without_pulls(settings)]
    )


@experiment(
    fields={
        "arm": (*IMAGE_METHODS["sgd"].arms, *IMAGE_METHODS["lookahead"].arms, "sgd-alpha"),
        "k": lambda settings: settings.ks,
        "alpha": lambda settings: settings.alphas,
    },
    metrics=_networks.ALL_METRICS,
    datasets=("digits", "cifar100"),
    needs_data=True,
    operations=operations,
    evidence={"cifar100": Evidence(44, "k and alpha on CIFAR-100, ResNet-18")},
    night={"cifar100": Evidence(62, "k and alpha on CIFAR-100, as in the paper's figure")},
)
def outer_grid(settings: Settings) -> pd.DataFrame:
    """The ends of all runs at the settings' rate, decayed: columns seed, method, lr, arm, k, alpha
    and the metrics.

    k and alpha are blank where an arm has none: SGD belongs to every pair, "sgd-alpha", SGD at
    alpha times the rate, to every k.
    """
    pulled = runs.each(_networks.train_run, settings, list_points(settings)).table
    return pd.concat([pulled, _without_pulls(settings)], ignore_index=True)


def _without_pulls(settings: Settings) -> pd.DataFrame:
    """SGD at the settings' rate, and at alpha times it."""
    alpha_of = {times_alpha(alpha, settings.lr): alpha for alpha in settings.alphas}
    table = runs.each(_networks.train_run, settings, list_points_without_pulls(settings)).table
    is_lower = table.lr.isin(list(alpha_of))
    table = table[~is_lower | table.arm.eq("sgd")]  # at alpha times the rate no mean is looked at
    names = table.arm.mask(table.lr.isin(list(alpha_of)), "sgd-alpha")
    return table.assign(arm=names, k=math.nan, alpha=table.lr.map(alpha_of))
