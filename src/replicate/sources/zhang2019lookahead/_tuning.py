"""Which trial an arm is judged at: the one that the other seeds' held-out training images choose."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

REGIMES = {"tuned": 0, "tuned lower": -1, "tuned higher": 1}  # steps of the grid of rates
TRIAL = ["weight_decay", "lr"]


def choose_trial(rows: pd.DataFrame, seed: int, by: tuple[str, ...]) -> tuple | None:
    """(weight_decay, lr) with the best mean over the other seeds; None if they lose at every trial.

    rows: of an arm, with columns seed, TRIAL and those of `by`, which decide in their order: of an
    accuracy the highest, of a loss the lowest is best. A trial at which any of the others was lost
    is out.
    """
    others = rows[rows.seed != seed].groupby(TRIAL)[list(by)]
    means = others.agg(lambda values: values.mean(skipna=False)).dropna()
    if means.empty:
        return None
    rising = [name.endswith("loss") for name in by]
    return means.sort_values(list(by), ascending=rising, kind="stable").index[0]


def regimes(grid: list[float], lr: float) -> Iterator[tuple[str, float]]:
    """(regime, rate) of a tuned rate and its neighbours on the grid, which rises."""
    place = grid.index(lr)
    for regime, step in REGIMES.items():
        if 0 <= place + step < len(grid):
            yield regime, grid[place + step]


def is_at_edge(grid: list[float], lr: float) -> int:
    """1 where a rate is the first or the last of its grid."""
    return int(lr in (grid[0], grid[-1]))
