"""Over the whole grid of rates: how the benefit changes with the rate, and where plain SGD is best."""

from __future__ import annotations

import pandas as pd

from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.networks import operations
from replicate.sources.fabi2021extrapolation.presets import PAPER
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import Evidence, experiment

ARMS = ("plain", "s=0.5", "rate-1.5")
FEWEST_RATES = 3  # that a slope is taken over


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """Losses at rates at which no run was lost; per seed plain SGD's best rate, and the source's."""
    lost = table[table.train_loss.isna()].lr
    edges = (table.lr.min(), table.lr.max())
    losses = table.loc[~table.lr.isin(lost), ["arm", "lr", "seed", "branch", "train_loss"]]
    losses = losses if losses.lr.nunique() >= FEWEST_RATES else losses.head(0)
    plain = table[table.arm == "plain"].pivot(
        index=["seed", "branch"], columns="lr", values="valid_loss"
    )
    best = plain.idxmin(axis=1).rename("rate").reset_index()
    best["at_edge"] = best.rate.isin(edges).astype(int)
    return pd.concat(
        [losses, best.assign(arm="best of plain"), best.assign(arm="the source's", rate=PAPER.lr)]
    )


@experiment(
    fields={"arm": (*ARMS, "best of plain", "the source's"), "lr": lambda settings: settings.rates},
    metrics=("train_loss", "rate"),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
    operations=operations,
    derive=derive,
    night={"imagewoof-64": Evidence(74, "of the runs of networks: nothing where these are there")},
    whole=True,
)
def rate_curves(settings: Settings) -> pd.DataFrame:
    """Ends of the runs of `networks` over the whole grid of rates, columns as there.

    Empty where the settings search no rate.
    """
    if not settings.rates:
        return pd.DataFrame()
    table = _networks.run_seeds(settings)
    return _networks.ends(table[table.searched & table.arm.isin(ARMS)])
