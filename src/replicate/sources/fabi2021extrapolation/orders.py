"""How fast the errors of the series and of difference quotients vanish, where derivatives are
exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.optim.stencils import derivative_weights
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment

STEP_SIZES = np.geomspace(
    0.004, 0.04, 8
)  # small enough for the leading term, large enough for rounding in float64
PATHS = {
    "sin": 0.7,
    "exp": 0.3,
    "logistic": 0.4,
}  # and the time at which each is looked at; no derivative vanishes
CENTRAL = {-1: -0.5, 1: 0.5}  # of the first derivative: the control, second-order accurate


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slope of log error on log step by (path, what, m): column order."""
    slopes = table.groupby(["path", "what", "m"], sort=False)[["step", "error"]].apply(
        lambda errors: np.polyfit(np.log(errors.step), np.log(errors.error), 1)[0]
    )
    return slopes.rename("order").reset_index()


@experiment(
    fields={"path": tuple(PATHS), "what": ("taylor", "backward", "bdf", "central"), "m": (1, 2, 3)},
    metrics=("order",),
    settings=ALGEBRA,
    derive=derive,
)
def orders(settings: Settings) -> pd.DataFrame:
    """Absolute errors by step: columns path, what, m, step, error.

    what: "taylor", the series to the m-th term; "backward", "bdf" (four states) or "central", h^m
    times the m-th derivative over h^m. Times are in units of the path.
    """
    rows = [row for name in PATHS for row in _of_path(name)]
    return pd.DataFrame(rows, columns=["path", "what", "m", "step", "error"])


def _of_path(name: str) -> Iterator[tuple]:
    import sympy

    t = sympy.symbols("t")
    # The logistic function is the gradient flow of -w^2/2 + w^3/3.
    path = {"sin": sympy.sin(t), "exp": sympy.exp(t), "logistic": 1 / (1 + sympy.exp(-t))}[name]
    at = PATHS[name]
    exact = [float(sympy.diff(path, t, m).subs(t, at)) for m in range(4)]
    w = sympy.lambdify(t, path, "math")
    for step in STEP_SIZES:
        series = np.cumsum([exact[m] * step**m / sympy.factorial(m) for m in range(4)]).astype(
            float
        )
        for m in (2, 3):
            yield name, "taylor", m, step, abs(w(at + step) - series[m])
        for m in (1, 2, 3):
            for kind, order in (("backward", m), ("bdf", 3)):
                quotient = sum(
                    float(a) * w(at - j * step)
                    for j, a in enumerate(derivative_weights(m, order, kind))
                )
                yield name, kind, m, step, abs(quotient / step**m - exact[m])
        central = sum(a * w(at + j * step) for j, a in CENTRAL.items()) / step
        yield name, "central", 1, step, abs(central - exact[1])
