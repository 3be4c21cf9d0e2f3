"""Which trial an arm is judged at: the one that the other seeds' held-out training images choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

GRID_MOVES = {"tuned": 0, "tuned lower": -1, "tuned higher": 1}  # steps of the grid of rates
TRIAL = ["weight_decay", "lr"]


def choose_trials(rows: pd.DataFrame, by: tuple[str, ...]) -> dict[int, tuple]:
    """Seed -> the (weight_decay, lr) with the best mean over the other seeds; no entry if those lose
    at every trial.

    rows: of an arm, with columns seed, TRIAL and those of `by`, which decide in their order: of an
    accuracy the highest, of a loss the lowest is best. A trial at which any of the others was lost
    is out.
    """
    wide = rows.pivot(index="seed", columns=TRIAL, values=list(by))
    signs = [1 if name.endswith("loss") else -1 for name in by]
    chosen = {}
    for seed in wide.index:
        others = wide.drop(index=seed)
        if others.empty:
            continue
        costs = np.array([sign * others[name].to_numpy().mean(axis=0)
                          for name, sign in zip(by, signs, strict=True)])  # fmt: skip
        if np.isfinite(costs).all(axis=0).any():
            costs[:, ~np.isfinite(costs).all(axis=0)] = np.inf
            chosen[seed] = tuple(map(float, wide[by[0]].columns[np.lexsort(costs[::-1])[0]]))
    return chosen


def regimes(grid: list[float], lr: float) -> Iterator[tuple[str, float]]:
    """(regime, rate) of a tuned rate and its neighbours on the grid, which rises."""
    place = grid.index(lr)
    for regime, step in GRID_MOVES.items():
        if 0 <= place + step < len(grid):
            yield regime, grid[place + step]


def is_at_edge(grid: list[float], lr: float) -> int:
    """1 where a rate is the first or the last of its grid."""
    return int(lr in (grid[0], grid[-1]))
