"""ImageNet's validation accuracies and Table 2: SGD and Lookahead by one recipe, under two schedules.

    lambda(t) = lambda / 10^drops        drops: those of the schedule's epochs that are over at step t

Both have the same rate, which the recipe says and nothing tunes, and every mini-batch in common.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from replicate import averaging, datasets, models, paths, runs, training
from replicate.errors import Diverged
from replicate.sources import images as kit
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead.settings import Settings


class Schedule(NamedTuple):
    """How many epochs it has, and those after which the rate is divided by DROP."""

    epochs: int
    drops: tuple[int, ...]


# The paper's figure and its caption: dashed and solid curves, the latter called aggressive.
SCHEDULES = {"aggressive": Schedule(60, (30, 48, 58)), "plain": Schedule(90, (30, 60))}
DROP = 10.0  # somebody's reading of the paper; PyTorch's example
RECIPE = 60  # epochs that the settings' steps are
EPOCHS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # Table 2's 50 and 60, and as far apart again: ours
RECIPE_METHODS = ("sgd", "lookahead")
# The running mean forgets in k steps what a pull leaves of the slow weights, 1 - alpha.
ARMS = {"sgd": ("sgd", "sgd-ema"), "lookahead": ("lookahead",)}
METRICS = ("top1", "top5", "test_loss")
OF_THE_TEST = {"test_loss": ("test", "loss"), "top1": ("test", "top1"), "top5": ("test", "top5")}


def list_points(settings: Settings) -> list[dict]:
    """Both methods under both schedules."""
    return [
        {"seed": seed, "schedule": schedule, "method": method}
        for seed in settings.seeds
        for schedule in SCHEDULES
        for method in RECIPE_METHODS
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs: their steps, and a look at an arm at each epoch."""
    described = datasets.describe(settings.dataset)
    shape = (3, *described.shape[1:])
    network = build_network(settings, 0, shape, described.classes, "cpu")
    forward, both = models.count_operations(network, shape)
    seen = min(settings.curve_images, described.test_images)
    seen += settings.norm_batches * _networks.BATCH_OF_NORM
    total = 0.0
    for point in list_points(settings):
        looks = len(ARMS[point["method"]]) * len(list_epochs(point["schedule"]))
        total += settings.batch * _steps_to(settings, SCHEDULES[point["schedule"]].epochs) * both
        total += looks * seen * forward
    return total


@experiment(
    fields={
        "schedule": tuple(SCHEDULES),
        "arm": tuple(arm for arms in ARMS.values() for arm in arms),
        "epoch": EPOCHS,
    },
    metrics=METRICS,
    datasets=("digits", "imagewoof-64", "imagenet", "imagenet-deep"),
    needs_data=True,
    operations=operations,
    evidence={"imagewoof-64": Evidence(48, "ImageNet's recipe on ten of its classes, ResNet-18")},
    night={"imagewoof-64": Evidence(57, "ImageNet's recipe on ten of its classes")},
)
def imagenet(settings: Settings) -> pd.DataFrame:
    """What every run is at the ends of epochs: columns seed, schedule, method, arm, epoch and the
    metrics of the test images, accuracies as shares.

    epoch: of the source's recipe, a sixtieth of the settings' steps.
    """
    return runs.each(train_run, settings, list_points(settings)).table


def train_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one point at its epochs; NaN from the epoch on in which it diverged."""
    rows = list(_train(settings, point, device))
    seen = {row["epoch"] for row in rows}
    nothing = dict.fromkeys(METRICS, math.nan)
    rows += [
        {"arm": arm, "epoch": epoch} | nothing
        for epoch in list_epochs(point["schedule"])
        if epoch not in seen
        for arm in ARMS[point["method"]]
    ]
    return pd.DataFrame(rows)


def list_epochs(schedule: str) -> list[int]:
    """The epochs at whose ends a run is looked at."""
    return [epoch for epoch in EPOCHS if epoch <= SCHEDULES[schedule].epochs]


def rate_at(settings: Settings, schedule: str, step: int) -> float:
    """The rate of a step, from 0."""
    drops = SCHEDULES[schedule].drops
    return settings.lr / DROP ** sum(step >= _steps_to(settings, epoch) for epoch in drops)


def build_network(settings: Settings, seed: int, shape: tuple[int, ...], classes: int, device: str):
    """The settings' network at the weights of a seed."""
    if settings.model != "resnet152":
        return kit.build(settings, seed, shape, classes, device)
    half = settings.precision == "bfloat16" and runs.gains_by_bfloat16(device)
    return models.resnet152(classes, seed, settings.stem, half)


