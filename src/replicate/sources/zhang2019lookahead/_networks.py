"""SGD and Lookahead on images, on the same mini-batches in the same order, and what is seen of each
run.

A run of SGD is three arms: its last weights, their mean that forgets as alpha and k do, and the mean
of its tail; a run of Lookahead is two: its slow weights and their mean. So arms of a run share every
gradient. BatchNorm is re-estimated before every evaluation but those of columns raw_*. A run that
diverges has NaN for its losses and accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, optim, training
from replicate.errors import Diverged
from replicate.sources import images as kit
from replicate.sources.images import MAIN
from replicate.sources.zhang2019lookahead.settings import Settings

ENTRIES_OF_IMAGES = ("digits", "cifar10")  # entries of the presets
ARMS_OF = {"sgd": ("sgd", "sgd-ema", "tail"), "lookahead": ("lookahead", "lookahead-ema")}
KERNEL_OF = {"sgd-ema": "ema", "tail": "tail", "lookahead-ema": "ema"}  # arm -> its average
END_METRICS = ("train_loss", "train_top1", "valid_loss", "valid_top1", "test_loss", "top1")
RAW = {"raw_loss": ("test", "loss"), "raw_top1": ("test", "top1")}
ALL_METRICS = ("early_loss", *END_METRICS, *RAW)
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
    """One seed of SGD or of Lookahead around it, at one rate and schedule."""

    def __init__(self, settings: Settings, point: dict, device: str):
        self.settings = settings
        self.seed = point["seed"]
        self.method = point["method"]
        self.data = Data.load(settings, device)
        self.model = kit.network(settings, self.seed, self.data.images, device)
        self.rate = schedule(settings, point["schedule"], point["lr"])
        inner = optim.SGD(
            self.model.parameters(),
            lr=point["lr"],
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        is_ahead = self.method == "lookahead"
        self.optimizer = optim.Lookahead(inner, settings.k, settings.alpha) if is_ahead else inner
        self.step = 0

    def advance(self, stop: int, averages: tuple = ()) -> None:
        """Train to a step. Raises Diverged."""
        for _ in training.steps(
            self.model, self.data.batches, self.optimizer, self.rate, self.seed, MAIN, self.step, stop, averages
        ):  # fmt: skip
            pass
        self.step = stop

    def evaluator(self) -> training.Evaluator:
        """Weights -> losses and accuracies, BatchNorm re-estimated."""
        return kit.evaluator(self.model, self.data.sets, self.data.norm)

    def raw_evaluator(self, columns: dict = RAW) -> training.Evaluator:
        """The same with the running statistics of BatchNorm as they are."""
        return training.Evaluator(
            self.model, self.data.sets, re_estimate=lambda model, batches: None, columns=columns
        )

    def show_slow(self):
        """The weights that the method is judged by, in the model's place."""
        return self.optimizer.slow_weights() if self.method == "lookahead" else nullcontext()


def schedule(settings: Settings, name: str, lr: float) -> Callable[[int], float]:
    """The rate of every step: constant, or times `drop` at each of the `drops`."""
    places = [share * settings.steps for share in settings.drops if name == "decayed"]
    return lambda step: lr * settings.drop ** sum(step >= place for place in places)


def kernels(settings: Settings, method: str) -> dict[str, np.ndarray]:
    """The averages that are looked at: weights on theta_0, theta_1, ..., sum 1.

    ema, early: to the end and to the first drop; they forget in k steps what a pull leaves of the
    slow weights, 1 - alpha, and of Lookahead go over the slow weights, one a cycle. tail: the mean
    from the share `tail` on.
    """
    steps, early = settings.steps, first_drop(settings)
    if method == "lookahead":
        return {"ema": _mean_of_slow(settings, steps), "early": _mean_of_slow(settings, early)}
    begin = min(round(settings.tail * steps), steps - 1)
    tail = np.zeros(steps + 1)
    tail[begin:] = averaging.swa(steps - begin)
    delta = 1 - (1 - settings.alpha) ** (1 / settings.k)
    means = {name: averaging.ema(end, delta) for name, end in (("ema", steps), ("early", early))}
    return means | {"tail": tail}


def _mean_of_slow(settings: Settings, steps: int) -> np.ndarray:
    """The kernel of the mean of slow weights up to the last pull within some steps."""
    count = max(1, steps // settings.k)
    weights = np.zeros(count * settings.k + 1)
    weights[:: settings.k] = averaging.ema(count, settings.alpha)
    return weights


def first_drop(settings: Settings) -> int:
    """The step at which the rate is first lowered where it is."""
    return round(settings.drops[0] * settings.steps)


def train_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one seed, method, schedule and rate: a row an arm, columns arm and metrics."""
    run = Run(settings, point, device)
    averages = averaging.KernelAverages(kernels(settings, run.method), run.model)
    try:
        run.advance(first_drop(settings), (averages,))
        early = _see_early(run, averages)
        run.advance(settings.steps, (averages,))
    except Diverged:
        nothing = dict.fromkeys(ALL_METRICS, math.nan)
        return pd.DataFrame([{"arm": arm} | nothing for arm in ARMS_OF[run.method]])
    rows = []
    with run.show_slow():
        evaluate, evaluate_raw = run.evaluator(), run.raw_evaluator()
        for arm in ARMS_OF[run.method]:
            weights = averages[KERNEL_OF[arm]] if arm in KERNEL_OF else None
            ends = evaluate(weights)
            ends = {name: ends[name] for name in END_METRICS} | evaluate_raw(weights)
            rows.append({"arm": arm, "early_loss": early.get(arm, math.nan)} | ends)
    return pd.DataFrame(rows)


def _see_early(run: Run, averages: averaging.KernelAverages) -> dict[str, float]:
    """Arm -> training loss now, of the arms that are there before the tail."""
    plain, mean = (arm for arm in ARMS_OF[run.method] if KERNEL_OF.get(arm) != "tail")
    with run.show_slow():
        evaluate = run.evaluator()
        losses = {plain: None, mean: averages["early"]}
        return {arm: evaluate(weights)["train_loss"] for arm, weights in losses.items()}
