"""The published class in few lines, and the library's optimizer beside it.

From the fourth step on each step of descent, w <- w - h g, is followed by the series over a time dt,

    w <- w - dt g' - dt^2/(2 h) g'' - dt^3/(6 h^2) g''',

whose derivatives are differences of the last three gradients, as the class has them.
"""

import numpy as np
import pandas as pd

from replicate.optim import SGD, TaylorExtrapolation, run_on_array


def descend_extrapolating(gradient, w, h, dt, steps):
    newest = older = gradient(w)
    for step in range(1, steps + 1):
        newest, older, oldest = gradient(w), newest, older
        w = w - h * newest
        if step > 3:
            w = w - dt * (11 * newest - 7 * older + 2 * oldest) / 6
            w = w - dt**2 / h * (2 * newest - 3 * older + oldest) / 2
            w = w - dt**3 / h**2 * (newest - 2 * older + oldest) / 6
    return w


def run_beside_library() -> pd.DataFrame:
    """Where both end on Rosenbrock's function, (1 - x)^2 + 100 (y - x^2)^2: columns listing and
    library, a row a weight.
    """
    start = np.array([-1.2, 1.0])  # where the function is usually started
    h, dt, steps = 1e-3, 5e-4, 300  # half a step further, as s = 0.5 of the experiments

    def gradient(w):
        x, y = w
        return np.array([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)])

    def make(params):
        return TaylorExtrapolation(SGD(params, lr=h), dt=dt, variant="published")

    w = start.copy()
    run_on_array(make, w, lambda w, step: gradient(w), steps)
    end = descend_extrapolating(gradient, start, h, dt, steps)
    return pd.DataFrame({"listing": end, "library": w}, index=["x", "y"])