def sum_losses(outputs, labels):
    """The sum of - log softmax(outputs)[label], nats; outputs (n, classes), labels (n,)."""
    return (outputs.logsumexp(1) - outputs.gather(1, labels[:, None])[:, 0]).sum()


def count_top1(outputs, labels):
    """How many labels (n,) have the largest output of their rows, (n, classes)."""
    return (outputs.argmax(1) == labels).sum()


def count_top5(outputs, labels):
    """How many labels (n,) are among the five largest outputs of their rows, (n, classes)."""
    largest = outputs.topk(min(5, outputs.shape[1])).indices
    return (largest == labels[:, None]).any(1).sum()


class Photographs(NamedTuple):
    """Mini-batches to train on, the test images, and those that BatchNorm is re-estimated on."""

    batches: datasets.Batches
    test: tuple
    norm: list

    @classmethod
    def open(cls, settings: Settings, device: str) -> Photographs:
        """Of a set in shards only what is looked at is read, and all of it is trained on; of
        another, a fifth is held out as in every experiment here.
        """
        if settings.dataset != "imagenet":
            data = _networks.Data.load(settings, device)
            return cls(data.batches, data.sets["test"], data.norm)
        folder = paths.data_folder() / settings.dataset
        trained, judged = (datasets.Pixels(folder, split) for split in ("train", "val"))
        batches = datasets.MappedBatches(
            trained, settings.batch, device, settings.pad, settings.flip
        )
        order = np.arange(min(settings.curve_images, len(judged)))
        test = batches.plain(judged.take(order), judged.labels[order])
        size = min(_networks.BATCH_OF_NORM, len(trained))
        norm = kit.norm_batches(batches, size, settings.norm_batches)
        return cls(batches, test, norm)


def _train(settings: Settings, point: dict, device: str) -> Iterator[dict]:
    """The rows of a run until it ends or diverges."""
    data = Photographs.open(settings, device)
    method, schedule = IMAGE_METHODS[point["method"]], point["schedule"]
    shape = data.test[0].shape[1:]
    model = build_network(settings, point["seed"], shape, data.batches.classes, device).to(device)
    optimizer = method.make(model.parameters(), settings, settings.lr)
    means = _running_means(settings, schedule)
    averages = averaging.KernelAverages(means, model) if len(ARMS[point["method"]]) > 1 else None
    listeners = (averages,) if averages else ()
    stops = [_steps_to(settings, epoch) for epoch in list_epochs(schedule)]
    for epoch, start, stop in zip(list_epochs(schedule), [0, *stops], stops, strict=False):
        steps = training.steps(
            model, data.batches, optimizer, lambda step: rate_at(settings, schedule, step),
            point["seed"], kit.MAIN, start, stop, listeners,
        )  # fmt: skip
        try:
            collections.deque(steps, maxlen=0)
        except Diverged:
            return
        with method.show(optimizer):
            evaluate = _evaluator(model, data)
            for arm in ARMS[point["method"]]:
                weights = averages[epoch] if arm.endswith("-ema") else None
                yield {"arm": arm, "epoch": epoch} | evaluate(weights)


def _evaluator(model, data: Photographs) -> training.Evaluator:
    return training.Evaluator(
        model, {"test": data.test}, data.norm, averaging.recompute_batch_norm,
        metrics={"loss": sum_losses, "top1": count_top1, "top5": count_top5}, columns=OF_THE_TEST,
    )  # fmt: skip


def _running_means(settings: Settings, schedule: str) -> dict[int, object]:
    """Epoch -> the kernel of the running mean of the iterates up to its end."""
    delta = 1 - (1 - settings.alpha) ** (1 / settings.k)
    return {
        epoch: averaging.ema(_steps_to(settings, epoch), delta) for epoch in list_epochs(schedule)
    }


def _steps_to(settings: Settings, epoch: int) -> int:
    """The steps that are over at the end of an epoch."""
    return round(epoch * settings.steps / RECIPE)
