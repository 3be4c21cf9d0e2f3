"""Beyond the source: walks on mini-batches, whose checks see the batch of the gradient or a fresh
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import models, optim, runs, training
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _tasks
from replicate.sources.warmerdam2020descent._arms import PASSES
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng

IMPATIENT = {"max_steps": 50, "scale_i": 2.0}  # KS_50_2
GRADIENT_STREAM = 0  # streams of mini-batches
CHECKS = 1
EARLY = 100  # steps: the first tenth of the post's thousand


@experiment(
    fields={"batch": lambda settings: settings.batches, "checks": ("same", "fresh")},
    metrics=("bias", "loss", "cosine"),
    datasets=("minibatch",),
)
def minibatches(settings: Settings) -> pd.DataFrame:
    """KS_50_2, corrected, on mini-batches, its checks on the same batch or a fresh one; cosines of
    SGD.

    Columns: seed, batch (rows), checks ("same" or "fresh"), bias (drop of the batch's loss less
    that of the whole set, mean over the last half of the outer steps), loss (log10 of the whole
    set's at the end over that of the start, after a fixed number of forward-equivalents), cosine
    (of successive gradients of SGD, first tenth of `steps`).
    """
    grid = [{"seed": s, "batch": b} for s in settings.seeds for b in settings.batches]
    return runs.each(walk_on_batches, settings, grid).table


def walk_on_batches(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One size of mini-batch on one seed, both ways to check."""
    seed = point["seed"]
    size = point["batch"]
    rows = _tasks.draw_rows(settings, seed, settings.rows)
    x, y = training.full_batch.tensors(rows.x.T, rows.y[:, None], device)
    model = models.chain(settings.dims, seed).to(device)
    few = (
        draw_batch(settings.rows, size, seed, GRADIENT_STREAM, t)
        for t in range(min(EARLY, settings.steps))
    )
    cosine = float(
        training.full_batch.cosines(
            model, x, y, optim.SGD(model.parameters(), lr=settings.lr), few
        ).mean()
    )
    ends = []
    for checks in ("same", "fresh") if size < settings.rows else ("same",):
        model = models.chain(settings.dims, seed).to(device)
        start = training.full_batch.loss_of(model, x, y)().item()
        walk = optim.KeepStepping(model.parameters(), lr=settings.lr, **IMPATIENT)
        order = draw_order(settings, size, seed, checks)
        run = training.full_batch.train_on_batches(
            model, x, y, walk, order, PASSES * settings.steps
        )
        bias = (run["batch"] - run["whole"])[len(run["whole"]) // 2 :].mean()
        end = {"bias": float(bias), "loss": float(np.log10(run["loss"][-1] / start))}
        ends.append({"checks": checks, "cosine": cosine} | end)
    return pd.DataFrame(ends)


def draw_order(settings: Settings, size: int, seed: int, checks: str) -> Iterator[tuple]:
    """Rows of the gradient and of the checks (None: the same) of each outer step."""
    for t in range(settings.steps):
        fresh = draw_batch(settings.rows, size, seed, CHECKS, t) if checks == "fresh" else None
        yield draw_batch(settings.rows, size, seed, GRADIENT_STREAM, t), fresh


def draw_batch(rows: int, size: int, seed: int, stream: int, step: int) -> np.ndarray:
    """The rows of one mini-batch, (size,), none twice."""
    return rng(seed, "order", step, stream).permutation(rows)[:size]
