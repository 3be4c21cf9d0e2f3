"""Who is fastest: seconds of a fit by Newton's method in jax, scikit-learn, LAPACK, normal
equations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.numerics import clock
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent._regression import drop
from replicate.sources.warmerdam2020descent.settings import Settings


def fit_scikit_learn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Without a second intercept."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression(fit_intercept=False).fit(x, y).coef_


def fit_normal_equations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(X^T X)^-1 X^T y by elimination."""
    return np.linalg.solve(x.T @ x, x.T @ y)


def fit_least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """LAPACK's gelsd."""
    return np.linalg.lstsq(x, y, rcond=None)[0]


IN_JAX = (
    "loss",
    "gradient",
    "step",
    "newton",
    "newton as printed",
)  # as `regression_seconds` names them
DIRECT = {
    "scikit-learn": fit_scikit_learn,
    "normal equations": fit_normal_equations,
    "lapack": fit_least_squares,
}


@experiment(
    fields={"solver": (*IN_JAX, *DIRECT), "precision": lambda settings: settings.fit_precisions},
    metrics=("seconds", "drop", "newton drop"),
    datasets=("regression", "figure13"),
)
def solvers(settings: Settings) -> pd.DataFrame:
    """Seconds of one fit.

    Columns: seed, solver, precision, seconds (median of repeats), drop (log10 loss ratio), newton
    drop (of a published Newton step).
    """
    return runs.each(
        time_solvers, settings, [{"seed": s} for s in settings.seeds[: settings.fits]]
    ).table


def time_solvers(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every solver on one seed's data, in turn, repeats times after a round that does not count."""
    seed = point["seed"]
    table = []
    data = descent.regression(settings.rows, settings.columns, seed)
    start = descent.regression_start(settings.columns, seed)
    for dtype in settings.fit_precisions:
        x = data.x.astype(dtype)
        y = data.y.astype(dtype)
        seconds = descent.regression_seconds(x, y, settings.lr, settings.fit_repeats, dtype)
        first = np.mean((x @ start.astype(dtype) - y) ** 2, dtype=np.float64)
        rows = [{"solver": name, "seconds": float(np.median(s))} for name, s in seconds.items()]
        rows += [_time(name, x, y, settings.fit_repeats, first) for name in DIRECT]
        path = descent.newton(descent.mean_squared_error, start, 1, (x, y), dtype=dtype)
        table += [row | {"precision": dtype, "newton drop": drop(path.losses)} for row in rows]
    return pd.DataFrame(table)


def _time(name: str, x: np.ndarray, y: np.ndarray, repeats: int, first: float) -> dict:
    seconds = clock({name: lambda: DIRECT[name](x, y)}, repeats)[name]
    weights = DIRECT[name](x, y)
    after = np.mean((x @ weights - y) ** 2, dtype=np.float64)
    return {"solver": name, "seconds": float(np.median(seconds)), "drop": drop((first, after))}
