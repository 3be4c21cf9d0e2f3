"""Beyond the source: what a fast way down does to a test set, where training losses are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _arms, _curves, _tasks
from replicate.sources.warmerdam2020descent.settings import Settings

COMPARED_METHODS = ("SGD", "ADAM", "KS_50_2 corrected")
CALMER = (
    10**-0.5
)  # times the tuned rate, at which some seeds swing for ever well above the least loss
NEAR_LEAST = 1.1  # of the least training loss: where test losses are compared
TEST_SEEDS = 2**31  # of test rows, added to the seed


@experiment(fields={"arm": COMPARED_METHODS}, metrics=("train", "test"), datasets=("overfit",))
def overfit(settings: Settings) -> pd.DataFrame:
    """Test loss where the training loss is first within 10 % of its least.

    Columns: seed, arm, lr, train (over the least), test; NaN where a run does not come so near.
    """
    tuning = runs.each(_curves.tune, settings, [{"method": arm} for arm in COMPARED_METHODS])
    return runs.each(
        fit_few_rows, settings, [{"seed": s} for s in settings.seeds], after=tuning
    ).table


def fit_few_rows(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Training and test loss of three methods on one seed's few rows."""
    seed = point["seed"]
    best = _curves.choose_rates(runs.tables_in(parents))
    rows = _tasks.draw_rows(settings, seed, settings.rows)
    task = _tasks.make_task(settings, seed)
    test = descent.moments(_tasks.draw_rows(settings, TEST_SEEDS + seed, settings.test_rows))
    design = np.vstack([rows.x, np.ones(settings.rows)]).T
    least = np.mean((design @ np.linalg.lstsq(design, rows.y, rcond=None)[0] - rows.y) ** 2)
    ends = []
    for arm in COMPARED_METHODS:
        lr = CALMER * best[arm]
        method = _arms.method_of(arm, settings.maps)
        run = descent.train(method, task.loss, task.data, task.start, lr, settings.steps, path=True)
        near = np.flatnonzero(run.losses <= NEAR_LEAST * least)
        end = {"train": np.nan, "test": np.nan}
        if len(near):
            tested = float(descent.value(task.loss, test, run.path[near[0]]))
            end = {"train": float(run.losses[near[0]]) / least, "test": tested}
        ends.append({"arm": arm, "lr": lr} | end)
    return pd.DataFrame(ends)
