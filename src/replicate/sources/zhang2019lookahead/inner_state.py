"""What becomes of the inner optimizer's state at a pull: kept, forgotten or pulled back."""

from __future__ import annotations

from itertools import chain

import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead.settings import Settings

INNER = ("sgd", "adamw")
TREATMENTS = ("maintain", "reset", "interpolate")
# Arm of a run -> what it is here; other means of SGD and Lookahead are left out.
CALLED = {"sgd": "inner", "adamw": "inner", "sgd-ema": "inner-ema", "adamw-ema": "inner-ema",
          "lookahead": "lookahead"}  # fmt: skip


def list_points(settings: Settings) -> tuple[list[dict], list[dict]]:
    """Lookahead around each inner optimizer with each treatment, and the optimizers alone."""
    about = {"schedule": "decayed", "lr": settings.lr}
    pulled = [
        {"seed": seed, "method": "lookahead", "inner": inner, "inner_state": treatment} | about
        for seed in settings.seeds
        for inner in INNER
        for treatment in TREATMENTS
    ]
    alone = [{"seed": seed, "method": inner} | about for seed in settings.seeds for inner in INNER]
    return pulled, alone


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs."""
    return _operations.count_runs(settings, chain(*list_points(settings)))


@experiment(
    fields={
        "arm": tuple(dict.fromkeys(CALLED.values())),
        "inner": INNER,
        "inner_state": TREATMENTS,
    },
    metrics=_networks.ALL_METRICS,
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
    operations=operations,
    evidence={"cifar10-arms": Evidence(48, "the inner state, ResNet-18")},
    night={"cifar10-arms": Evidence(64, "the inner state around SGD and AdamW")},
)
def inner_state(settings: Settings) -> pd.DataFrame:
    """The ends of all runs at the settings' rate, decayed: columns seed, arm, inner, inner_state and
    the metrics.

    What has no pulls stands beside every treatment.
    """
    of_pulled, of_alone = (
        runs.each(_networks.train_run, settings, points).table for points in list_points(settings)
    )
    beside = [
        of_alone.assign(inner=of_alone.method, inner_state=treatment) for treatment in TREATMENTS
    ]
    table = pd.concat([of_pulled, *beside], ignore_index=True)
    table = table[table.arm.isin(list(CALLED))]
    return table.assign(arm=table.arm.map(CALLED))
