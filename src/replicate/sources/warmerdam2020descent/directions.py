"""Whether the direction hardly changes early on: cosines of successive gradients of SGD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _tasks
from replicate.sources.warmerdam2020descent.settings import Settings

TENTHS = 10


@experiment(
    fields={"rate": ("source", "tuned"), "tenth": range(TENTHS)},
    metrics=("cosine",),
    datasets=("figure9", "figure11"),
)
def directions(settings: Settings) -> pd.DataFrame:
    """Mean cosine of successive gradients of SGD over each tenth of the run.

    Columns: seed, rate ("source" or "tuned"), tenth (0..9), cosine; of the whole set.
    """
    tuning = _curves.run_tuning(settings, ("SGD",))
    return runs.each(
        follow_gradients, settings, [{"seed": s} for s in settings.seeds], after=tuning
    ).table


def follow_gradients(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """SGD at both rates, and the gradient at each of its iterates."""
    task = _tasks.make_task(settings, point["seed"])
    rows = []
    best = _curves.choose_rates(runs.tables_in(parents))["SGD"].best
    for rate, lr in (("source", settings.lr), ("tuned", best)):
        path = descent.train(
            descent.Sgd(),
            task.loss,
            task.data,
            task.start,
            lr,
            settings.steps,
            path=True,
            dtype=task.dtype,
        ).path
        g = descent.gradient(task.loss, task.data, path, dtype=task.dtype)
        norm = np.linalg.norm(g, axis=1)
        cosine = (g[1:] * g[:-1]).sum(1) / np.maximum(norm[1:] * norm[:-1], np.finfo(float).tiny)
        means = [tenth.mean() for tenth in np.array_split(cosine, TENTHS)]
        rows += [{"rate": rate, "tenth": i, "cosine": float(mean)} for i, mean in enumerate(means)]
    return pd.DataFrame(rows)
