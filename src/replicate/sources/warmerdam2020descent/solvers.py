"""Who is fastest: seconds of a fit by Newton's method in jax, scikit-learn, LAPACK, normal
equations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent._regression import BEST, BULLSEYE, count_steps, drop
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


AGAIN = " again"  # after a solver's name: the same work done twice
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
DESCENT = {"gradient descent": None, "gradient descent at 1/2": BEST}  # name -> rate; the source's


@experiment(
    fields={
        "solver": (*IN_JAX, *(name + AGAIN for name in IN_JAX), *DIRECT, *DESCENT),
        "precision": lambda settings: settings.fit_precisions,
    },
    metrics=("seconds", "drop", "newton drop"),
    datasets=("regression", "figure13"),
    clocked={"seconds": None},
)
def solvers(settings: Settings) -> pd.DataFrame:
    """Seconds of one fit.

    Columns: seed, solver, precision, seconds (median of repeats; of gradient descent, to BULLSEYE,
    modelled: steps times the seconds of a gradient and a step), drop (log10 loss ratio of a direct
    solver), newton drop (of a published Newton step).
    """
    return runs.each(time_solvers, settings, [{"seed": s} for s in settings.seeds]).table


def time_solvers(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every solver on one seed's data, in turn, repeats times after a round that does not count."""
    seed = point["seed"]
    table = []
    data = descent.regression(settings.rows, settings.columns, seed)
    start = descent.regression_start(settings.columns, seed)
    steps = {
        name: count_steps(data, start, lr or settings.lr, BULLSEYE) for name, lr in DESCENT.items()
    }
    for dtype in settings.fit_precisions:
        x, y = data.x.astype(dtype), data.y.astype(dtype)
        jobs = {name: functools.partial(fit, x, y) for name, fit in DIRECT.items()}
        clock = descent.regression_seconds(x, y, settings.lr, settings.fit_repeats, dtype, jobs)
        seconds = {name: float(np.median(each)) for name, each in clock.items()}
        step = seconds["gradient"] + seconds["step"]
        seconds |= {name: count * step for name, count in steps.items()}
        path = descent.newton(descent.mean_squared_error, start, 1, (x, y), dtype=dtype)
        drops = {name: _drop(fit, x, y, start) for name, fit in DIRECT.items()}
        rows = pd.DataFrame({"solver": seconds.keys(), "seconds": seconds.values()})
        of_step = {"precision": dtype, "newton drop": drop(path.losses)}
        table.append(rows.assign(drop=rows.solver.map(drops), **of_step))
    return pd.concat(table, ignore_index=True)


def _drop(fit: Callable, x: np.ndarray, y: np.ndarray, start: np.ndarray) -> float:
    """log10 of the loss after a fit over that at the start."""
    losses = [
        np.mean((x @ w - y) ** 2, dtype=np.float64) for w in (start.astype(x.dtype), fit(x, y))
    ]
    return drop(losses)
