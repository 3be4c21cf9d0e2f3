"""Mini-batches of two kinds whose images never meet: of images in reserve, and of all others.

What a step along one batch's gradient does to images that it did not see can only be told on images
that the batch cannot hold, as a network may know its training images by heart.
"""

import torch
from torch import Tensor

from replicate.datasets.batches import Batches


class HeldOut:
    """Batches with the augmentation and noise of `data`, drawn from a stream that nobody trains on.

    seed, stream: of the draws and of which images are in reserve; count: how many these are. Raises
    ValueError unless some images are in reserve and some are not.
    """

    def __init__(self, data: Batches, seed: int, stream: int, count: int):
        order = data.tables(seed, stream, 0)["order"]
        if not 1 <= count < len(order):
            raise ValueError(f"count must be in [1, {len(order) - 1}], got {count}")
        self._data = data
        self._draws = (seed, stream)
        self._reserve = order[:count]

    def batch(self, size: int, index: int) -> tuple[Tensor, Tensor]:
        """Images (size, channels, height, width) and labels (size,) that are not in reserve.

        A smaller batch of the same index holds the first images of a larger one. Raises ValueError
        if there are not so many.
        """
        tables = self._data.tables(*self._draws, index)
        rows = (~torch.isin(tables["order"], self._reserve)).nonzero()[:, 0]
        if not 1 <= size <= len(rows):
            raise ValueError(f"size must be in [1, {len(rows)}], got {size}")
        return self._gather(tables, rows[:size])

    def draw_reserved(self, size: int, index: int) -> tuple[Tensor, Tensor]:
        """Images and labels in reserve: those from index * size on, over and over, drawn anew each
        time. Raises ValueError unless whole batches of the size make up the reserve.
        """
        if size < 1 or len(self._reserve) % size:
            raise ValueError(f"size must divide the {len(self._reserve)} in reserve, got {size}")
        first = index * size % len(self._reserve)
        tables = self._data.tables(*self._draws, index)
        chosen = torch.isin(tables["order"], self._reserve[first : first + size])
        return self._gather(tables, chosen.nonzero()[:, 0])

    def _gather(self, tables: dict[str, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        return self._data.gather({name: table[rows] for name, table in tables.items()})
