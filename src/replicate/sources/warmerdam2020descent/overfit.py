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


@experiment(
    fields={"arm": COMPARED_METHODS, "rate": _curves.NEIGHBOURS},
    metrics=("train", "test", "at_edge"),
    datasets=("overfit",),
)
def overfit(settings: Settings) -> pd.DataFrame:
    """Test loss where the training loss is first within 10 % of its least.

    Columns: seed, arm, rate (one of NEIGHBOURS), lr, at_edge, train (over the least), test; NaN
    where a run does not come so near.
    """
    tuning = _curves.run_tuning(settings, COMPARED_METHODS)
    grid = [{"seed": s} for s in settings.seeds]
    return runs.each(fit_few_rows, settings, grid, after=tuning).table


def fit_few_rows(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Training and test loss of three methods on one seed's few rows."""
    seed = point["seed"]
    chosen = _curves.choose_rates(runs.tables_in(parents))
    rows = _tasks.draw_rows(settings, seed, settings.rows)
    task = _tasks.make_task(settings, seed)
    test = descent.moments(_tasks.draw_rows(settings, TEST_SEEDS + seed, settings.test_rows))
    design = np.vstack([rows.x, np.ones(settings.rows)]).T
    least = np.mean((design @ np.linalg.lstsq(design, rows.y, rcond=None)[0] - rows.y) ** 2)
    ends = []
    for arm in COMPARED_METHODS:
        for rate, tuned in chosen[arm].kinds().items():
            lr = CALMER * tuned
            end = _first_near(settings, task, test, arm, lr, NEAR_LEAST * least)
            of_run = {"arm": arm, "rate": rate, "lr": lr, "at_edge": int(chosen[arm].at_edge)}
            ends.append(of_run | {"train": end[0] / least, "test": end[1]})
    return pd.DataFrame(ends)


def _first_near(
    settings: Settings, task: _arms.Task, test, arm: str, lr: float, enough: float
) -> tuple[float, float]:
    """Training and test loss where the training loss is first at most `enough`, NaN if it never
    is.
    """
    method = _arms.method_of(arm, settings.maps)
    run = descent.train(method, task.loss, task.data, task.start, lr, settings.steps, path=True)
    near = np.flatnonzero(run.losses <= enough)
    if not len(near):
        return np.nan, np.nan
    return float(run.losses[near[0]]), float(descent.value(task.loss, test, run.path[near[0]]))
