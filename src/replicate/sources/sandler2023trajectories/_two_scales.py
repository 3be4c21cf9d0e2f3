"""Section 5.1: one fast and one slow direction, gradient noise of variance 1 in both.

The losses are exact second moments; runs drawn on top of them are single runs.
"""

import numpy as np
import pandas as pd

from replicate import streams
from replicate.problems import draw_path, mean_variance, second_moments, sgd_variance

FAST_AND_SLOW = np.array([1.0, 0.015])  # fast and slow, section 5.1
LARGE_RATE, SMALL_RATE = 0.05, 0.02  # lambda_0 and lambda_1, the same
AVERAGING_TIME = 450  # steps; read as delta = 1/450, E-17 and TRAJ-43.decay
BEGIN = np.array([1.0, 5.0])  # silent; the slow direction then holds most of the loss
LENGTH = 8000  # silent; more than four relaxation times of the slow direction at the large rate
SHOWN_STEPS = np.unique(np.round(np.logspace(0, np.log10(LENGTH), 120)).astype(int))


def follow_losses(steps: int = LENGTH) -> dict[str, np.ndarray]:
    """The expected loss of each arm by direction and step, (steps + 1, 2) each."""
    paths = {}
    for arm, rate in (("large rate", LARGE_RATE), ("small rate", SMALL_RATE)):
        weights = np.full(steps, 1 / AVERAGING_TIME)
        rates = np.full(steps, rate)
        followed = second_moments(FAST_AND_SLOW, 1.0, rates, weights=weights, start=BEGIN)
        paths[arm] = FAST_AND_SLOW * followed["theta"] / 2
        if arm == "large rate":
            paths["EMA"] = FAST_AND_SLOW * followed["mean"] / 2
    return paths


def settle_losses(delta: float = 1 / AVERAGING_TIME) -> dict[str, np.ndarray]:
    """The stationary loss of each arm by direction, (2,) each, in closed form."""
    floors = {}
    for arm, rate in (("large rate", LARGE_RATE), ("small rate", SMALL_RATE)):
        x = rate * FAST_AND_SLOW
        floors[arm] = FAST_AND_SLOW * sgd_variance(x, rate**2) / 2
    x = LARGE_RATE * FAST_AND_SLOW
    floors["EMA"] = FAST_AND_SLOW * mean_variance(x, 1 - delta, LARGE_RATE**2) / 2
    return floors


def tabulate_expected() -> pd.DataFrame:
    """Expected losses at the steps shown: columns arm, step, direction, loss, run (NaN)."""
    tables = [_tabulate(arm, path[SHOWN_STEPS]) for arm, path in follow_losses().items()]
    return pd.concat(tables).assign(what="expected", run=np.nan)


def draw_runs(seeds: tuple[int, ...]) -> pd.DataFrame:
    """Losses of single runs that are drawn, with the same columns."""
    tables = []
    for seed in seeds:
        for number, (arm, rate) in enumerate(
            (("large rate", LARGE_RATE), ("small rate", SMALL_RATE))
        ):
            rng = streams.rng(seed, "noise", number)
            path = draw_path(rng, BEGIN[None], FAST_AND_SLOW, rate, LENGTH)
            points = np.concatenate(list(path))
            drawn = {arm: points} | ({"EMA": smooth(points)} if arm == "large rate" else {})
            tables += [_tabulate(name, FAST_AND_SLOW * each[SHOWN_STEPS] ** 2 / 2).assign(run=seed)
                       for name, each in drawn.items()]  # fmt: skip
    return pd.concat(tables).assign(what="drawn")


def smooth(points: np.ndarray) -> np.ndarray:
    """The running average m <- m + delta (theta - m) from the first point on, of points' shape."""
    mean = np.empty_like(points)
    mean[0] = points[0]
    for t in range(1, len(points)):
        mean[t] = mean[t - 1] + (points[t] - mean[t - 1]) / AVERAGING_TIME
    return mean


def _tabulate(arm: str, losses: np.ndarray) -> pd.DataFrame:
    tables = [pd.DataFrame({"arm": arm, "step": SHOWN_STEPS, "direction": name, "loss": loss})
              for name, loss in zip(("fast", "slow"), losses.T, strict=True)]  # fmt: skip
    return pd.concat(tables)
