"""Which rate an arm on text is judged at: the one that the other seeds' validation text chooses."""

from __future__ import annotations

import pandas as pd

from replicate.sources.zhang2019lookahead import _tuning


def judge_at_best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge, one a seed, arm and regime, with `lr` and `at_edge`.

    A seed's rate is the one with the lowest mean validation loss of the other seeds; a rate at which
    any of them was lost is out. at_edge: 1 where it is the first or the last of the arm's grid.
    """
    return pd.DataFrame([row for _, rows in table.groupby("arm") for row in _choose(rows)])


def _choose(trials: pd.DataFrame) -> list[dict]:
    """The judged rows of an arm."""
    grid = sorted(trials.lr.unique())
    places = trials.set_index(["seed", "lr"])
    return [
        places.loc[(seed, lr)].to_dict()
        | {"regime": regime, "seed": seed, "lr": lr, "at_edge": _tuning.is_at_edge(grid, rate)}
        for seed, (_, rate) in _tuning.choose_trials(trials, ("valid_loss",)).items()
        for regime, lr in _tuning.regimes(grid, rate)
    ]
