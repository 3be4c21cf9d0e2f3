"""The linear regression of Figures 4 and 5, by gradient descent and by Newton's method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.sources.warmerdam2020descent.settings import Settings

GRADIENT_ARMS = ("the rate", "half the rate", "rate 1/2")  # the last is the best rate
NEWTON_ARMS = {"newton float32": "float32", "newton float64": "float64"}  # arm -> precision
NEWTON_STEPS = 3
BEST = 0.5  # the best rate for isotropic columns: the Hessian of the mean squared error is then 2 I
FEW_STEPS = 20  # steps of the arms that gradient descent is compared with
LEAST_DROP = -30.0  # a step's log10 loss ratio is clipped to [LEAST_DROP, NOT_FINITE]
NOT_FINITE = 10.0
BULLSEYE = -9.0  # log10 loss ratio at which a descent counts as there: what float32 can tell


def run_regression(settings: Settings) -> pd.DataFrame:
    """Every arm on every seed: columns seed, arm, iteration, loss, condition (of X^T X or the
    Hessian).
    """
    return runs.each(descend, settings, [{"seed": s} for s in settings.seeds]).table


def descend(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Gradient descent at three rates and Newton in two precisions on one seed's data."""
    seed = point["seed"]
    tables = []
    data = descent.regression(settings.rows, settings.columns, seed)
    problem = {"start": descent.regression_start(settings.columns, seed), "data": (data.x, data.y)}
    condition = descent.normal_equations(data.x, data.y).condition
    of_arms = ((settings.lr, settings.steps), (settings.lr / 2, FEW_STEPS), (BEST, FEW_STEPS))
    for arm, (lr, steps) in zip(GRADIENT_ARMS, of_arms, strict=True):
        path = descent.gradient_descent(descent.mean_squared_error, lr=lr, steps=steps, **problem)
        tables.append(_losses(arm, path.losses).assign(condition=condition))
    for arm, dtype in NEWTON_ARMS.items():
        path = descent.newton(
            descent.mean_squared_error, steps=NEWTON_STEPS, dtype=dtype, **problem
        )
        tables.append(_losses(arm, path.losses).assign(condition=path.condition[0]))
    return pd.concat(tables, ignore_index=True)


def drop(losses) -> float:
    """log10 of the second loss over the first, in [LEAST_DROP, NOT_FINITE]; the latter where not
    finite.
    """
    if not np.isfinite(losses[1]):
        return NOT_FINITE
    return float(
        np.clip(np.log10(max(losses[1] / losses[0], 10.0**LEAST_DROP)), LEAST_DROP, NOT_FINITE)
    )


def count_steps(data: descent.Regression, start: np.ndarray, lr: float, log_ratio: float) -> int:
    """How many steps of gradient descent until log10(L / L at start) is at most log_ratio.

    L_t = sum_i h_i c_i^2 (1 - 2 lr h_i)^(2 t),   h, Q of X'X / n,   c = Q'(w_0 - w)

    data: without noise, made with the weights w (k + 1,); start: w_0, (k + 1,). Raises ValueError
    if it never gets there.
    """
    curvatures, axes = np.linalg.eigh(data.x.T @ data.x / len(data.x))
    away = axes.T @ (start - data.weights)
    factors = (1 - 2 * lr * curvatures) ** 2
    if factors.max() >= 1:
        raise ValueError(f"lr must be below {1 / curvatures.max():.3g}, got {lr}")

    def loss(steps: int) -> float:
        return float((curvatures * away**2 * factors**steps).sum())

    enough = 10.0**log_ratio * loss(0)
    low, high = 0, 1
    while loss(high) > enough:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= enough else (middle, high)
    return high


def _losses(arm: str, losses: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"arm": arm, "iteration": range(len(losses)), "loss": losses})
