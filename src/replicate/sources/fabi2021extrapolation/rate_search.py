"""The published post's search for Adam's rate, on its grid and on a wider one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import _toys
from replicate.sources.fabi2021extrapolation.presets import TOYS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment

GRID_SIZE = (
    10  # rates of the source's search, from a hundredth of its upper edge (the lower one is unsaid)
)
WIDEST_RATE = 3.0  # where the wider grid ends


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """Each arm's best rate and end; Adam's best on the source's grid, that grid's edge, the table's
    rate.
    """
    (name,) = table.dataset.unique()
    within = table[(table.arm == "adam") & table.source]
    searches = {**dict(iter(table.groupby("arm", sort=False))), "adam on the source's grid": within}
    rows = [{"arm": arm, "lr": search.lr[search.distance.idxmin()], "distance": search.distance.min()}
            for arm, search in searches.items()]  # fmt: skip
    rows += [
        {"arm": "edge of the source's grid", "lr": within.lr.max()},
        {"arm": "table", "lr": TOYS[name].lr},
    ]
    return pd.DataFrame(rows)


@experiment(
    fields={
        "arm": (
            "adam",
            "GD+",
            "gradient",
            "adam on the source's grid",
            "edge of the source's grid",
            "table",
        )
    },
    metrics=("lr", "distance"),
    datasets=tuple(TOYS),
    derive=derive,
    unbounded=("distance",),  # of a path that diverges
)
def rate_search(settings: Settings) -> pd.DataFrame:
    """Where every arm ends at every rate of the source's grid and of its continuation to 3.

    Columns: arm, dt, lr, source (whether the rate lies on the source's grid), distance (squared;
    inf where it diverged).
    """
    others = [
        {"arm": arm, "dt": dt} for arm in ("GD+", "gradient") for dt in settings.searched_strides
    ]
    grid = [{"arm": "adam", "dt": 0.0}, *others]
    return runs.each(search_run, settings, grid).table


def search_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """All rates of one arm side by side."""
    rates = _rates(settings.lr)
    lanes = [(float(rate), point["dt"]) for rate in rates]
    end = _toys.run(
        settings, point["arm"], lanes, np.tile(settings.start, (len(rates), 1)), settings.steps
    )[-1]
    distance = np.nan_to_num(_toys.squared_distance(end, PROBLEMS[settings.dataset]), nan=np.inf)
    return pd.DataFrame(
        {"lr": rates, "source": np.arange(len(rates)) < GRID_SIZE, "distance": distance}
    )


def _rates(edge: float) -> np.ndarray:
    """The source's grid, ten rates up to `edge`, and its continuation in the same ratio to 3."""
    within = np.geomspace(edge / 100, edge, GRID_SIZE)
    ratio = within[1] / within[0]
    beyond = edge * ratio ** np.arange(
        1, 1 + int(np.ceil(np.log(WIDEST_RATE / edge) / np.log(ratio)))
    )
    return np.concatenate([within, beyond])
