"""Data that drift: images that are turned a little further with every epoch.

    x_t = the images, turned by `degrees` * (epoch of t) / (epochs of the run)

Turned are the pixels as they lie in the data set, before noise is added, so that the noise stays
what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from replicate import datasets
from replicate.sources import images as kit
from replicate.sources.sandler2023trajectories.settings import Settings


@dataclass
class Turning:
    """Mini-batches of images that turn by `degrees` over a run of `steps`; what `training.steps`
    takes for data.
    """

    settings: Settings
    images: datasets.Images
    device: str
    degrees: float
    steps: int
    _latest: tuple = field(default=(), repr=False)

    def __post_init__(self):
        self._at_rest = kit.batches(self.settings, self.images, self.settings.batch, self.device)
        self.per_epoch = self._at_rest.per_epoch
        self.loss = self._at_rest.loss

    def batch(self, seed: int, stream: int, step: int) -> tuple:
        """Images and labels of a mini-batch, turned as far as its step says."""
        return self.at(step).batch(seed, stream, step)

    def at(self, step: int) -> datasets.Batches:
        """The images as they stand at a step."""
        angle = self.degrees * (step // self.per_epoch) * self.per_epoch / self.steps
        if not angle:
            return self._at_rest
        if not self._latest or self._latest[0] != angle:
            turned = replace(self.images, train_x=turn(self.images.train_x, angle))
            batches = kit.batches(self.settings, turned, self.settings.batch, self.device)
            self._latest = (angle, batches)
        return self._latest[1]


def turn(images: np.ndarray, degrees: float) -> np.ndarray:
    """Images (n, height, width, channels) uint8, turned counter-clockwise about their middle.

    Between pixels bilinearly; outside the image lie its edges.
    """
    rows, columns = _find_origins(*images.shape[1:3], np.deg2rad(degrees))
    top = np.floor(rows).astype(int)
    left = np.floor(columns).astype(int)
    turned = np.zeros(images.shape, np.float32)
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        share = (1 - np.abs(rows - i)) * (1 - np.abs(columns - j))
        nearest = images[:, i.clip(0, images.shape[1] - 1), j.clip(0, images.shape[2] - 1)]
        turned += share[..., None].astype(np.float32) * nearest
    return np.rint(turned).astype(np.uint8)


def _find_origins(height: int, width: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column, (height, width) each, that every pixel comes from."""
    middle_row = (height - 1) / 2
    middle_column = (width - 1) / 2
    row, column = np.indices((height, width))
    up = middle_row - row
    right = column - middle_column
    cos = np.cos(angle)
    sin = np.sin(angle)
    return middle_row - (cos * up - sin * right), middle_column + (cos * right + sin * up)
