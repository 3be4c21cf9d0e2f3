"""Figure 5: the loss of Newton's method on the regression of Figure 4, by iteration, in two
precisions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _regression
from replicate.sources.warmerdam2020descent._regression import NEWTON_ARMS
from replicate.sources.warmerdam2020descent.settings import Settings

GRADIENT_STEP = "gradient step"  # at the best rate, in place of Newton's


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and arm, GRADIENT_STEP among them: drop (log10 of what a step leaves of the
    loss).
    """
    losses = table.pivot(index=["seed", "arm"], columns="iteration", values="loss")
    drops = (
        losses.apply(lambda row: _regression.drop(row.to_numpy()), axis=1)
        .rename("drop")
        .reset_index()
    )
    steps = table.drop_duplicates("seed").assign(arm=GRADIENT_STEP)[["seed", "arm", "control"]]
    return pd.concat([drops, steps.rename(columns={"control": "drop"})], ignore_index=True)


@experiment(
    fields={"arm": (*NEWTON_ARMS, GRADIENT_STEP)},
    metrics=("drop",),
    datasets=("regression",),
    derive=derive,
)
def figure_5(settings: Settings) -> pd.DataFrame:
    """Loss of Newton's method by iteration, as published.

    Columns: seed, arm (its precision), iteration, loss, condition (of the Hessian), control (log10
    of what the first gradient step at the best rate leaves of the loss).
    """
    table = _regression.run_regression(settings)
    best = table[table.arm == "rate 1/2"].pivot(index="seed", columns="iteration", values="loss")
    newton = table[table.arm.isin(NEWTON_ARMS)].reset_index(drop=True)
    return newton.assign(control=newton.seed.map(np.log10(best[1] / best[0])))
