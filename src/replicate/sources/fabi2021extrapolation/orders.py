"""How fast the errors of the series and of the difference quotients vanish, on paths whose derivatives are known."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import sympy

from replicate.optim.stencils import derivative_weights
from replicate.sources.fabi2021extrapolation.settings import Settings

STEPS = np.geomspace(0.004, 0.04, 8)  # small enough for the leading term, large enough for rounding in float64
T = sympy.symbols("t")
PATHS = {  # and the time at which they are looked at; no derivative that is used vanishes there
    "sin": (sympy.sin(T), 0.7),
    "exp": (sympy.exp(T), 0.3),
    "logistic": (1 / (1 + sympy.exp(-T)), 0.4),  # gradient flow of -w^2/2 + w^3/3
}
CENTRAL = {-1: -0.5, 1: 0.5}  # of the first derivative: the control, second-order accurate


def orders(settings: Settings) -> pd.DataFrame:
    """Absolute errors by step: columns path, what, m, step, error.

    what: "taylor", the series to the m-th term; "backward", "bdf" (four states) or "central", h^m times the m-th
    derivative over h^m. Times are in units of the path.
    """
    return pd.DataFrame(
        [row for name in PATHS for row in _of_path(name)], columns=["path", "what", "m", "step", "error"]
    )


def _of_path(name: str) -> Iterator[tuple]:
    path, at = PATHS[name]
    exact = [float(sympy.diff(path, T, m).subs(T, at)) for m in range(4)]
    w = sympy.lambdify(T, path, "math")
    for step in STEPS:
        series = np.cumsum([exact[m] * step**m / sympy.factorial(m) for m in range(4)]).astype(float)
        for m in (2, 3):
            yield name, "taylor", m, step, abs(w(at + step) - series[m])
        for m in (1, 2, 3):
            for kind, order in (("backward", m), ("bdf", 3)):
                quotient = sum(float(a) * w(at - j * step) for j, a in enumerate(derivative_weights(m, order, kind)))
                yield name, kind, m, step, abs(quotient / step**m - exact[m])
        central = sum(a * w(at + j * step) for j, a in CENTRAL.items()) / step
        yield name, "central", 1, step, abs(central - exact[1])


def slopes(table: pd.DataFrame) -> pd.Series:
    """Least-squares slope of log error on log step by (path, what, m)."""
    return table.groupby(["path", "what", "m"], sort=False)[["step", "error"]].apply(
        lambda part: np.polyfit(np.log(part.step), np.log(part.error), 1)[0]
    )
