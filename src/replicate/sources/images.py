"""What every experiment on images needs: its network, its mini-batches, and how weights are judged."""

from __future__ import annotations

from collections.abc import Mapping

from replicate import averaging, datasets, models, runs, training
from replicate.sources.settings import ImageSettings

# Streams of mini-batches. Nobody trains on the last two, so that what is judged is independent of
# what was trained.
MAIN, OTHER = 0, 1
NORM, DRAWS = 2**31, 2**31 + 1


def network(settings: ImageSettings, seed: int, images: datasets.Images, device: str):
    """The settings' network with the weights of a seed, for these images, on the device."""
    return build(settings, seed, images.train_x.shape[1:], images.classes, device).to(device)


def build(settings: ImageSettings, seed: int, shape: tuple[int, ...], classes: int, device: str):
    """The same for images of a shape, (channels, height, width); its arithmetic is the device's,
    its weights are not.
    """
    half = settings.precision == "bfloat16" and runs.gains_by_bfloat16(device)
    specification = models.Specification(settings.model, settings.width, settings.stem, half)
    return models.build(specification, shape, classes, seed)


def batches(
    settings: ImageSettings, images: datasets.Images, batch: int, device: str
) -> datasets.Batches:
    """Mini-batches of the training images with the settings' augmentation and noise."""
    return datasets.Batches(
        images.train_x, images.train_y, batch, images.classes, device, settings.pad, settings.flip,
        settings.pixel_noise, settings.label_noise,
    )  # fmt: skip


def norm_batches(data: datasets.Batches, size: int, count: int) -> list:
    """The mini-batches that BatchNorm is re-estimated on, the same for every weight vector."""
    resized = data.resize(size)
    return [resized.batch(0, NORM, step)[0] for step in range(count)]


def evaluator(model, sets: Mapping[str, tuple], norm: list) -> training.Evaluator:
    """Weights -> loss (nats) and accuracy (fraction) on each set of images, BatchNorm re-estimated
    on `norm` first.

    Columns: train_loss, train_top1, ...; the accuracy on the set `test` is called top1. Without
    weights, those that the model has.
    """
    columns = {}
    for name in sets:
        columns[f"{name}_loss"] = (name, "loss")
        columns["top1" if name == "test" else f"{name}_top1"] = (name, "top1")
    re_estimate = averaging.recompute_batch_norm if norm else None
    return training.Evaluator(model, sets, norm, re_estimate, columns=columns)


def operations_per_image(settings: ImageSettings, dataset: str) -> tuple[float, float]:
    """Multiplications and additions of a forward pass, and of a forward and a backward pass, of one
    image.
    """
    images = datasets.describe(dataset)
    return models.count_operations(
        build(settings, 0, images.shape, images.classes, "cpu"), images.shape
    )
