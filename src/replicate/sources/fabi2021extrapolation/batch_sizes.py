"""At several batch sizes: whether extrapolation works better with larger batches."""

from __future__ import annotations

import pandas as pd

from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment


@experiment(
    fields={"arm": _networks.COMPARED, "batch": lambda settings: settings.batches},
    metrics=("train_loss",),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
)
def batch_sizes(settings: Settings) -> pd.DataFrame:
    """Ends of plain SGD and s = 0.5 at several batch sizes, each at its own best rate; columns of
    `networks`.

    Empty where the settings name no batch sizes.
    """
    if not settings.batches:
        return pd.DataFrame()
    best = _networks.choose_rates(
        _networks.search_rates(settings, _networks.COMPARED, settings.batches), "train_loss"
    )
    grid = pd.DataFrame({"arm": arm, "lr": lr, "batch": batch} for (arm, batch), lr in best.items())
    return _networks.ends(_networks.main_runs(settings, grid))
