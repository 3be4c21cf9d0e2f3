"""Figure 4: the loss of gradient descent on a linear regression, by iteration.

loss_t / loss_0 = ((1 - 2 lr)^2)^t    for isotropic columns
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _regression
from replicate.sources.warmerdam2020descent._regression import GRADIENT_ARMS
from replicate.sources.warmerdam2020descent.presets import TASKS
from replicate.sources.warmerdam2020descent.settings import Settings

PREDICTED = (1 - 2 * TASKS["regression"].lr) ** 2  # loss ratio of a step at the rate of Figure 4


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and arm; the convergence per step is relative to that which is predicted."""
    losses = table.pivot(index=["seed", "arm"], columns="iteration", values="loss")
    last = losses.ffill(axis=1).iloc[:, -1]
    steps = losses.count(axis=1) - 1
    falls = (losses.diff(axis=1) < 0).sum(axis=1)
    numbers = {
        "relative convergence": (last / losses[0]) ** (1 / steps) / PREDICTED,
        "share of falls": falls / steps,
        "log10 loss after 3 steps": np.log10(losses[3] / losses[0]),
        "condition": table.groupby(["seed", "arm"]).condition.first(),
    }
    return pd.DataFrame(numbers).reset_index()


@experiment(
    fields={"arm": GRADIENT_ARMS},
    metrics=(
        "relative convergence",
        "share of falls",
        "log10 loss after 3 steps",
        "condition",
    ),
    datasets=("regression",),
    derive=derive,
)
def figure_4(settings: Settings) -> pd.DataFrame:
    """Loss of gradient descent by iteration.

    Columns: seed, arm (its rate), iteration, loss, condition (of X^T X).
    """
    table = _regression.run_regression(settings)
    return table[table.arm.isin(GRADIENT_ARMS)].reset_index(drop=True)
