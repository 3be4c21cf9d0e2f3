"""Jobs of so many steps, and what they cost; the topics share them."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.settings import Settings
from benchmarks.inputs import CLASSES, PIXELS, draw_images
from benchmarks.peers import PAD, SGD_SETTINGS
from replicate import models, training
from replicate.datasets import Batches
from replicate.numerics import clock, gains_by_bfloat16
from replicate.optim import SGD
from replicate.streams import rng
from replicate.training.schedules import constant

Job = Callable[[int], object]  # of so many steps


def build(name: str, half: bool) -> nn.Module:
    """A network by its name: channels last, in bfloat16 where `half`."""
    return getattr(models, name)(CLASSES, seed=0, bfloat16=half)


def make_ours(name: str, settings: Settings, size: int, device: str, images: int = 0) -> Job:
    """The project's loop, batches included. images: of an epoch, those of the settings if 0."""
    model = build(name, half=gains_by_bfloat16(device)).to(device)
    data = make_batches(images or settings.images, size, device)
    optimizer = SGD(model.parameters(), fused=True, **SGD_SETTINGS)
    rate = constant(SGD_SETTINGS["lr"])
    return take(training.steps(model, data, optimizer, rate, 0, 0, 0, 10**9))


def make_batches(images: int, size: int, device: str) -> Batches:
    """The project's batches of random images."""
    x, y = draw_images(images)
    return Batches(x, y, size, CLASSES, device, pad=PAD, flip=True)


def take(run: Iterator) -> Job:
    """The job that takes so many steps of a run."""

    def job(steps: int) -> None:
        for _ in itertools.islice(run, steps):
            pass

    return job


def repeat(step: Callable[[], object]) -> Job:
    """The job that takes so many of these steps."""

    def job(steps: int) -> None:
        for _ in range(steps):
            step()

    return job


def repeat_batch(size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch that lies ready on the device, for ever."""
    generator = rng(0, "eval", 1)
    images = generator.standard_normal((size, 3, PIXELS, PIXELS), dtype=np.float32)
    labels = torch.from_numpy(generator.integers(0, CLASSES, size))
    return itertools.repeat((torch.from_numpy(images).to(device), labels.to(device)))


def clock_steps(
    jobs: Mapping[str, Job], steps: int, rounds: int, device: str
) -> dict[str, np.ndarray]:
    """Seconds per step of every job in every round; the jobs take turns, by `numerics.clock`.

    On CUDA they are those between two events, the waits for a loader among them.
    """
    turns = {name: lambda job=job: job(steps) for name, job in jobs.items()}
    return {name: taken / steps for name, taken in clock(turns, rounds, device).items()}


def count_round(settings: Settings, name: str, size: int) -> float:
    """Operations of a variant in all its rounds, and as much to warm up."""
    of_image = models.count_operations(build(name, half=False), (3, PIXELS, PIXELS))[1]
    return 2 * settings.rounds * settings.steps * size * of_image


def count_step_operations(settings: Settings) -> float:
    """Operations of `training_step`: every variant's."""
    variants = 3 + (2 if settings.compiled else 0)
    return sum(variants * count_round(settings, name, size) for name, size in settings.nets)


def count_script_operations(settings: Settings) -> float:
    """Operations of `scripts`."""
    epochs = replace(settings, steps=settings.epoch)
    return sum(3 * count_round(epochs, settings.large[0], size) for size in settings.script_batches)
