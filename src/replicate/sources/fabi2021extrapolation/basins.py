"""Which minimum a start leads to: the share of uniform starts that end at the global one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import _toys
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment
from replicate.streams import rng

SETS = 10  # of starts
BOX = (-2.0, 2.0)  # they are drawn from: where the function is usually shown
NEAR = 0.05  # distance at which a run has reached a minimum


@experiment(
    fields={"arm": ("adam", "GD+", "gradient")},
    metrics=("share",),
    datasets=("goldstein-price",),
    units=lambda settings: SETS,  # of starts; a seed is one of them
)
def basins(settings: Settings) -> pd.DataFrame:
    """Share of uniform starts that end at the global minimum and at another one.

    Columns: seed (the set of starts), branch, arm, dt, share, elsewhere (at a known local minimum),
    lost (not finite). Empty where the settings ask for no starts.
    """
    if not settings.basin_starts:
        return pd.DataFrame()
    grid = [
        {"arm": "adam", "dt": 0.0},
        *({"arm": arm, "dt": settings.dt} for arm in ("GD+", "gradient")),
    ]
    return runs.each(basin_run, settings, grid).table


def basin_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """All sets of starts of one arm side by side."""
    problem = PROBLEMS[settings.dataset]
    starts = np.stack(
        [rng(seed, "init", 0).uniform(*BOX, (settings.basin_starts, 2)) for seed in range(SETS)]
    )
    ends = _toys.run(
        settings, point["arm"], [(settings.lr, point["dt"])], starts[None], settings.steps
    )[-1, 0]
    rows = []
    for seed, end in enumerate(ends):
        near = [
            np.linalg.norm(end - np.array(minimum), axis=-1) < NEAR for minimum in problem.minima
        ]
        lost = ~np.isfinite(end).all(-1)
        elsewhere = np.any(near[1:], axis=0).mean() if near[1:] else 0.0
        rows.append((seed, 0, near[0].mean(), elsewhere, lost.mean()))
    return pd.DataFrame(rows, columns=["seed", "branch", "share", "elsewhere", "lost"])
