"""The search for the rate of every arm: the draft says only that there was one."""

from __future__ import annotations

import pandas as pd

from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import Evidence, experiment


def operations(settings: Settings) -> float:
    """Of the runs at the batch size of `networks` and at those that are compared. No evaluation."""
    images = len(settings.searched) * settings.batch + len(_networks.COMPARED) * sum(
        settings.batches
    )
    steps = len(settings.tuning_seeds) * len(settings.rates) * settings.steps
    return steps * images * _networks.operations_per_step(settings)


@experiment(
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
    operations=operations,
    evidence={"cifar10": Evidence(70, "the rates of every arm, ResNet-18")},
)
def search(settings: Settings) -> pd.DataFrame:
    """Ends of the tuning seeds' runs for every arm that has a search of its own, batch size and
    rate.
    """
    tables = [_networks.search_rates(settings, settings.searched, (settings.batch,))]
    if settings.batches:
        tables.append(_networks.search_rates(settings, _networks.COMPARED, settings.batches))
    return pd.concat(tables, ignore_index=True).drop_duplicates(["arm", "batch", "lr", "seed"])
