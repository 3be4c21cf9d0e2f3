"""Goal C9: the time to shuffle, crop, mirror, standardise and cut out images of 32 x 32 pixels.

Three implementations take turns and must give equal pixels. All use the same tables of an epoch.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import harness, peers
from benchmarks.inputs import CLASSES, draw_images
from replicate.datasets import Batches

SIZE = 128  # images per batch
SINGLE = "per image"
MASKED = "mask and copy, an epoch at a time"
OURS = "rows gathered"


@dataclass(frozen=True)
class Size:
    """images: of an epoch."""

    images: int = 5120
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size(2 * SIZE, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """An epoch of each implementation."""
    pipelines = make_pipelines(size.images)
    yield harness.compare(
        harness.Comparison(
            f"an epoch of {size.images} images, batches of {SIZE}",
            # A batch is dropped when the next one comes, as in training.
            {name: lambda run=run: deque(run(), maxlen=0) for name, run in pipelines.items()},
            # A crop reaches into the padding, which is black before it is standardised, in all.
            lambda: {name: torch.cat(list(run())).numpy() for name, run in pipelines.items()},
            (0, 1e-5),
            {"C9 per image": (SINGLE, OURS), "C9 per epoch": (MASKED, OURS)},
            size.rounds,
            is_stated=size == FULL,
        )
    )


def make_pipelines(count: int) -> dict:
    """name -> function that gives the batches of an epoch."""
    x, y = draw_images(count)
    pad = peers.PAD
    data = Batches(x, y, SIZE, CLASSES, pad=pad, flip=True, cutout=peers.CUTOUT)
    tables = data.tables(0, 0, 0)
    arrays = {name: table.numpy() for name, table in tables.items()}
    mean = x.mean((0, 1, 2))
    deviation = x.std((0, 1, 2))
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    standardised = ((padded - mean) / deviation).astype(np.float32)
    whole = torch.from_numpy(standardised.transpose(0, 3, 1, 2).copy())

    def gather():
        data._epoch = ()  # draws the tables anew, as every epoch does
        return (data.batch(0, 0, step)[0] for step in range(data.per_epoch))

    def mask():
        images = peers.augment_per_epoch(whole, tables)
        return (images[rows] for rows in tables["order"].split(SIZE))

    def take_single():
        slices = (slice(i, i + SIZE) for i in range(0, count, SIZE))
        return (peers.augment_per_image(x, arrays, mean, deviation, rows) for rows in slices)

    return {SINGLE: take_single, MASKED: mask, OURS: gather}
