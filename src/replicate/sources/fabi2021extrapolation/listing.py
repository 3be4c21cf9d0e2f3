"""The published class in few lines, and the library's optimizer beside it.

From the fourth step on each step of descent, w <- w - h g, is followed by the series over a time dt,

    w <- w - dt g' - dt^2/(2 h) g'' - dt^3/(6 h^2) g''',

whose derivatives are differences of the last three gradients, as the class has them.
"""

import numpy as np
import pandas as pd

RATE, STRIDE, STEPS = 1e-3, 5e-4, 300  # h, dt: half a step further, as s = 0.5 of the experiments
START = (-1.2, 1.0)  # where Rosenbrock's function is usually started


def extrapolated_descent(gradient, w, h, dt, steps):
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
    import torch

    from replicate.optim import TaylorExtrapolation

    def gradient(w):
        x, y = w
        return np.array([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)])

    w = torch.tensor(START, dtype=torch.float64)
    inner = torch.optim.SGD([w], lr=RATE)
    optimizer = TaylorExtrapolation(inner, dt=STRIDE, variant="published")
    for _ in range(STEPS):
        w.grad = torch.from_numpy(gradient(w.numpy()))
        optimizer.step()
    end = extrapolated_descent(gradient, np.array(START), RATE, STRIDE, STEPS)
    return pd.DataFrame({"listing": end, "library": w.numpy()}, index=["x", "y"])
