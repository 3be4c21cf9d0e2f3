"""A mini-batch is a pure function of (seed, stream, step): nothing is remembered, so any step can be replayed.

Step t lies in epoch t // (n // size); the epoch's permutation, crops, flips and noise are tables drawn from
`streams.rng(seed, use, epoch, stream)`. The last, incomplete batch of an epoch is left out.
"""

from collections.abc import Callable

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
    ):
        """size: images a batch; pad: pixels of zero padding before a random crop; flip: mirror half of the images.

        pixel_noise: standard deviation of Gaussian noise, in standard deviations of the pixels; label_noise: share of
        the labels that are drawn anew, uniformly, each time. Raises ValueError if a value is out of range.
        """
        if not 1 <= size <= len(x):
            raise ValueError(f"size must be in [1, {len(x)}], got {size}")
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise must be in [0, 1], got {label_noise}")
        if pixel_noise < 0 or pad < 0:
            raise ValueError(f"pixel_noise and pad must be at least 0, got {pixel_noise} and {pad}")
        self.size, self.classes, self.pad, self.flip = size, classes, pad, flip
        self.pixel_noise, self.label_noise = pixel_noise, label_noise
        self.per_epoch = len(x) // size
        self.device = torch.device(device)
        mean, deviation = _moments(x)
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self._scale = torch.tensor(1 / deviation, dtype=torch.float32, device=self.device)
        self._x = torch.from_numpy(np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))).to(self.device)
        self._y = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        self._shape = x.shape
        self._epoch: tuple = ()
        self._tables: dict[str, Tensor] = {}

    def batch(self, seed: int, stream: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (size, channels, height, width) float32 in channels-last memory, and labels (size,) int64."""
        epoch, index = divmod(step, self.per_epoch)
        rows = slice(index * self.size, (index + 1) * self.size)
        return self._gather({name: table[rows] for name, table in self._tables_of(seed, stream, epoch).items()})

    def draws(self, seed: int, stream: int, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images and labels of a stream, noise and all: fixed draws of the training distribution."""
        parts = [self.batch(seed, stream, step) for step in range(-(-count // self.size))]
        return torch.cat([x for x, _ in parts])[:count], torch.cat([y for _, y in parts])[:count]

    def plain(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images (n, height, width, channels) uint8 and labels (n,) as the model takes them, without augmentation."""
        pixels = torch.from_numpy(np.array(x)).to(self.device).float()
        labels = torch.from_numpy(np.array(y, dtype=np.int64)).to(self.device)
        return ((pixels - self._mean) * self._scale).permute(0, 3, 1, 2), labels

    def _tables_of(self, seed: int, stream: int, epoch: int) -> dict[str, Tensor]:
        if self._epoch != (seed, stream, epoch):
            tables = {name: torch.from_numpy(t).to(self.device) for name, t in self._draw(seed, stream, epoch).items()}
            self._epoch, self._tables = (seed, stream, epoch), tables
        return self._tables

    def _draw(self, seed: int, stream: int, epoch: int) -> dict[str, np.ndarray]:
        n, height, width, channels = self._shape
        tables = {"order": rng(seed, "order", epoch, stream).permutation(n)}
        crop = rng(seed, "augment", epoch, stream)
        if self.pad:
            tables["top"], tables["left"] = crop.integers(0, 2 * self.pad + 1, (2, n))
        if self.flip:
            tables["mirrored"] = crop.random(n) < 0.5
        noise = rng(seed, "noise", epoch, stream)
        if self.pixel_noise:
            tables["pixels"] = noise.standard_normal((n, height, width, channels), dtype=np.float32)
        if self.label_noise:
            tables["wrong"], tables["label"] = noise.random(n) < self.label_noise, noise.integers(0, self.classes, n)
        return tables

    def _gather(self, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        order = tables["order"]
        if self.pad or self.flip:
            _, height, width, _ = self._shape
            rows = torch.arange(height, device=self.device).expand(len(order), -1)
            columns = torch.arange(width, device=self.device).expand(len(order), -1)
            if self.flip:
                columns = torch.where(tables["mirrored"][:, None], width - 1 - columns, columns)
            if self.pad:
                rows, columns = rows + tables["top"][:, None], columns + tables["left"][:, None]
            pixels = self._x[order[:, None, None], rows[:, :, None], columns[:, None, :]]
        else:
            pixels = self._x[order]
        images = (pixels.float() - self._mean) * self._scale
        if self.pixel_noise:
            images = images + self.pixel_noise * tables["pixels"]
        labels = self._y[order]
        if self.label_noise:
            labels = torch.where(tables["wrong"], tables["label"], labels)
        return images.permute(0, 3, 1, 2), labels


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of (n, height, width, channels) uint8, float64, (channels,) each."""
    counts = np.stack([np.bincount(x[..., c].ravel(), minlength=256) for c in range(x.shape[-1])], axis=1)
    share, values = counts / counts.sum(0), np.arange(256.0)[:, None]
    mean = (share * values).sum(0)
    return mean, np.sqrt((share * (values - mean) ** 2).sum(0))
