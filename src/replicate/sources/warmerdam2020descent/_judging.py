"""What the claims go by in Figures 9 to 13: numbers per run, from its log losses at shares of a
budget.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.sources.warmerdam2020descent import _curves
from replicate.sources.warmerdam2020descent._curves import AXES, RATE_KINDS, STARTS, TARGETS

KEYS = ["seed", "arm", "rate", "start", "axis"]
OF_A_SEED = ["seed", "arm", "start", "axis"]
PLACES = {"25 %": 0.25, "50 %": 0.5, "100 %": 1.0}
AS_RECORDED = ["rises", "price", "price again", "at_edge"]
OVER_SOURCE = "log10 rate over the source's"


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run and axis: KEYS and METRICS. A target that is not reached costs the budget."""
    runs = table[table.share == 1.0].set_index(KEYS)
    losses = table.pivot(index=KEYS, columns="share", values="loss").reindex(runs.index)
    numbers = {"mean log loss": _curves.mean_log_loss(losses.to_numpy())}
    numbers |= {f"log loss at {place}": losses[share] for place, share in PLACES.items()}
    numbers |= {_fall(name): -height for name, height in numbers.items()}
    numbers |= {f"cost to {target}": runs[f"to {target}"].fillna(runs.budget) for target in TARGETS}
    numbers |= {f"cost to {target} if reached": runs[f"to {target}"] for target in TARGETS}
    rate = np.log10(runs.lr)
    source = rate.xs("source", level="rate").rename("source")
    above = (
        rate - rate.reset_index().merge(source.reset_index(), "left", OF_A_SEED).source.to_numpy()
    )
    return runs[AS_RECORDED].assign(**numbers, **{OVER_SOURCE: above}).reset_index()


def _fall(name: str) -> str:
    """What minus a log loss is called."""
    return name.replace("log loss", "fall")


HEIGHTS = ("mean log loss", *(f"log loss at {place}" for place in PLACES))
METRICS = (
    *HEIGHTS, *map(_fall, HEIGHTS), *AS_RECORDED, OVER_SOURCE,
    *(f"cost to {target}{reached}" for target in TARGETS for reached in ("", " if reached")),
)  # fmt: skip
DECLARED = {  # of every experiment that gives curves
    "fields": {
        "arm": lambda settings: settings.arms,
        "rate": RATE_KINDS,
        "start": STARTS,
        "axis": AXES,
    },
    "metrics": METRICS,
    "derive": derive,
    "clocked": {"axis": _curves.SECONDS, "price": None, "price again": None},
}
