"""Multiplications and additions of runs on images: hours and GPUs are planned by them.

A run is its steps and the looks at its weights. A look is a forward pass over the three sets that
weights are judged on and over the batches that BatchNorm is re-estimated on; a raw look takes its
statistics as they are, and only those sets that are asked for.
"""

import functools
from collections.abc import Collection, Iterable

from replicate import datasets, models
from replicate.sources import images as kit
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead._networks import BATCH_OF_NORM
from replicate.sources.zhang2019lookahead.settings import Settings


def count_steps(settings: Settings, steps: int) -> float:
    """Those of so many steps of training."""
    return steps * settings.batch * _per_image(settings)[1]


def count_looks(settings: Settings, looks: int) -> float:
    """Those of so many looks."""
    images = sum(_sizes(settings).values()) + settings.norm_batches * BATCH_OF_NORM
    return looks * images * _per_image(settings)[0]


def count_raw(settings: Settings, looks: int, sets: Collection[str]) -> float:
    """Those of so many raw looks at the sets of these names."""
    sizes = _sizes(settings)
    return looks * sum(sizes[name] for name in sets) * _per_image(settings)[0]


def count_runs(settings: Settings, points: Iterable[dict]) -> float:
    """Those of `_networks.train_run` at every point: an arm is looked at at the end, raw too, and at
    the first drop unless it is the mean of the tail.
    """
    total = 0.0
    for point in points:
        arms = IMAGE_METHODS[point["method"]].arms
        early = sum(mean != "tail" for mean in arms.values())
        total += count_steps(settings, settings.steps)
        total += count_looks(settings, len(arms) + early)
        total += count_raw(settings, len(arms), ["test"])
    return total


def _sizes(settings: Settings) -> dict[str, int]:
    """Set that weights are judged on -> its images."""
    described = datasets.describe(settings.dataset)
    trained = round(described.train_images * (1 - settings.validation))
    sizes = {"train": trained, "valid": described.train_images - trained}
    sizes["test"] = described.test_images
    return {name: min(settings.curve_images, size) for name, size in sizes.items()}


@functools.lru_cache
def _per_image(settings: Settings) -> tuple[float, float]:
    """Those of a forward pass, and of a forward and a backward pass; grey images get three
    channels.
    """
    described = datasets.describe(settings.dataset)
    shape = (3, *described.shape[1:])
    return models.count_operations(kit.build(settings, 0, shape, described.classes, "cpu"), shape)
