"""A mini-batch is a pure function of (seed, stream, step): nothing is remembered, so any step can be replayed.

Step t lies in epoch t // (n // size); the epoch's permutation, crops, flips, cutouts and noise are tables drawn from
`streams.rng(seed, use, epoch, stream)`. The last, incomplete batch of an epoch is left out.
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

    x: (n, height, width, channels) uint8; y: (n,) integer labels below `classes`. Pixels leave standardised by the
    mean and standard deviation of each channel over x.
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
        """size: images a batch; pad: pixels of zero padding before a random crop; flip: mirror half of the images.

        cutout: side of a square at a random place that is set to the mean, as far as it lies in the image (DeVries and
        Taylor 2017; the side is theirs to choose, 16 on CIFAR-10), 0 for none.

        pixel_noise: standard deviation of Gaussian noise, in standard deviations of the pixels; label_noise: share of
        the labels that are drawn anew, uniformly, each time. Raises ValueError if a value is out of range.
        """
        if not 1 <= size <= len(x):
            raise ValueError(f"size must be in [1, {len(x)}], got {size}")
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise must be in [0, 1], got {label_noise}")
        if pixel_noise < 0 or pad < 0:
            raise ValueError(f"pixel_noise and pad must be at least 0, got {pixel_noise} and {pad}")
        if not 0 <= cutout <= max(x.shape[1:3]) or cutout % 2:
            raise ValueError(f"cutout must be even and in [0, {max(x.shape[1:3])}], got {cutout}")
        self.size, self.classes, self.pad, self.flip, self.cutout = size, classes, pad, flip, cutout
        self.pixel_noise, self.label_noise = pixel_noise, label_noise
        self.per_epoch = len(x) // size
        self.device = torch.device(device)
        mean, deviation = _moments(x)
        # A value a channel, repeated along a row of pixels: subtracting a row is 3 times faster than a channel.
        self._mean = torch.tensor(np.tile(mean, x.shape[2]), dtype=torch.float32, device=self.device)
        self._scale = torch.tensor(np.tile(1 / deviation, x.shape[2]), dtype=torch.float32, device=self.device)
        padded = torch.from_numpy(np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))).to(self.device)
        self._x = torch.cat([padded, padded.flip(2)]) if flip else padded
        self._y = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        self._shape = x.shape
        self._epoch: tuple = ()
        self._tables: dict[str, Tensor] = {}

    def resized(self, size: int) -> "Batches":
        """The same images and augmentation in batches of another size, without a second copy of the pixels.

        Raises ValueError if the size is out of range.
        """
        if not 1 <= size <= len(self._y):
            raise ValueError(f"size must be in [1, {len(self._y)}], got {size}")
        other = copy.copy(self)
        other.size, other.per_epoch = size, len(self._y) // size
        return other

    def batch(self, seed: int, stream: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (size, channels, height, width) float32 in channels-last memory, and labels (size,) int64."""
        images, labels = self.batches([(seed, stream)], step)
        return images[0], labels[0]

    def batches(self, runs: Sequence[tuple[int, int]], step: int) -> tuple[Tensor, Tensor]:
        """The batches of several runs (seed, stream) at one step, gathered at once.

        Images (runs, size, channels, height, width), labels (runs, size); each is what `batch` gives.
        """
        epoch, index = divmod(step, self.per_epoch)
        rows = slice(index * self.size, (index + 1) * self.size)
        once = tuple(dict.fromkeys(runs))
        tables = {name: table[:, rows].flatten(0, 1) for name, table in self._tables_of(once, epoch).items()}
        images, labels = (part.unflatten(0, (len(once), -1)) for part in self.gather(tables))
        if len(once) == len(runs):
            return images, labels
        lanes = torch.tensor([once.index(run) for run in runs], device=self.device)
        return images[lanes], labels[lanes]

    def tables(self, seed: int, stream: int, epoch: int) -> dict[str, Tensor]:
        """Every random choice of one epoch, in its order: (images, ...) each, on the device, for `gather`."""
        return {name: table[0] for name, table in self._tables_of(((seed, stream),), epoch).items()}

    def draws(self, seed: int, stream: int, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images and labels of a stream, noise and all: fixed draws of the training distribution."""
        parts = [self.batch(seed, stream, step) for step in range(-(-count // self.size))]
        return torch.cat([x for x, _ in parts])[:count], torch.cat([y for _, y in parts])[:count]

    def plain(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images (n, height, width, channels) uint8 and labels (n,) as the model takes them, without augmentation."""
        labels = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        return self._standardised(torch.from_numpy(np.array(x)).to(self.device)).permute(0, 3, 1, 2), labels

    def _tables_of(self, runs: tuple[tuple[int, int], ...], epoch: int) -> dict[str, Tensor]:
        """The tables of one epoch of each run, (runs, images, ...) each."""
        if self._epoch != (runs, epoch):
            drawn = [self._draw(seed, stream, epoch) for seed, stream in runs]
            stacked = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
            self._tables = {name: torch.from_numpy(table).to(self.device) for name, table in stacked.items()}
            self._epoch = (runs, epoch)
        return self._tables

    def _draw(self, seed: int, stream: int, epoch: int) -> dict[str, np.ndarray]:
        n, height, width, channels = self._shape
        tables = {"order": rng(seed, "order", epoch, stream).permutation(n)}
        crop = rng(seed, "augment", epoch, stream)
        if self.pad:
            tables["top"], tables["left"] = crop.integers(0, 2 * self.pad + 1, (2, n))
        if self.flip:
            tables["mirrored"] = crop.random(n) < 0.5
        if self.cutout:
            tables["middle_row"], tables["middle_column"] = crop.integers(0, height, n), crop.integers(0, width, n)
        noise = rng(seed, "noise", epoch, stream)
        if self.pixel_noise:
            tables["pixels"] = noise.standard_normal((n, height, width, channels), dtype=np.float32)
        if self.label_noise:
            tables["wrong"], tables["label"] = noise.random(n) < self.label_noise, noise.integers(0, self.classes, n)
        return tables

    def gather(self, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The images and labels of some rows of an epoch's tables, as `batch` gives them."""
        images = self._standardised(self._pixels(tables))
        if self.cutout:
            images.flatten(2).masked_fill_(self._covered(tables), 0)
        if self.pixel_noise:
            images = images + self.pixel_noise * tables["pixels"]
        labels = self._y[tables["order"]]
        if self.label_noise:
            labels = torch.where(tables["wrong"], tables["label"], labels)
        return images.permute(0, 3, 1, 2), labels

    def _pixels(self, tables: dict[str, Tensor]) -> Tensor:
        """Order, crop and flip in one gather of whole rows of pixels: (batch, height, width, channels) uint8."""
        n, height, width, channels = self._shape
        image = tables["order"] + n * tables["mirrored"] if self.flip else tables["order"]
        if not self.pad:
            return self._x.index_select(0, image)
        left = tables["left"]
        if self.flip:  # counted from the other side in a mirrored image
            left = torch.where(tables["mirrored"], 2 * self.pad - left, left)
        _, high, wide, _ = self._x.shape
        corner = (image * high + tables["top"]) * wide + left
        first = corner[:, None] + wide * torch.arange(height, device=self.device)
        # Row i of this view is what begins at byte i, so the rows overlap: a window needs no copy to be a row.
        run = width * channels
        rows = self._x.view(-1).as_strided((self._x.numel() - run + 1, run), (1, 1))
        return rows.index_select(0, (first * channels).view(-1)).view(len(image), height, width, channels)

    def _standardised(self, pixels: Tensor) -> Tensor:
        """(pixels - mean) / deviation of each channel; (n, height, width, channels), uint8 in and float32 out."""
        return pixels.flatten(2).float().sub_(self._mean).mul_(self._scale).view(pixels.shape)

    def _covered(self, tables: dict[str, Tensor]) -> Tensor:
        """Which numbers the square hides: (batch, height, width * channels) bool."""
        _, height, width, channels = self._shape
        half = self.cutout // 2
        column = torch.arange(width, device=self.device).repeat_interleave(channels)
        down = torch.arange(height, device=self.device) - tables["middle_row"][:, None]
        right = column - tables["middle_column"][:, None]
        inside = [(-half <= offset) & (offset < half) for offset in (down, right)]
        return inside[0][:, :, None] & inside[1][:, None, :]


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of (n, height, width, channels) uint8, float64, (channels,) each."""
    counts = np.stack([np.bincount(x[..., c].ravel(), minlength=256) for c in range(x.shape[-1])], axis=1)
    share, values = counts / counts.sum(0), np.arange(256.0)[:, None]
    mean = (share * values).sum(0)
    return mean, np.sqrt((share * (values - mean) ** 2).sum(0))
