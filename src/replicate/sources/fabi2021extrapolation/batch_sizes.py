"""At several batch sizes: whether extrapolation works better with larger batches."""

from __future__ import annotations

import pandas as pd

from replicate import runs
from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import Evidence, experiment


def operations(settings: Settings) -> float:
    """Of both arms at every rate and batch size. No evaluation."""
    ends = len(_networks.COMPARED) * len(settings.rates) * len(settings.seeds)
    images = ends * settings.steps * sum(settings.batches)
    return images * _networks.operations_per_step(settings)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The ends at the rates that the other seeds choose for each arm and batch size, and beside."""
    if table.empty:
        return table
    tables = []
    by = ["dataset", "batch"] if "dataset" in table else ["batch"]
    for _, ends in table.groupby(by, sort=False):
        chosen = _networks.choose_rates(ends, "train_loss")
        chosen["regime"] = [f"tuned {move}".strip() for move in chosen.pop("move")]
        tables.append(ends.merge(chosen, on=["arm", "seed", "lr"]))
    return pd.concat(tables, ignore_index=True)


@experiment(
    fields={
        "arm": _networks.COMPARED,
        "regime": ("tuned", "tuned lower", "tuned higher"),
        "batch": lambda settings: settings.batches,
    },
    metrics=("train_loss",),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
    operations=operations,
    derive=derive,
    night={"imagewoof-64": Evidence(60, "whether larger batches help it")},
    whole=True,
)
def batch_sizes(settings: Settings) -> pd.DataFrame:
    """Ends of plain SGD and s = 0.5 at several batch sizes over the grid of rates; columns of
    `networks`.

    Empty where the settings name no batch sizes.
    """
    if not settings.batches:
        return pd.DataFrame()
    grid = [{"seed": seed, "batch": batch} for batch in settings.batches for seed in settings.seeds]
    return runs.each(_networks.batch_run, settings, grid).table
