"""Plain SGD and everything that is compared with it on images, on the same mini-batches in the same
order.

Rates are chosen by seeds that are not used again, on the training images and on a share of them
that nobody trains on, never on the test set. BatchNorm is re-estimated before every evaluation. A
run that diverges has the step in `lost`, and NaN for its losses and accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from replicate import datasets, runs, training
from replicate.errors import Diverged
from replicate.numerics import stopwatch
from replicate.sources import images as kit
from replicate.sources.fabi2021extrapolation._arms import ARMS, Arm
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.images import MAIN

IMAGE_ENTRIES = ("digits", "cifar10", "tiny-imagenet-10", "imagewoof")  # entries of the presets
COMPARED = ("plain", "s=0.5")  # with batch sizes
METRICS = ("train_loss", "valid_loss", "valid_top1", "test_loss", "top1")
NORM_BATCH = 256


def main_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One main seed of one arm at one rate and batch size."""
    return _runs(settings, point, [point["seed"]], settings.rows, device).drop(columns="seed")


def tuning_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """All tuning seeds of one arm at one rate and batch size: the end alone."""
    return _runs(settings, point, settings.tuning_seeds, 1, device)


def main_runs(settings: Settings, grid: pd.DataFrame) -> pd.DataFrame:
    """The rows of the main seeds; grid: columns arm, lr, batch."""
    points = [
        point | {"seed": seed} for point in grid.to_dict("records") for seed in settings.seeds
    ]
    return runs.each(main_run, settings, points).table


def search_rates(settings: Settings, arms: Iterable[str], batches: Iterable[int]) -> pd.DataFrame:
    """The ends of the tuning seeds' runs at every rate of the grid."""
    grid = [
        {"arm": arm, "lr": lr, "batch": batch}
        for batch in batches
        for arm in arms
        for lr in settings.rates
    ]
    return runs.each(tuning_run, settings, grid).table if grid else pd.DataFrame()


def choose_rates(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], float]:
    """(arm, batch) -> the rate with the lowest mean of a loss; a rate at which any seed was lost is
    out.
    """
    if table.empty:
        return {}
    means = table.groupby(["arm", "batch", "lr"])[metric].agg(
        lambda losses: losses.mean(skipna=False)
    )
    return {key: group.idxmin()[2] for key, group in means.dropna().groupby(["arm", "batch"])}


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    return table.groupby(["arm", "lr", "batch", "seed"], sort=False).tail(1).reset_index(drop=True)


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


def _runs(
    settings: Settings, point: dict, seeds: Iterable[int], count: int, device: str
) -> pd.DataFrame:
    """One run per seed: `count` rows, evenly spaced to its end, and if they are several, one at its
    start.
    """
    arm = ARMS[point["arm"]]
    data = Data.load(settings, point["batch"], device)
    steps = settings.steps * arm.length
    marks = [round(steps * i / count) for i in range(int(count == 1), count + 1)]
    rows = []
    for seed in seeds:
        model = kit.network(settings, seed, data.images, device)
        path = _segments(model, data.batches, arm, point["lr"], seed, steps, marks)
        rows += [
            {"seed": seed, "branch": 0} | row for row in _rows(model, path, data, marks, settings)
        ]
    return pd.DataFrame(rows)


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
