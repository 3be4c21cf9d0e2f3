"""The summary's claim: at default settings, on several networks and around two optimizers, Lookahead
is ahead of what it is wrapped around.

A task is a network and an inner optimizer. Ours, since the slides name no default: PyTorch's rate of
Adam, 1e-3, for AdamW, and the recipe's 0.1 with momentum 0.9 for SGD; a constant rate, no weight
decay, nothing tuned.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.settings import Settings

NETWORK = ("model", "width")
INNER_OPTIMIZERS = ("sgd", "adamw")
DEFAULT_RATE = 0.1  # of SGD; the same trial of AdamW is `_methods.ADAM_RATE` times as much, 1e-3
MLP_WIDTH = 64  # units of each hidden layer
LOSSES_SEEN = {
    "early": "early_loss",
    "end": "train_loss",
    "valid": "valid_loss",
    "test": "test_loss",
}
ARMS = {"lookahead": ("lookahead",), "ema": ("sgd-ema", "adamw-ema")}
SHARE_METRICS = tuple(f"share_{name}" for name in LOSSES_SEEN)


def list_tasks(settings: Settings) -> list[dict]:
    """The networks, each with both inner optimizers."""
    networks = [
        {"model": "mlp", "width": MLP_WIDTH},
        {"model": "resnet8", "width": settings.width},
        {"model": "resnet20", "width": settings.width},
    ]
    return [network | {"inner": inner} for network in networks for inner in INNER_OPTIMIZERS]


def list_points(settings: Settings) -> list[dict]:
    """Every task with its inner optimizer alone and under Lookahead."""
    default = {"schedule": "constant", "lr": DEFAULT_RATE, "weight_decay": 0.0}
    return [
        {"seed": seed, "method": method} | task | default
        for seed in settings.seeds
        for task in list_tasks(settings)
        for method in (task["inner"], "lookahead")
    ]


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, arm and `inside`: the share of tasks in which the arm's loss is
    below the inner optimizer's, a tie counting half.

    arm: "lookahead", or "ema", the running mean of the inner optimizer's own iterates. inside: the
    tasks with one inner optimizer, or with "either". share_early: of training losses at the first
    drop of other schedules; share_end, share_valid, share_test: of those at the end. A run that was
    lost is behind any that was not.
    """
    losses = table.set_index(["seed", "model", "inner", "arm"])[list(LOSSES_SEEN.values())]
    losses = losses.fillna(np.inf)
    plain = _of_arms(losses, INNER_OPTIMIZERS)
    judged = []
    for arm, names in ARMS.items():
        other = _of_arms(losses, names)
        ahead = ((other < plain) + 0.5 * (other == plain)).set_axis(SHARE_METRICS, axis=1)
        each = ahead.groupby(["seed", "inner"]).mean().reset_index(names=["seed", "inside"])
        either = ahead.groupby("seed").mean().reset_index().assign(inside="either")
        judged += [rows.assign(arm=arm) for rows in (either, each)]
    return pd.concat(judged, ignore_index=True)


def _of_arms(losses: pd.DataFrame, arms: tuple[str, ...]) -> pd.DataFrame:
    """The losses of these arms, of which a task has one, by seed and task."""
    return losses[losses.index.get_level_values("arm").isin(arms)].droplevel("arm")


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs."""
    return sum(_count(settings, point) for point in list_points(settings))


def _count(settings: Settings, point: dict) -> float:
    """Those of one run; a perceptron has no statistics, so its looks estimate none."""
    network = replace(settings, **{name: point[name] for name in NETWORK})
    total = _operations.count_runs(network, [point])
    if point["model"] != "mlp":
        return total
    means = IMAGE_METHODS[point["method"]].arms.values()
    looks = len(means) + sum(mean != "tail" for mean in means)
    alone = _operations.count_raw(network, looks, ["train", "valid", "test"])
    return total - (_operations.count_looks(network, looks) - alone)


@experiment(
    fields={"arm": tuple(ARMS), "inside": ("either", *INNER_OPTIMIZERS)},
    metrics=SHARE_METRICS,
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar10-arms": Evidence(47, "Lookahead at default settings on three networks")},
    night={"cifar10-arms": Evidence(56, "Lookahead at default settings on three networks")},
)
def defaults(settings: Settings) -> pd.DataFrame:
    """The ends of all runs: columns seed, model, width, inner, method, schedule, lr, weight_decay,
    arm and those of `_networks.train_run`.
    """
    return runs.each(_networks.train_run, settings, list_points(settings)).table
