"""Ours, on Table 1: decoupled weight decay where the updates are known and do not depend on the
weights.

    theta_{t+1} = (1 - lambda d) theta_t - lambda u_t,      u_t white noise
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.averaging import ema, equivalent_schedule, swa, two_point
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import rng

WEIGHTS = 50  # of weights and updates; each is a case by itself
SHRINK = 1e-4  # lambda d of a step; 0.1 over 1000 steps, as AdamW's run on a network has it
STEP_RATE = 1e-3
KERNELS_WITH_DECAY = {"two-point": two_point, "swa": swa, "ema": ema}


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def frozen_updates(settings: Settings) -> pd.DataFrame:
    """Columns claim, case, value, control: |side-trip - average| / |average - start|, of the schedule
    that allows for the decay, and of Table 1's for a control.
    """
    rows = []
    windows = {"two-point": settings.two_point, "swa": settings.swa, "ema": settings.ema}
    for name, k in ((name, k) for name, ks in windows.items() for k in ks):
        mu = KERNELS_WITH_DECAY[name](k)
        errors = [_find_error(mu, decay) for decay in (SHRINK / STEP_RATE, 0.0)]
        rows.append(("TRAJ-65.frozen", f"quadratic {name} k={k}", *errors))
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def _find_error(mu: np.ndarray, decay: float) -> float:
    """Of the side-trip under the schedule that is right for a decay."""
    k = len(mu) - 1
    generator = rng(0, "eval", k)
    start, updates = (
        generator.standard_normal(WEIGHTS),
        generator.standard_normal((k, WEIGHTS)),
    )
    schedule = equivalent_schedule(lambda step: STEP_RATE, mu, 0, decay=decay)
    main = _follow(start, updates, np.full(k, STEP_RATE))
    trip = _follow(start, updates, np.array([schedule(step) for step in range(k)]))
    average = mu @ main
    return float(np.linalg.norm(trip[-1] - average) / np.linalg.norm(average - start))


def _follow(start: np.ndarray, updates: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """theta_0 .. theta_k, (k + 1, d)."""
    path = [start]
    for update, rate in zip(updates, rates, strict=True):
        path.append((1 - rate * SHRINK / STEP_RATE) * path[-1] - rate * update)
    return np.array(path)
