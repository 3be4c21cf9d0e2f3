"""Plain SGD and everything that is compared with it on images, on the same mini-batches in the same
order.

A seed's rate is chosen by the other seeds, on the training images or on a share of them that
nobody trains on, never on the test set. BatchNorm is re-estimated before every evaluation. A
run that diverges has the step in `lost`, and NaN for its losses and accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import datasets, runs, training
from replicate.errors import Diverged
from replicate.numerics import stopwatch
from replicate.sources import images as kit
from replicate.sources.fabi2021extrapolation._arms import ARMS, Arm
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.images import MAIN

IMAGE_ENTRIES = (
    "digits",
    "cifar10",
    "imagewoof-64",
    "tiny-imagenet-10",
    "imagewoof",
)  # entries of the presets
COMPARED = ("plain", "s=0.5")  # with batch sizes
METRICS = ("train_loss", "valid_loss", "valid_top1", "test_loss", "top1")
NORM_BATCH = 256
MOVES = {"": 0, "lower": -1, "higher": 1}  # steps of the grid from a chosen rate
WARM_STEPS = 10


def seed_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every arm of one seed at every rate that it has, `settings.rows` points of a curve each."""
    plan = plan_of(settings)
    rows = _advance_in_turn(settings, plan, point["seed"], settings.batch, settings.rows, device)
    searched = set(settings.searched)
    return rows.assign(
        batch=settings.batch,
        source=rows.lr == settings.lr,
        searched=rows.arm.isin(searched) & rows.lr.isin(settings.rates),
    )


def batch_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Both compared arms of one seed at one batch size over the whole grid of rates: the end alone."""
    plan = [(arm, lr) for arm in COMPARED for lr in settings.rates]
    rows = _advance_in_turn(settings, plan, point["seed"], point["batch"], 1, device)
    return rows.assign(source=rows.lr == settings.lr, searched=True)


def plan_of(settings: Settings) -> list[tuple[str, float]]:
    """(arm, rate) of every run of a seed: the source's rate, and the grid for arms with a search."""
    grid = [(arm, lr) for arm in settings.searched for lr in settings.rates]
    return list(dict.fromkeys([*((arm, settings.lr) for arm in settings.arms), *grid]))


def run_seeds(settings: Settings) -> pd.DataFrame:
    """The rows of `seed_run` of every seed."""
    return runs.each(seed_run, settings, [{"seed": seed} for seed in settings.seeds]).table


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    return table.groupby(["arm", "lr", "batch", "seed"], sort=False).tail(1).reset_index(drop=True)


