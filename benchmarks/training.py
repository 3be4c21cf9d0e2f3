"""Goals C10 and C12: training ResNet-8 end to end against a plain script, and its bookkeeping.

The plain script crops and mirrors image by image, runs in float32 in torch's first memory format
with torch's SGD, and asks for the loss as a number at every step. Ours is the project's: bfloat16
where the processor has AMX tiles.
"""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import goals, harness, peers
from benchmarks.inputs import CLASSES, draw_images
from replicate.averaging import KernelAverages, ema, swa, two_point
from replicate.datasets import Batches
from replicate.models import resnet8
from replicate.optim import SGD
from replicate.runs import gains_by_bfloat16
from replicate.training import Checkpoints, State, advance, flat_weights, load_flat, steps
from replicate.training.schedules import constant

SETTINGS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
SAVED = 10  # rounds between two checkpoints, a tenth of what a run has
PLAIN = "the plain script"
FLOAT32 = "ours in float32"
BOOKKEEPING = "ours, averages and checkpoints too"
BARE = "forward, backward and update alone"


@dataclass(frozen=True)
class Size:
    """images: of an epoch; size: of a batch; steps: of a round."""

    images: int = 5120
    size: int = 128
    width: int = 16
    steps: int = 4
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size(32, 8, 4, 2, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """The ratios, then the share that bookkeeping takes."""
    half = gains_by_bfloat16("cpu")
    ours = f"ours in {'bfloat16' if half else 'float32'}, the preset's"
    is_stated = size == FULL
    with tempfile.TemporaryDirectory() as folder:
        runs = make_runs(size, half, Path(folder), ours)
        comparison = harness.Comparison(
            f"ResNet-8, width {size.width}, batch {size.size}, {size.steps} steps",
            {name: take(run, size.steps) for name, run in runs.items()},
            lambda: list_first_losses(size),
            (1e-3, 1e-3),
            {"C10 AMX": (PLAIN, ours)} if half else {"C10 float32": (PLAIN, FLOAT32)},
            size.rounds,
            is_stated=is_stated,
        )
        harness.check_equal(comparison.title, comparison.results(), *comparison.tolerance)
        seconds = harness.take_turns(comparison)
    yield harness.Table(comparison.title, harness.list_ratios(comparison, seconds))
    share = seconds[BOOKKEEPING] / seconds[BARE] - 1
    row = harness.Row(goals.choose("C12", is_stated), f"{BOOKKEEPING}: share", "fraction", share)
    yield harness.Table(f"beyond {BARE}", [row])


def make_runs(size: Size, half: bool, folder: Path, ours: str) -> dict[str, Iterator]:
    """name -> run that gives something at every step; the last one is ours."""
    return {
        PLAIN: step_plainly(size),
        FLOAT32: step_ours(size, False),
        BOOKKEEPING: step_with_bookkeeping(size, half, folder),
        BARE: step_bare(size, half),
        ours: step_ours(size, half),
    }


def list_first_losses(size: Size) -> dict[str, np.ndarray]:
    """The first three losses of the script and of ours, both in float32."""
    pair = {PLAIN: step_plainly(size), FLOAT32: step_ours(size, False)}
    return {
        name: np.array([loss.item() for loss in itertools.islice(run, 3)])
        for name, run in pair.items()
    }


def make_batches(size: Size) -> tuple[np.ndarray, np.ndarray, Batches]:
    """Images, labels, and the batches of both."""
    x, y = draw_images(size.images)
    return x, y, Batches(x, y, size.size, CLASSES, pad=peers.PAD, flip=True)


def make_model(size: Size, half: bool) -> torch.nn.Module:
    """The project's network."""
    return resnet8(CLASSES, 0, size.width, "cifar", half)


def step_plainly(size: Size) -> Iterator[Tensor]:
    """The script, at the project's initial weights."""
    plain = peers.ResNet8(CLASSES, size.width)
    load_flat(plain, flat_weights(make_model(size, half=False)))
    return peers.train_eagerly(plain, augment_plainly(size), reads=1, **SETTINGS)


def augment_plainly(size: Size) -> Iterator[tuple[Tensor, Tensor]]:
    """The script's batches, image by image, in the order of the project's."""
    x, y, data = make_batches(size)
    mean = x.mean((0, 1, 2))
    deviation = x.std((0, 1, 2))
    for step in itertools.count():
        epoch, index = divmod(step, data.per_epoch)
        rows = slice(index * size.size, (index + 1) * size.size)
        tables = {name: table.numpy() for name, table in data.tables(0, 0, epoch).items()}
        images = peers.augment_per_image(x, tables, mean, deviation, rows)
        yield images, torch.from_numpy(y[tables["order"][rows]])


def step_ours(size: Size, half: bool) -> Iterator[Tensor]:
    """The loss of each step of the project's loop."""
    model = make_model(size, half)
    optimizer = SGD(model.parameters(), fused=True, **SETTINGS)
    _, _, data = make_batches(size)
    rate = constant(SETTINGS["lr"])
    for _, loss in steps(model, data, optimizer, rate, 0, 0, 0, 10**9):
        yield loss


def step_bare(size: Size, half: bool) -> Iterator[Tensor]:
    """Forward, backward and update on batches that lie ready, and nothing else."""
    model = make_model(size, half)
    optimizer = SGD(model.parameters(), fused=True, **SETTINGS)
    _, _, data = make_batches(size)
    ready = [data.batch(0, 0, step) for step in range(data.per_epoch)]
    for images, labels in itertools.cycle(ready):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        yield loss


def step_with_bookkeeping(size: Size, half: bool, folder: Path) -> Iterator[list]:
    """As `step_ours`, with nine averages, and checkpoints ten times as often as a run saves."""
    model = make_model(size, half)
    kernels = {
        f"{kernel.__name__} {k}": kernel(k)
        for kernel in (swa, two_point, ema)
        for k in (100, 1000, 3000)
    }
    averages = KernelAverages(kernels, flat_weights(model))
    state = State(model, SGD(model.parameters(), fused=True, **SETTINGS), (averages,))
    checkpoints = Checkpoints(folder, "bench")
    _, _, data = make_batches(size)
    for step in itertools.count(1):
        state, losses = advance(state, data, constant(SETTINGS["lr"]), 0, 0, step)
        if step % (SAVED * size.steps) == 0:
            checkpoints.save(state, {"losses": losses})
        yield losses


def take(run: Iterator, count: int) -> harness.Job:
    """A job: the next `count` steps."""

    def job() -> None:
        for _ in itertools.islice(run, count):
            pass

    return job
