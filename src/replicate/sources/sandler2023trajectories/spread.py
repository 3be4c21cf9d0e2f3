"""Equations 19 and 21 by simulation: how widely averages of runs that are drawn scatter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import streams
from replicate.averaging import ema, swa, two_point
from replicate.problems import average_path, draw_path, sgd_variance, shrinkage
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories._kernels import equation_21, space
from replicate.sources.sandler2023trajectories.settings import Settings

LR_TIMES_KAPPA = 0.05  # of TRAJ-57.sampled and TRAJ-60.sampled; the curvature is 1
POINTS_AVERAGED, BETWEEN = 10, 100  # n and Delta of TRAJ-60.sampled, k = n Delta
FORGOTTEN = 300  # steps before the window; 0.95^600 of the start is left in squares
DRAWN_AVERAGES = 10_000  # runs a seed: its variances are known to 1.4 %
WINDOWS_OF_AVERAGES = {"swa": (10, 100), "two-point": (10, 100), "ema": (10, 100)}
FUNCTIONS = {"swa": swa, "two-point": two_point, "ema": ema}


@experiment(
    fields={
        "arm": ("simulated", "equation 19", "two-point formula"),
        "kernel": (*FUNCTIONS, "n-point"),
        "k": (10, 100, POINTS_AVERAGED * BETWEEN),
        "n": (POINTS_AVERAGED,),
        "lr": (LR_TIMES_KAPPA,),
    },
    metrics=("variance",),
    datasets=("quadratic",),
)
def spread(settings: Settings) -> pd.DataFrame:
    """One row per seed, kernel, window and arm: columns seed, arm, kernel, k, n (NaN but for n
    points), lr, variance.
    """
    rows = [row for seed in settings.seeds for row in _measure_seed(seed)]
    return pd.DataFrame(rows, columns=["seed", "arm", "kernel", "k", "n", "lr", "variance"])


def _measure_seed(seed: int) -> Iterator[tuple]:
    kernels = {
        (name, k): FUNCTIONS[name](k)
        for name, windows in WINDOWS_OF_AVERAGES.items()
        for k in windows
    }
    kernels["n-point", POINTS_AVERAGED * BETWEEN] = space(POINTS_AVERAGED, BETWEEN)
    longest = max(map(len, kernels.values())) - 1
    path = draw_path(
        streams.rng(seed, "noise", 0, stream=5),
        np.zeros((DRAWN_AVERAGES, 1)), np.ones(1), LR_TIMES_KAPPA, FORGOTTEN + longest,
    )  # fmt: skip
    averages = average_path(path, FORGOTTEN + longest, kernels)
    raw, gamma = sgd_variance(LR_TIMES_KAPPA, LR_TIMES_KAPPA**2), np.array([1 - LR_TIMES_KAPPA])
    for (name, k), mu in kernels.items():
        is_spaced = name == "n-point"
        apart = BETWEEN if is_spaced else k
        factor = equation_21(gamma, POINTS_AVERAGED, BETWEEN) if is_spaced else shrinkage(gamma, mu)
        values = {"simulated": averages[name, k].var(), "equation 19": raw * factor.item(),
                  "two-point formula": raw * (1 + gamma.item() ** apart) / 2}  # fmt: skip
        for arm, value in values.items():
            yield (
                seed,
                arm,
                name,
                k,
                POINTS_AVERAGED if is_spaced else np.nan,
                LR_TIMES_KAPPA,
                value,
            )