def choose_rates(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rate of every arm and seed that the other seeds choose, and its neighbours on the grid.

    table: ends of runs on the grid, columns arm, lr, seed and the metric, a loss. A rate is chosen
    by the lowest mean over all seeds but the one that takes it; where one of these was lost the
    rate is out. Columns: arm, seed, move ("", "lower", "higher": which neighbour of the chosen
    rate), lr, at_edge (1 where the chosen rate is the first or the last of the grid). A neighbour
    beyond the grid has no row; nor has a seed without other seeds, or whose others leave no rate.
    """
    rows = []
    for arm, runs_of in table.groupby("arm", sort=False):
        losses = runs_of.pivot(index="seed", columns="lr", values=metric).sort_index(axis=1)
        rates = list(losses.columns)
        for seed in losses.index:
            means = losses.drop(index=seed).mean(axis=0, skipna=False).to_numpy()
            if not np.isfinite(means).any():
                continue
            place = int(np.nanargmin(means))
            at_edge = int(place in (0, len(rates) - 1))
            rows += [
                (arm, seed, move, rates[place + step], at_edge)
                for move, step in MOVES.items()
                if 0 <= place + step < len(rates)
            ]
    return pd.DataFrame(rows, columns=["arm", "seed", "move", "lr", "at_edge"])


def operations_per_step(settings: Settings) -> float:
    """Multiplications and additions of a step on one image: forward and backward pass, without
    evaluation.
    """
    return kit.operations_per_image(settings, settings.dataset)[1]


@dataclass(frozen=True, eq=False)
class Data:
    """The images of a run: those it trains on as mini-batches, and the three sets it is judged on."""

    images: datasets.Images
    batches: datasets.Batches
    train: tuple
    valid: tuple
    test: tuple
    norm: list

    @classmethod
    def load(cls, settings: Settings, batch: int, device: str) -> Data:
        """The last share `validation` of the training images is held out of training in every run."""
        images = datasets.load(settings.dataset)
        count = round(len(images.train_x) * (1 - settings.validation))
        trained = replace(images, train_x=images.train_x[:count], train_y=images.train_y[:count])
        data = kit.batches(settings, trained, batch, device)
        first = slice(settings.curve_images)
        has_norm = settings.model != "mlp"
        return cls(
            images,
            data,
            data.plain(trained.train_x[first], trained.train_y[first]),
            data.plain(images.train_x[count:][first], images.train_y[count:][first]),
            data.plain(images.test_x, images.test_y),
            kit.norm_batches(data, min(NORM_BATCH, count), settings.norm_batches)
            if has_norm
            else [],
        )

    def metrics(self, model, test: slice) -> dict[str, float]:
        """Losses and accuracies now. test: which images of the test set."""
        sets = {
            "train": self.train,
            "valid": self.valid,
            "test": tuple(array[test] for array in self.test),
        }
        metrics = kit.evaluator(model, sets, self.norm)()
        return {name: metrics[name] for name in METRICS}


def _advance_in_turn(
    settings: Settings,
    plan: list[tuple[str, float]],
    seed: int,
    batch: int,
    count: int,
    device: str,
) -> pd.DataFrame:
    """One run for each (arm, rate) of the plan, all brought from point to point of their curves in
    turn, so that what a machine does to one clock it does to all.

    `count` rows a run, evenly spaced to its end, and if they are several, one at its start.
    """
    data = Data.load(settings, batch, device)
    _warm_up(settings, data, seed, device)
    paths = []
    for arm, lr in plan:
        steps = settings.steps * ARMS[arm].length
        marks = [round(steps * i / count) for i in range(int(count == 1), count + 1)]
        model = kit.network(settings, seed, data.images, device)
        path = _segments(model, data.batches, ARMS[arm], lr, seed, steps, marks)
        paths.append(_rows(model, path, data, marks, settings))
    rows: list[list[dict]] = [[] for _ in paths]
    for turn in range(count + int(count > 1)):
        for number in range(len(paths)):
            # Another arm goes first each time: the first finds the caches as evaluation left them.
            place = (number + turn) % len(paths)
            rows[place].append(next(paths[place]))
    return pd.DataFrame(
        {"arm": arm, "lr": lr, "branch": 0} | row
        for (arm, lr), curve in zip(plan, rows, strict=True)
        for row in curve
    )


def _warm_up(settings: Settings, data: Data, seed: int, device: str) -> None:
    """Some steps that nobody times: a process's first ones are slow."""
    model = kit.network(settings, seed, data.images, device)
    optimizer = ARMS["plain"].optimizer(model.parameters(), settings.lr, 0, WARM_STEPS)
    stop = min(WARM_STEPS, settings.steps)
    for _ in training.steps(
        model, data.batches, optimizer, lambda step: settings.lr, seed, MAIN, 0, stop
    ):
        pass


def _rows(
    model, path: Iterator[int], data: Data, marks: list[int], settings: Settings
) -> Iterator[dict]:
    """The metrics at each mark of a path, and the seconds until it; the test set is whole at the
    last.
    """
    seconds = 0.0
    lost = math.nan
    for mark in marks:
        if math.isnan(lost):
            elapsed = stopwatch(next(model.parameters()).device)
            try:
                next(path)
            except Diverged as error:
                lost = float(error.step)
            seconds += elapsed()
        test = slice(None if mark == marks[-1] else settings.curve_images)
        metrics = dict.fromkeys(METRICS, math.nan) if lost >= 0 else data.metrics(model, test)
        yield {"step": mark, "seconds": seconds, "lost": lost} | metrics


def _segments(
    model, data, arm: Arm, lr: float, seed: int, steps: int, marks: list[int]
) -> Iterator[int]:
    """Train to each mark in turn; the optimizer is made anew where the arm begins late."""
    begin = round(arm.begin * steps)
    optimizer = arm.optimizer(model.parameters(), lr, 0, steps)
    if 0 in marks:
        yield 0
    places = sorted({*marks, begin} - {0})
    for start, stop in zip((0, *places), places, strict=False):
        if start == begin and begin:
            optimizer = arm.optimizer(model.parameters(), lr, start, steps)
        for _ in training.steps(
            model, data, optimizer, lambda step: arm.rate(lr, step, steps), seed, MAIN, start, stop
        ):
            pass
        if stop in marks:
            yield stop
