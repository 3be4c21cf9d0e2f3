"""Optimizers on images, on the same mini-batches in the same order, and what is seen of each run.

Arms of a run share every gradient: the weights that the method is judged by, and means that are
only looked at. BatchNorm is re-estimated before every evaluation but those of columns raw_*. A run
that diverges has NaN for its losses and accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, models, training
from replicate.errors import Diverged
from replicate.sources import images as kit
from replicate.sources.images import MAIN
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS, first_drop
from replicate.sources.zhang2019lookahead.settings import Settings

END_METRICS = ("train_loss", "train_top1", "valid_loss", "valid_top1", "test_loss", "top1")
RAW = {"raw_loss": ("test", "loss"), "raw_top1": ("test", "top1")}
ALL_METRICS = ("early_loss", *END_METRICS, *RAW)
PIECES = 10  # of a training curve
CURVE = tuple(f"loss_{100 * (i + 1) // PIECES}" for i in range(PIECES))  # by percent of the run
BATCH_OF_NORM = 256


@dataclass(frozen=True, eq=False)
class Data:
    """The images of a run: those that it trains on as mini-batches, and the sets it is judged on."""

    images: datasets.Images
    batches: datasets.Batches
    sets: dict
    norm: list

    @classmethod
    def load(cls, settings: Settings, device: str) -> Data:
        """The last share `validation` of the training images is held out of training."""
        images = _colour(datasets.load(settings.dataset))
        count = round(len(images.train_x) * (1 - settings.validation))
        trained = replace(images, train_x=images.train_x[:count], train_y=images.train_y[:count])
        data = kit.batches(settings, trained, settings.batch, device)
        first = slice(settings.curve_images)
        held_out = images.train_x[count:][first], images.train_y[count:][first]
        sets = {
            "train": data.plain(trained.train_x[first], trained.train_y[first]),
            "valid": data.plain(*held_out),
            "test": data.plain(images.test_x[first], images.test_y[first]),
        }
        size = min(BATCH_OF_NORM, count)
        return cls(images, data, sets, kit.norm_batches(data, size, settings.norm_batches))


def _colour(images: datasets.Images) -> datasets.Images:
    """Grey images as three equal channels, which is what a ResNet takes."""
    if images.train_x.shape[-1] == 3:
        return images
    arrays = (np.repeat(images.train_x, 3, axis=-1), np.repeat(images.test_x, 3, axis=-1))
    return replace(images, train_x=arrays[0], test_x=arrays[1])


class Run:
    """A seed of a method at one rate and schedule.

    point: `seed`, `method`, `schedule`, `lr`, and any settings that the run has instead; net: one
    of the settings' `nets`.
    """

    def __init__(self, settings: Settings, point: dict, device: str, net: str = "batch norm"):
        instead = {name: value for name, value in point.items() if hasattr(settings, name)}
        self.settings = replace(settings, **instead)
        self.seed = point["seed"]
        self.method = IMAGE_METHODS[point["method"]]
        self.data = Data.load(self.settings, device)
        network = kit.network(self.settings, self.seed, self.data.images, device)
        self.has_statistics = net == "batch norm"
        self.model = network if self.has_statistics else models.use_group_norm(network)
        self.optimizer = self.method.make(self.model.parameters(), self.settings, point["lr"])
        # The optimizer's own rate: what a method makes of the grid's.
        self.rate = schedule(self.settings, point["schedule"], self.optimizer.param_groups[0]["lr"])
        self.step = 0

    def advance(self, stop: int, averages: tuple = ()) -> list:
        """Train to a step: the losses of the mini-batches on the way. Raises Diverged."""
        steps = training.steps(
            self.model, self.data.batches, self.optimizer, self.rate, self.seed, MAIN, self.step, stop, averages
        )  # fmt: skip
        losses = [loss for _, loss in steps]
        self.step = stop
        return losses

    def evaluator(self) -> training.Evaluator:
        """Weights -> losses and accuracies, BatchNorm re-estimated."""
        return kit.evaluator(self.model, self.data.sets, self.data.norm)

    def raw_evaluator(self, columns: dict = RAW) -> training.Evaluator:
        """The same with the running statistics of BatchNorm as they are."""
        return training.Evaluator(
            self.model, self.data.sets, re_estimate=lambda model, batches: None, columns=columns
        )


def schedule(settings: Settings, name: str, lr: float) -> Callable[[int], float]:
    """The rate of every step: constant, or times `drop` at each of the `drops`."""
    places = [share * settings.steps for share in settings.drops if name == "decayed"]
    return lambda step: lr * settings.drop ** sum(step >= place for place in places)


def train_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one point: a row an arm, columns arm, metrics and, of the method itself, CURVE.

    CURVE: mean loss of the mini-batches in each piece of the run.
    """
    run = Run(settings, point, device)
    kernels = run.method.average(run.settings)
    averages = averaging.KernelAverages(kernels, run.model) if kernels else None
    told = (averages,) if kernels else ()
    try:
        losses = run.advance(first_drop(run.settings), told)
        early = _see_early(run, averages)
        losses += run.advance(run.settings.steps, told)
    except Diverged:
        nothing = dict.fromkeys((*ALL_METRICS, *CURVE), math.nan)
        return pd.DataFrame([{"arm": arm} | nothing for arm in run.method.arms])
    values = np.array([float(loss) for loss in losses])
    curve = [float(piece.mean()) for piece in np.array_split(values, PIECES)]
    return pd.DataFrame(_see_end(run, averages, early, dict(zip(CURVE, curve, strict=True))))


def _see_early(run: Run, averages: averaging.KernelAverages | None) -> dict[str, float]:
    """Arm -> training loss now, of the arms that are there before the tail."""
    with run.method.show(run.optimizer):
        evaluate = run.evaluator()
        weights = {
            arm: averages["early"] if mean else None
            for arm, mean in run.method.arms.items()
            if mean != "tail"
        }
        return {arm: evaluate(vector)["train_loss"] for arm, vector in weights.items()}


def _see_end(
    run: Run, averages: averaging.KernelAverages | None, early: dict, curve: dict
) -> Iterator[dict]:
    """The rows of the arms at the end."""
    with run.method.show(run.optimizer):
        evaluate, evaluate_raw = run.evaluator(), run.raw_evaluator()
        for arm, mean in run.method.arms.items():
            weights = averages[mean] if mean else None
            ends = evaluate(weights)
            ends = {name: ends[name] for name in END_METRICS} | evaluate_raw(weights)
            row = {"arm": arm, "early_loss": early.get(arm, math.nan)} | ends
            yield row | ({} if mean else curve)
