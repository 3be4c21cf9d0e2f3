""" "No matter the rows or columns": one published Newton step in other shapes of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent._regression import drop
from replicate.sources.warmerdam2020descent.settings import Settings

ISOTROPIC = 1.0  # condition number
SHAPES = (  # rows, columns, condition number of X^T X
    (1_000, 2, ISOTROPIC), (2_000, 10, ISOTROPIC), (2_000, 100, ISOTROPIC),
    (10, 20, ISOTROPIC), (200, 250, ISOTROPIC), (2_000, 10, 1e6), (2_000, 10, 1e10),
)  # fmt: skip
ROWS_PER_WEIGHT = 10  # at least, of a well-posed shape
KINDS = ("well-posed", "all", "undetermined", "ill-conditioned")
WORST = {
    "worst drop": "drop",
    "worst checked drop": "checked",
}  # metric -> column of which it is the largest


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and kind of shapes: the largest drop over its shapes, as published and as
    checked.
    """
    weights = table["columns"] + 1
    isotropic = table.asked == ISOTROPIC
    enough = table.rows >= ROWS_PER_WEIGHT * weights
    of_kind = (enough & isotropic, table.rows > 0, table.rows < weights, ~isotropic)
    tables = [table[chosen].groupby("seed", as_index=False)[list(WORST.values())].max().assign(shapes=kind)
             for kind, chosen in zip(KINDS, of_kind, strict=True)]  # fmt: skip
    names = {column: name for name, column in WORST.items()}
    return pd.concat(tables, ignore_index=True).rename(columns=names)


@experiment(fields={"shapes": KINDS}, metrics=tuple(WORST), datasets=("regression",), derive=derive)
def shapes(settings: Settings) -> pd.DataFrame:
    """What one published Newton step does in other shapes of data, and whether the Hessian has an
    inverse.

    Columns: seed, rows, columns, asked (condition number), drop (log10 loss after over before),
    condition and singular (of the Hessian, as float64 finds it), checked (the same drop by float64
    normal equations with their check).
    """
    return runs.each(step_in_shapes, settings, [{"seed": s} for s in settings.seeds]).table


def step_in_shapes(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One Newton step in every shape, as published in single precision and checked in double."""
    rows = []
    for count, columns, condition in SHAPES:
        data = descent.regression(count, columns, point["seed"], condition=condition)
        start = descent.regression_start(columns, point["seed"])
        path = descent.newton(
            descent.mean_squared_error, start, 1, (data.x, data.y), dtype="float32"
        )
        fit = descent.normal_equations(data.x, data.y)
        losses = [np.mean((data.x @ w - data.y) ** 2) for w in (start, fit.weights)]
        shape = {"rows": count, "columns": columns, "asked": condition}
        hessian = {"condition": fit.condition, "singular": fit.singular}
        rows.append(shape | hessian | {"drop": drop(path.losses), "checked": drop(losses)})
    return pd.DataFrame(rows)
