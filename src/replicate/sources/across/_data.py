"""The images of the task: mini-batches to train on, and the sets that weights are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from replicate import datasets
from replicate.sources import images as kit
from replicate.sources.across._task import Task

NORM_IMAGES = 256


@dataclass(frozen=True, eq=False)
class Data:
    """batches: with the noise of the task; sets: without it; norm: what BatchNorm is re-estimated on
    before weights are judged, empty where there is none.
    """

    images: datasets.Images
    batches: datasets.Batches
    sets: Mapping[str, tuple]
    norm: list

    @classmethod
    def load(cls, settings: Task, device: str) -> Data:
        """The last share `validation` of the training images is held out in every run."""
        images = datasets.load(settings.dataset)
        count = round(len(images.train_x) * (1 - settings.validation))
        trained = replace(images, train_x=images.train_x[:count], train_y=images.train_y[:count])
        batches = kit.batches(settings, trained, settings.batch, device)
        first = slice(settings.curve_images)
        sets = {
            "train": batches.plain(trained.train_x[first], trained.train_y[first]),
            "valid": batches.plain(images.train_x[count:][first], images.train_y[count:][first]),
            "test": batches.plain(images.test_x[first], images.test_y[first]),
        }
        has_norm = settings.model != "mlp"
        norm = kit.norm_batches(batches, min(NORM_IMAGES, count), settings.norm_batches)
        return cls(images, batches, sets, norm if has_norm else [])
