"""Beyond the source: directions early and late, walks on mini-batches, and what a fast way down does to a test set."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.descent import Adam, Sgd, Stepping
from replicate.models.chain import chain
from replicate.optim import SGD, KeepStepping
from replicate.sources.warmerdam2020descent import arms
from replicate.sources.warmerdam2020descent.curves import TABLE, best_rates, made, noisy, tuned
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng
from replicate.training import full_batch as loops

TENTHS = 10
IMPATIENT = {"max_steps": 50, "scale_i": 2.0}  # KS_50_2
CHECKS, GRADIENTS = 1, 0  # streams of mini-batches
CALMER = 10**-0.5  # times the tuned rate, at which some seeds swing about a loss well above the least for ever
EARLY = 100  # steps: the first tenth of the post's thousand
NEAR = 1.1  # of the least training loss: where test losses are compared
OVERFIT = {"SGD": Sgd(), "ADAM": Adam(), "KS_50_2 corrected": Stepping(50, 2.0, "corrected")}
TEST = 2**31  # seeds of test rows


def directions(settings: Settings) -> pd.DataFrame:
    """Mean cosine of successive gradients of SGD over each tenth of the run.

    Columns: seed, rate ("source" or "tuned"), tenth (0..9), cosine; of the whole set.
    """
    tuning = runs.each(tuned, settings, [{"method": "SGD"}])
    return runs.each(directed, settings, [{"seed": s} for s in settings.seeds], after=tuning).table


def minibatches(settings: Settings) -> pd.DataFrame:
    """KS_50_2, corrected, on mini-batches, its checks on the same batch or on a fresh one; cosines of SGD's gradients.

    Columns: seed, batch (rows), checks ("same" or "fresh"), bias (drop of the batch's loss less that of the whole set,
    mean over the last half of the outer steps), loss (log10 of the whole set's at the end over that of the start, after
    a fixed number of forward-equivalents), cosine (of successive gradients of SGD, first tenth of `steps`).
    """
    grid = [{"seed": s, "batch": b} for s in settings.seeds for b in settings.batches]
    return runs.each(batched, settings, grid).table


def overfit(settings: Settings) -> pd.DataFrame:
    """Test loss where the training loss is first within 10 % of its least.

    Columns: seed, arm, lr, train (over the least), test; NaN where a run does not come so near.
    """
    tuning = runs.each(tuned, settings, [{"method": a} for a in OVERFIT])
    return runs.each(overfitted, settings, [{"seed": s} for s in settings.seeds], after=tuning).table


def directed(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """SGD at both rates, and the gradient at each of its iterates."""
    task, found = made(settings, point["seed"]), []
    best = best_rates([runs.read_table(parent / TABLE) for parent in parents])["SGD"]
    for rate, lr in (("source", settings.lr), ("tuned", best)):
        about = {"start": task.start, "lr": lr, "steps": settings.steps, "dtype": task.dtype}
        path = descent.train(Sgd(), task.loss, task.data, path=True, **about).path
        g = descent.gradient(task.loss, task.data, path, dtype=task.dtype)
        norm = np.linalg.norm(g, axis=1)
        cosine = (g[1:] * g[:-1]).sum(1) / np.maximum(norm[1:] * norm[:-1], np.finfo(float).tiny)
        parts = [part.mean() for part in np.array_split(cosine, TENTHS)]
        found += [{"rate": rate, "tenth": i, "cosine": float(part)} for i, part in enumerate(parts)]
    return pd.DataFrame(found)


def batched(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """One size of mini-batch on one seed, both ways to check."""
    seed, size = point["seed"], point["batch"]
    rows = noisy(settings, seed, settings.rows)
    x, y = loops.tensors(rows.x.T, rows.y[:, None], device)
    model = chain(settings.dims, seed).to(device)
    few = (draw(settings.rows, size, seed, GRADIENTS, t) for t in range(min(EARLY, settings.steps)))
    cosine = float(loops.cosines(model, x, y, SGD(model.parameters(), lr=settings.lr), few).mean())
    found = []
    for checks in ("same", "fresh") if size < settings.rows else ("same",):
        model = chain(settings.dims, seed).to(device)
        start = loops.loss_of(model, x, y)().item()
        walk = KeepStepping(model.parameters(), lr=settings.lr, **IMPATIENT)
        order = drawn(settings, size, seed, checks)
        run = loops.train_on_batches(model, x, y, walk, order, arms.PASSES * settings.steps)
        bias = (run["batch"] - run["whole"])[len(run["whole"]) // 2 :].mean()
        end = {"bias": float(bias), "loss": float(np.log10(run["loss"][-1] / start))}
        found.append({"checks": checks, "cosine": cosine} | end)
    return pd.DataFrame(found)


def overfitted(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Training and test loss of three methods on one seed's few rows."""
    seed, best = point["seed"], best_rates([runs.read_table(parent / TABLE) for parent in parents])
    rows, task = noisy(settings, seed, settings.rows), made(settings, seed)
    test = descent.moments(noisy(settings, TEST + seed, settings.test_rows))
    design = np.vstack([rows.x, np.ones(settings.rows)]).T
    least = np.mean((design @ np.linalg.lstsq(design, rows.y, rcond=None)[0] - rows.y) ** 2)
    found = []
    for arm, method in OVERFIT.items():
        lr = CALMER * best[arm]
        run = descent.train(method, task.loss, task.data, task.start, lr, settings.steps, path=True)
        near = np.flatnonzero(run.losses <= NEAR * least)
        at = near[0] if len(near) else len(run.losses) - 1
        worth = [float(run.losses[at]) / least, float(descent.value(task.loss, test, run.path[at]))]
        train, worth = worth if len(near) else (np.nan, np.nan)
        found.append({"arm": arm, "lr": lr, "train": train, "test": worth})
    return pd.DataFrame(found)


def drawn(settings: Settings, size: int, seed: int, checks: str) -> Iterator[tuple]:
    """Rows of the gradient and of the checks (None: the same) of each outer step."""
    for t in range(settings.steps):
        fresh = draw(settings.rows, size, seed, CHECKS, t) if checks == "fresh" else None
        yield draw(settings.rows, size, seed, GRADIENTS, t), fresh


def draw(rows: int, size: int, seed: int, stream: int, step: int) -> np.ndarray:
    """The rows of one mini-batch, (size,), none twice."""
    return rng(seed, "order", step, stream).permutation(rows)[:size]
