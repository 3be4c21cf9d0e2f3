"""A mini-batch is a pure function of (seed, stream, step): any step can be drawn again.

Step t lies in epoch t // (n // size); the permutation, crops, flips, cutouts and noise of an epoch
are tables drawn from `streams.rng(seed, use, epoch, stream)`. The last, incomplete batch of an
epoch is dropped.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from replicate.streams import rng


class Batches:
    """Mini-batches of images that lie on the device as uint8 and are augmented there.

    x: (n, height, width, channels) uint8; y: (n,) integer labels below `classes`. Pixels leave
    standardised by the mean and standard deviation of each channel over x.
    """

    loss: Callable[[Tensor, Tensor], Tensor] = staticmethod(functional.cross_entropy)

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        size: int,
        classes: int,
        device: str = "cpu",
        pad: int = 0,
        flip: bool = False,
        pixel_noise: float = 0.0,
        label_noise: float = 0.0,
        cutout: int = 0,
    ):
        """size: images per batch; pad: pixels of zero padding before a random crop; flip: mirror
        half of the images.

        cutout: edge of a square at a random place that is set to the mean, as far as it lies in the
        image (DeVries and Taylor 2017 leave the edge to the user, 16 on CIFAR-10); 0 for none.

        pixel_noise: standard deviation of Gaussian noise, in standard deviations of the pixels;
        label_noise: share of the labels that are drawn anew, uniformly, each time. Raises
        ValueError if a value is out of range.
        """
        _check_size(size, len(x))
        _check_augmentation(pad, pixel_noise, label_noise)
        _check_cutout(cutout, max(x.shape[1:3]))
        self.size = size
        self.classes = classes
        self.pad = pad
        self.flip = flip
        self.cutout = cutout
        self.pixel_noise = pixel_noise
        self.label_noise = label_noise
        self.per_epoch = len(x) // size
        self.device = torch.device(device)
        self._place(x, y)
        # Tables of the latest epoch, and which one that is.
        self._epoch: tuple = ()
        self._tables: dict[str, Tensor] = {}

    def _place(self, x: np.ndarray, y: np.ndarray) -> None:
        """Put pixels, labels and moments on the device."""
        mean, deviation = _moments(x)
        # A value of each channel, repeated along a row of pixels: subtracting a row is 3 times
        # faster than subtracting a channel.
        self._mean = self._repeat(mean, x.shape[2])
        self._scale = self._repeat(1 / deviation, x.shape[2])
        border = ((0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0))
        padded = torch.from_numpy(np.pad(x, border)).to(self.device)
        self._x = torch.cat([padded, padded.flip(2)]) if self.flip else padded
        self._y = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        self._shape = x.shape

    def _repeat(self, channels: np.ndarray, width: int) -> Tensor:
        values = np.tile(channels, width)
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def resize(self, size: int) -> "Batches":
        """The same images and augmentation in batches of another size; the pixels are shared.

        Raises ValueError if the size is out of range.
        """
        _check_size(size, len(self._y))
        other = copy.copy(self)
        other.size = size
        other.per_epoch = len(self._y) // size
        return other

    def batch(self, seed: int, stream: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (size, channels, height, width) float32, channels-last; labels (size,) int64."""
        images, labels = self.batches([(seed, stream)], step)
        return images[0], labels[0]

    def batches(self, runs: Sequence[tuple[int, int]], step: int) -> tuple[Tensor, Tensor]:
        """The batches of several runs (seed, stream) at one step, gathered at once.

        Images (runs, size, channels, height, width), labels (runs, size); run by run they are those
        of `batch`.
        """
        epoch, index = divmod(step, self.per_epoch)
        rows = slice(index * self.size, (index + 1) * self.size)
        distinct = tuple(dict.fromkeys(runs))
        tables = {
            name: table[:, rows].flatten(0, 1)
            for name, table in self._load_tables(distinct, epoch).items()
        }
        images, labels = (
            tensor.unflatten(0, (len(distinct), -1)) for tensor in self.gather(tables)
        )
        if len(distinct) == len(runs):
            return images, labels
        lanes = torch.tensor([distinct.index(run) for run in runs], device=self.device)
        return images[lanes], labels[lanes]

    def tables(self, seed: int, stream: int, epoch: int) -> dict[str, Tensor]:
        """Every random choice of an epoch, in its order, for `gather`.

        (images, ...) each, on the device.
        """
        tables = self._load_tables(((seed, stream),), epoch)
        return {name: table[0] for name, table in tables.items()}

    def draws(self, seed: int, stream: int, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images and labels of a stream, with noise.

        They are fixed draws of the distribution that is trained on.
        """
        steps = range(-(-count // self.size))
        batches = [self.batch(seed, stream, step) for step in steps]
        images = torch.cat([x for x, _ in batches])
        labels = torch.cat([y for _, y in batches])
        return images[:count], labels[:count]

    def plain(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images (n, height, width, channels) uint8 and labels (n,) as a model takes them.

        They are standardised and not augmented.
        """
        pixels = torch.from_numpy(np.array(x)).to(self.device)
        labels = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        return self._standardise(pixels).permute(0, 3, 1, 2), labels

    def _load_tables(self, runs: tuple[tuple[int, int], ...], epoch: int) -> dict[str, Tensor]:
        """The tables of an epoch of each run, (runs, images, ...) each; the latest ones stay."""
        if self._epoch != (runs, epoch):
            drawn = [self._draw(seed, stream, epoch) for seed, stream in runs]
            stacked = {name: np.stack([tables[name] for tables in drawn]) for name in drawn[0]}
            # A new dictionary: `resized` shares the former one.
            self._tables = {
                name: torch.from_numpy(table).to(self.device) for name, table in stacked.items()
            }
            self._epoch = (runs, epoch)
        return self._tables

    def _draw(self, seed: int, stream: int, epoch: int) -> dict[str, np.ndarray]:
        n = self._shape[0]
        order = {"order": rng(seed, "order", epoch, stream).permutation(n)}
        geometry = self._draw_geometry(rng(seed, "augment", epoch, stream))
        return order | geometry | self._draw_noise(rng(seed, "noise", epoch, stream))

    def _draw_geometry(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        n, height, width, _ = self._shape
        tables = {}
        if self.pad:
            tables["top"], tables["left"] = generator.integers(0, 2 * self.pad + 1, (2, n))
        if self.flip:
            tables["mirrored"] = generator.random(n) < 0.5
        if self.cutout:
            tables["middle_row"] = generator.integers(0, height, n)
            tables["middle_column"] = generator.integers(0, width, n)
        return tables

    def _draw_noise(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        n = self._shape[0]
        tables = {}
        if self.pixel_noise:
            tables["pixels"] = generator.standard_normal(self._shape, dtype=np.float32)
        if self.label_noise:
            tables["wrong"] = generator.random(n) < self.label_noise
            tables["label"] = generator.integers(0, self.classes, n)
        return tables

    def gather(self, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The images and labels of some rows of an epoch's tables, as `batch` gives them."""
        images = self._standardise(self._crop_and_flip(tables))
        if self.cutout:
            images.flatten(2).masked_fill_(self._cover(tables), 0)
        if self.pixel_noise:
            images = images + self.pixel_noise * tables["pixels"]
        labels = self._y[tables["order"]]
        if self.label_noise:
            labels = torch.where(tables["wrong"], tables["label"], labels)
        return images.permute(0, 3, 1, 2), labels

    def _crop_and_flip(self, tables: dict[str, Tensor]) -> Tensor:
        """Order, crop and flip in a single gather of whole rows of pixels.

        (batch, height, width, channels) uint8.
        """
        n, height, width, channels = self._shape
        image = tables["order"] + n * tables["mirrored"] if self.flip else tables["order"]
        if not self.pad:
            return self._x.index_select(0, image)
        left = tables["left"]
        if self.flip:  # counted from the right in a mirrored image
            left = torch.where(tables["mirrored"], 2 * self.pad - left, left)
        _, high, wide, _ = self._x.shape
        corner = (image * high + tables["top"]) * wide + left
        first = corner[:, None] + wide * torch.arange(height, device=self.device)
        # Row i of this view begins at byte i, so its rows overlap: each row of a crop is one of
        # them, without a copy.
        run = width * channels
        rows = self._x.view(-1).as_strided((self._x.numel() - run + 1, run), (1, 1))
        pixels = rows.index_select(0, (first * channels).view(-1))
        return pixels.view(len(image), height, width, channels)

    def _standardise(self, pixels: Tensor) -> Tensor:
        """(pixels - mean) / deviation of each channel.

        pixels: (n, height, width, channels) uint8; the result is float32.
        """
        rows = pixels.flatten(2).float()
        return rows.sub_(self._mean).mul_(self._scale).view(pixels.shape)

    def _cover(self, tables: dict[str, Tensor]) -> Tensor:
        """The numbers that the square hides: (batch, height, width * channels) bool."""
        _, height, width, channels = self._shape
        half = self.cutout // 2
        column = torch.arange(width, device=self.device).repeat_interleave(channels)
        down = torch.arange(height, device=self.device) - tables["middle_row"][:, None]
        right = column - tables["middle_column"][:, None]
        inside = [(-half <= offset) & (offset < half) for offset in (down, right)]
        return inside[0][:, :, None] & inside[1][:, None, :]


def _check_size(size: int, images: int) -> None:
    if not 1 <= size <= images:
        raise ValueError(f"size must be in [1, {images}], got {size}")


def _check_augmentation(pad: int, pixel_noise: float, label_noise: float) -> None:
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise must be in [0, 1], got {label_noise}")
    if pixel_noise < 0 or pad < 0:
        values = f"{pixel_noise} and {pad}"
        raise ValueError(f"pixel_noise and pad must be at least 0, got {values}")


def _check_cutout(cutout: int, longest: int) -> None:
    if not 0 <= cutout <= longest or cutout % 2:
        raise ValueError(f"cutout must be even and in [0, {longest}], got {cutout}")


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64, (channels,) each.

    x: (n, height, width, channels) uint8. How often each of the 256 values occurs is counted, so
    both are exact up to the last sums.
    """
    channels = [x[..., c].ravel() for c in range(x.shape[-1])]
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels], axis=1)
    share = counts / counts.sum(0)
    values = np.arange(256.0)[:, None]
    mean = (share * values).sum(0)
    return mean, np.sqrt((share * (values - mean) ** 2).sum(0))
