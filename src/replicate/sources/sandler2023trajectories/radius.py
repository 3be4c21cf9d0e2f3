"""Lemma 1 by simulation: where descent on the loss of one random sample a step keeps the weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate import streams
from replicate.problems import draw_path, random_rows
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories._fits import fit_power
from replicate.sources.sandler2023trajectories.settings import Settings

D = 64  # ours, as the claims file says; the paper gives no dimensions
MANY_ROWS = 64  # m, of TRAJ-16 and TRAJ-18
FEW_ROWS = 4  # m, of TRAJ-15
SMALL_LR_H2 = np.geomspace(0.006, 0.1, 5)  # lr h2 of TRAJ-16.slope
LARGE_LR_H2 = np.geomspace(0.5, 1.5, 5)  # lr h2 of its control
SETTLE = 4.0  # steps before anything is measured, over 1 / lr: e^-8 of the start is left in squares
SPACED = 1.5  # steps between two measurements, the same
SNAPSHOTS = 8
UNEQUAL = (0.01, 1.0)  # curvatures of TRAJ-18.shell's control, spaced evenly in logarithm


@experiment(
    fields={
        "arm": ("simulated", "equation 12", "without perp", "small rates", "large rates",
                "unequal curvatures"),
        "d": (D,),
        "m": (MANY_ROWS, FEW_ROWS),
        "lr": float,
    },
    metrics=("square", "slope", "kurtosis", "spread"),
    datasets=("quadratic",),
)  # fmt: skip
def radius(settings: Settings) -> pd.DataFrame:
    """One row per seed and arm: columns seed, arm, d, m, lr (NaN for arms of several rates), square
    (mean |theta|^2), slope (log-log, of the RMS radius on the rate), kurtosis (fourth moment of a
    coordinate over three times its squared second), spread (coefficient of variation of |theta|
    times sqrt(2 d)).
    """
    rows = [row for seed in settings.seeds for row in _measure_seed(seed)]
    names = ["seed", "arm", "d", "m", "lr", "square", "slope", "kurtosis", "spread"]
    return pd.DataFrame(rows).reindex(columns=names)


def _measure_seed(seed: int) -> list[dict]:
    rows = []
    for number, (arm, rates) in enumerate(
        (("small rates", SMALL_LR_H2), ("large rates", LARGE_LR_H2))
    ):
        lrs = rates / random_rows.second_order(D, MANY_ROWS)
        squares = []
        for place, lr in enumerate(lrs):
            points = simulate(streams.rng(seed, "noise", place, stream=number), MANY_ROWS, lr, 32)
            squares.append(np.mean((points**2).sum(-1)))
        slope = fit_power(lrs, np.sqrt(squares))
        rows.append({"arm": arm, "m": MANY_ROWS, "slope": slope})
    rows[1] |= describe(points)  # of the largest rate, lr h2 = 1.5
    small = simulate(streams.rng(seed, "noise", 0, stream=2), MANY_ROWS, 0.02, 400)
    rows.append({"arm": "simulated", "m": MANY_ROWS, "lr": 0.02} | describe(small))
    rows.append({"arm": "unequal curvatures", "m": MANY_ROWS} | describe(_draw_unequal(seed)))
    rows += _hold_against_equation_12(seed)
    return [{"seed": seed, "d": D, **row} for row in rows]


def simulate(rng: np.random.Generator, m: int, lr: float, runs: int) -> np.ndarray:
    """Weights of runs that began at 0, after they have settled: (SNAPSHOTS, runs, D)."""
    points = [random_rows.descend(rng, np.zeros((runs, D)), m, lr, int(np.ceil(SETTLE / lr)))]
    for _ in range(SNAPSHOTS - 1):
        points.append(random_rows.descend(rng, points[-1], m, lr, int(np.ceil(SPACED / lr))))
    return np.array(points)


def describe(points: np.ndarray) -> dict[str, float]:
    """square, kurtosis and spread of points (..., d)."""
    squares = (points**2).sum(-1)
    norms = np.sqrt(squares)
    kurtosis = np.mean(points**4) / (3 * np.mean(points**2) ** 2)
    spread = norms.std() / norms.mean() * np.sqrt(2 * points.shape[-1])
    return {"square": squares.mean(), "kurtosis": kurtosis, "spread": spread}


def _draw_unequal(seed: int) -> np.ndarray:
    """Settled weights of eq. 14 with curvatures of two decades, at the rate 0.5."""
    curvatures, rng = np.geomspace(*UNEQUAL, D), streams.rng(seed, "noise", 0, stream=3)
    for points in draw_path(rng, np.zeros((400, D)), curvatures, 0.5, 800):
        last = points
    return last


def _hold_against_equation_12(seed: int) -> list[dict]:
    """TRAJ-15: the simulated square, and what eq. 12 gives with the drift at that radius."""
    lr, m = 0.05, FEW_ROWS
    square = describe(simulate(streams.rng(seed, "noise", 0, stream=4), m, lr, 800))["square"]
    gamma2, noise = random_rows.gamma_square(m), random_rows.noise_square(D)
    perp = (random_rows.second_order(D, m) - gamma2) * square
    shrunk = 2 - lr * gamma2
    values = {"simulated": square, "equation 12": lr * (perp + noise) / shrunk,
              "without perp": lr * noise / shrunk}  # fmt: skip
    return [{"arm": arm, "m": m, "lr": lr, "square": value} for arm, value in values.items()]
