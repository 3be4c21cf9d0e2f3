"""Newton's method where the post says not to expect much of it: on the nets of Figures 9 and 12,
and on few rows with noise, undamped and damped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.descent.second_order import SecondOrder
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _tasks
from replicate.sources.warmerdam2020descent._arms import ARMS, Task
from replicate.sources.warmerdam2020descent.overfit import TEST_SEEDS
from replicate.sources.warmerdam2020descent.settings import Settings

SECOND_ORDER = {
    "NEWTON": SecondOrder("hessian", damped=False),
    "DAMPED": SecondOrder("hessian"),
    "GAUSS-NEWTON": SecondOrder("gauss-newton"),
}
FIRST_ORDER = ("SGD", "ADAM")
REGRESSION = "REGRESSION"  # the undamped method on one linear map of the same rows
MOST_STEPS = 30  # of a second-order method: on Figure 9 it costs 46 000 gradients
MOST_ROWS = 1000  # of a net with ReLU, whose Hessian is taken row by row
WELL_DOWN = -2.0  # log loss to which the price is counted: the plateau is long left


@experiment(
    fields={"arm": (*SECOND_ORDER, *FIRST_ORDER, REGRESSION), "rate": _curves.NEIGHBOURS},
    metrics=("first", "train", "test", "overfit", "price", "at_edge"),
    datasets=("figure9", "figure12", "overfit"),
)
def newton_on_nets(settings: Settings) -> pd.DataFrame:
    """Dense second-order methods from the starting weights of a seed, beside SGD and Adam.

    Columns: seed, arm, rate (one of NEIGHBOURS; a method that has no rate stands under each), lr,
    at_edge, first and train (log10 of the training loss over that at the start, after one step and
    at the end), test (the same of the test loss), overfit (log10 of the test loss at the end over
    its least on the way), price (log10 of the gradients, a column of the Hessian counted as two,
    until `train` is WELL_DOWN; NaN where it never is).
    """
    tuning = _curves.run_tuning(settings, FIRST_ORDER)
    grid = [{"seed": s} for s in settings.seeds]
    return runs.each(descend_nets, settings, grid, after=tuning).table


def descend_nets(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every method on one seed's rows."""
    seed = point["seed"]
    chosen = _curves.choose_rates(runs.tables_in(parents))
    few = settings.activation != "linear"
    task = _tasks.make_task(settings, seed, min(settings.rows, MOST_ROWS) if few else None)
    unseen = _tasks.draw_rows(settings, TEST_SEEDS + seed, settings.test_rows)
    test = unseen if few else descent.moments(unseen)
    ends = []
    for arm, method in SECOND_ORDER.items():
        path = method.descend(_tasks.net_of(settings), task.data, task.start, MOST_STEPS)
        end = _measure(task, test, path.points, path.losses, path.gradients)
        ends += [
            {"arm": arm, "rate": rate, "lr": np.nan, "at_edge": 0} | end
            for rate in _curves.NEIGHBOURS
        ]
    ends += _descend_regression(settings, seed)
    for arm in FIRST_ORDER:
        for rate, lr in chosen[arm].kinds().items():
            of_run = {"arm": arm, "rate": rate, "lr": lr, "at_edge": int(chosen[arm].at_edge)}
            ends.append(of_run | _descend_by_gradients(settings, task, test, arm, lr))
    return pd.DataFrame(ends)


def _descend_regression(settings: Settings, seed: int) -> list[dict]:
    """The undamped method on one linear map, which it ends at once."""
    rows = _tasks.draw_rows(settings, seed, settings.rows)
    net = descent.Net((settings.columns, 1))
    start = descent.initial_weights(net, seed)
    path = SECOND_ORDER["NEWTON"].descend(net, descent.moments(rows), start, 1)
    logs = _curves.log_loss(path.losses)
    of_run = {"arm": REGRESSION, "lr": np.nan, "at_edge": 0, "first": logs[1], "train": logs[-1]}
    return [of_run | {"rate": rate} for rate in _curves.NEIGHBOURS]


def _descend_by_gradients(settings: Settings, task: Task, test, arm: str, lr: float) -> dict:
    """SGD or Adam for the settings' steps."""
    method = getattr(descent, ARMS[arm].method)()
    run = descent.train(
        method, task.loss, task.data, task.start, lr, settings.steps, dtype=task.dtype, path=True
    )
    return _measure(task, test, run.path, run.losses, run.gradients)


def _measure(task: Task, test, points: np.ndarray, losses: np.ndarray, paid: np.ndarray) -> dict:
    """The metrics of a path: points (t, P), losses (t,) and gradients paid before each, (t,)."""
    logs = _curves.log_loss(losses)
    tests = _curves.log_loss(descent.value(task.loss, test, points, dtype=task.dtype))
    reached = np.flatnonzero(logs <= WELL_DOWN)
    return {
        "first": logs[1],
        "train": logs[-1],
        "test": tests[-1],
        "overfit": tests[-1] - tests.min(),
        "price": np.log10(paid[reached[0]]) if len(reached) else np.nan,
    }
