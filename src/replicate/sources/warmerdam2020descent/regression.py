"""Figures 4 and 5: linear regression by gradient descent and by Newton's method, in what shapes, and how fast."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from replicate import descent, runs
from replicate.sources.warmerdam2020descent.settings import Settings

NEWTON_STEPS = 3
BEST = 0.5  # the best rate for isotropic columns: the Hessian of the mean squared error is then 2 I
FEW = 20  # steps of the arms that gradient descent is compared with
SHAPES = (  # rows, columns, condition number of X^T X
    (1_000, 2, 1.0), (2_000, 10, 1.0), (2_000, 100, 1.0),
    (10, 20, 1.0), (200, 250, 1.0), (2_000, 10, 1e6), (2_000, 10, 1e10),
)  # fmt: skip
WORST, BEST_DROP = 10.0, -30.0  # a step's log10 loss ratio is clipped to [BEST_DROP, WORST]


def figure_4(settings: Settings) -> pd.DataFrame:
    """Loss of gradient descent by iteration. Columns: seed, arm (its rate), iteration, loss, condition (of X^T X)."""
    table = runs.each(regressed, settings, [{"seed": s} for s in settings.seeds]).table
    return table[~table.arm.str.startswith("newton")].reset_index(drop=True)


def figure_5(settings: Settings) -> pd.DataFrame:
    """Loss of Newton's method by iteration, as published.

    Columns: seed, arm (its precision), iteration, loss, condition (of the Hessian), control (log10 of what the first
    gradient step at the best rate leaves of the loss).
    """
    table = runs.each(regressed, settings, [{"seed": s} for s in settings.seeds]).table
    best = table[table.arm == "rate 1/2"].pivot(index="seed", columns="iteration", values="loss")
    newton = table[table.arm.str.startswith("newton")].reset_index(drop=True)
    return newton.assign(control=newton.seed.map(np.log10(best[1] / best[0])))


def shapes(settings: Settings) -> pd.DataFrame:
    """What one published Newton step does in other shapes of data, and whether the Hessian has an inverse.

    Columns: seed, rows, columns, asked (condition number), drop (log10 loss after over before), condition and singular
    (of the Hessian, as float64 finds it), checked (the same drop by float64 normal equations with their check).
    """
    return runs.each(shaped, settings, [{"seed": s} for s in settings.seeds]).table


def solvers(settings: Settings) -> pd.DataFrame:
    """Seconds of one fit. Columns: seed, solver, precision, seconds (median of repeats), drop (log10 loss ratio)."""
    return runs.each(solved, settings, [{"seed": s} for s in settings.seeds[: settings.fits]]).table


def regressed(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Gradient descent at three rates and Newton in two precisions on one seed's data."""
    seed, parts = point["seed"], []
    data = descent.regression(settings.rows, settings.columns, seed)
    about = {"start": descent.regression_start(settings.columns, seed), "data": (data.x, data.y)}
    condition = descent.normal_equations(data.x, data.y).condition
    for arm, lr, steps in (("the rate", settings.lr, settings.steps), ("half the rate", settings.lr / 2, FEW),
                           ("rate 1/2", BEST, FEW)):  # fmt: skip
        path = descent.gradient_descent(descent.mean_squared_error, lr=lr, steps=steps, **about)
        parts.append(_losses(arm, path.losses).assign(condition=condition))
    for dtype in ("float32", "float64"):
        path = descent.newton(descent.mean_squared_error, steps=NEWTON_STEPS, dtype=dtype, **about)
        parts.append(_losses(f"newton {dtype}", path.losses).assign(condition=path.condition[0]))
    return pd.concat(parts, ignore_index=True)


def shaped(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """One Newton step in every shape, as published in single precision and checked in double."""
    found = []
    for rows, columns, asked in SHAPES:
        data = descent.regression(rows, columns, point["seed"], condition=asked)
        start = descent.regression_start(columns, point["seed"])
        path = descent.newton(descent.mean_squared_error, start, 1, (data.x, data.y), dtype="float32")
        fit = descent.normal_equations(data.x, data.y)
        losses = [np.mean((data.x @ w - data.y) ** 2) for w in (start, fit.weights)]
        about = {"rows": rows, "columns": columns, "asked": asked, "condition": fit.condition, "singular": fit.singular}
        found.append(about | {"drop": drop(path.losses), "checked": drop(losses)})
    return pd.DataFrame(found)


def solved(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Every solver on one seed's data, in turn, repeats times after a round that does not count."""
    seed, found = point["seed"], []
    data = descent.regression(settings.rows, settings.columns, seed)
    start = descent.regression_start(settings.columns, seed)
    for dtype in settings.fit_precisions:
        x, y = data.x.astype(dtype), data.y.astype(dtype)
        clock = descent.regression_seconds(x, y, settings.lr, settings.fit_repeats, dtype)
        first = np.mean((x @ start.astype(dtype) - y) ** 2, dtype=np.float64)
        rows = [{"solver": name, "seconds": float(np.median(s))} for name, s in clock.items()]
        rows += [_timed(name, fit, x, y, settings.fit_repeats, first) for name, fit in DIRECT.items()]
        path = descent.newton(descent.mean_squared_error, start, 1, (x, y), dtype=dtype)
        found += [row | {"precision": dtype, "newton drop": drop(path.losses)} for row in rows]
    return pd.DataFrame(found)


def drop(losses) -> float:
    """log10 of the second loss over the first, clipped to [BEST_DROP, WORST]; not finite counts as WORST."""
    if not np.isfinite(losses[1]):
        return WORST
    return float(np.clip(np.log10(max(losses[1] / losses[0], 10.0**BEST_DROP)), BEST_DROP, WORST))


def _scikit_learn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return LinearRegression(fit_intercept=False).fit(x, y).coef_


def _normal_equations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.solve(x.T @ x, x.T @ y)


def _least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(x, y, rcond=None)[0]


DIRECT = {"scikit-learn": _scikit_learn, "normal equations": _normal_equations, "lapack": _least_squares}


def _timed(name: str, fit, x: np.ndarray, y: np.ndarray, repeats: int, first: float) -> dict:
    seconds = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        weights = fit(x, y)
        seconds.append(time.process_time() - begin)
    after = np.mean((x @ weights - y) ** 2, dtype=np.float64)
    return {"solver": name, "seconds": float(np.median(seconds[1:])), "drop": drop((first, after))}


def _losses(arm: str, losses: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"arm": arm, "iteration": range(len(losses)), "loss": losses})
