"""Goal C11: what the preset's network learns of real images in a CPU time, on one thread.

One seed, fixed beforehand; the test images are looked at once, at the end. Beside it stands the
rate of the processor's matrix products, without which seconds say nothing.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from benchmarks import goals, harness
from replicate import datasets
from replicate.app.stages import matrix_rate
from replicate.averaging import recompute_batch_norm
from replicate.datasets import Batches
from replicate.errors import Missing
from replicate.models import mlp, resnet8
from replicate.numerics import one_thread, stopwatch
from replicate.optim import SGD
from replicate.runs import gains_by_bfloat16
from replicate.training import evaluate, steps

BATCH = 128
RATES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
SETTINGS = {"lr": 1.0, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True, "fused": True}


@dataclass(frozen=True)
class Size:
    """digits, cifar10: epochs; cifar10 = 0 leaves it out."""

    digits: float = 150
    cifar10: float = 4.9
    matrix: int = 1024


FULL = Size()
TINY = Size(0.4, 0, 64)


def measure(size: Size) -> Iterator[harness.Table]:
    """Rates, digits, and CIFAR-10 where it is at hand."""
    with one_thread():
        rates = {kind: matrix_rate("cpu", size.matrix, kind) for kind in RATES}
        rows = [harness.Row("", RATES[kind], "G/s", [rate / 1e9]) for kind, rate in rates.items()]
        yield harness.Table("products of matrices, one thread", rows)
        digits = datasets.load("digits")
        model = mlp(64, (128, 128), 10, 0)
        keys = choose_keys("C11 digits", "C11 digits seconds", size)
        yield learn("digits, three layers", digits, model, 0.2, size.digits, keys, pad=1)
        if not size.cifar10:
            return
        try:
            images = datasets.load("cifar10")
        except Missing as error:
            print(f"going on without cifar10: {error}", file=sys.stderr)
            return
        model = resnet8(10, 0, 32, "stride2", gains_by_bfloat16("cpu"))
        keys = choose_keys("C11 cifar10", "C11 cifar10 seconds", size)
        title = "cifar10, ResNet-8, width 32"
        yield learn(title, images, model, 0.4, size.cifar10, keys, pad=2, flip=True)


def choose_keys(accuracy: str, seconds: str, size: Size) -> tuple[str, str]:
    """The two goals where the size is the stated one, else none."""
    is_stated = size == FULL
    return goals.choose(accuracy, is_stated), goals.choose(seconds, is_stated)


def learn(
    title: str,
    images,
    model: nn.Module,
    peak: float,
    epochs: float,
    keys: tuple[str, str],
    **augmentation,
) -> harness.Table:
    """Train and evaluate. keys: goals of the accuracy and of the CPU seconds."""
    data = Batches(images.train_x, images.train_y, BATCH, images.classes, **augmentation)
    data.loss = partial(functional.cross_entropy, label_smoothing=0.1)
    stop = max(1, int(epochs * data.per_epoch))
    seconds = train(model, data, peak, stop)
    recompute_batch_norm(model, [data.batch(0, 1, step)[0] for step in range(20)])
    _, top1 = evaluate(model, *data.plain(images.test_x, images.test_y))
    return harness.Table(
        f"{title}, {stop} steps, {len(images.test_y)} test images",
        [
            harness.Row(keys[0], "accuracy", "fraction", [float(top1)]),
            harness.Row(keys[1], "training", "CPU seconds", [seconds]),
        ],
    )


def train(model: nn.Module, data: Batches, peak: float, stop: int) -> float:
    """Train for so many steps; the CPU seconds."""
    optimizer = SGD(model.parameters(), **SETTINGS)
    elapsed = stopwatch()
    for _ in steps(model, data, optimizer, rise_and_fall(peak, stop), 0, 0, 0, stop):
        pass
    return elapsed()


def rise_and_fall(peak: float, stop: int) -> Callable[[int], float]:
    """Up to `peak` over the first fifth of the steps, then down to zero, both in a line."""
    top = stop / 5
    return lambda step: peak * min((step + 1) / top, (stop - step) / (stop - top))
