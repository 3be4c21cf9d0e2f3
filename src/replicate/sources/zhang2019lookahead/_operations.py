"""Multiplications and additions of runs on images: hours and GPUs are planned by them.

A run is its steps and the looks at its weights. A look is a forward pass over the three sets that
weights are judged on and, unless it takes BatchNorm's statistics as they are, over the batches that
these are re-estimated on.
"""

from collections.abc import Iterable

from replicate import datasets, models
from replicate.sources import images as kit
from replicate.sources.zhang2019lookahead._methods import IMAGE_METHODS
from replicate.sources.zhang2019lookahead._networks import BATCH_OF_NORM
from replicate.sources.zhang2019lookahead.settings import Settings


def count_steps(settings: Settings, steps: int) -> float:
    """Those of so many steps of training."""
    return steps * settings.batch * _per_image(settings)[1]


def count_looks(settings: Settings, looks: int, raw: int = 0) -> float:
    """Those of so many looks with BatchNorm re-estimated, and of `raw` ones without."""
    described = datasets.describe(settings.dataset)
    held_out = round(settings.validation * described.train_images)
    sizes = (described.train_images - held_out, held_out, described.test_images)
    judged = sum(min(settings.curve_images, size) for size in sizes)
    images = (looks + raw) * judged + looks * settings.norm_batches * BATCH_OF_NORM
    return images * _per_image(settings)[0]


def count_runs(settings: Settings, points: Iterable[dict]) -> float:
    """Those of `_networks.train_run` at every point: an arm is looked at twice at the end, once with
    BatchNorm as it is, and once at the first drop unless it is the mean of the tail.
    """
    total = 0.0
    for point in points:
        arms = IMAGE_METHODS[point["method"]].arms
        early = sum(mean != "tail" for mean in arms.values())
        total += count_steps(settings, settings.steps)
        total += count_looks(settings, len(arms) + early, raw=len(arms))
    return total


def _per_image(settings: Settings) -> tuple[float, float]:
    """Those of a forward pass, and of a forward and a backward pass; grey images get three
    channels.
    """
    described = datasets.describe(settings.dataset)
    shape = (3, *described.shape[1:])
    return models.count_operations(kit.build(settings, 0, shape, described.classes, "cpu"), shape)
