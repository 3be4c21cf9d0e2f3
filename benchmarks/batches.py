"""Goal C9: the time to shuffle, crop, mirror, standardise and cut out images of 32 x 32 pixels.

Three implementations take turns and must give equal pixels. The images are random bytes, which
changes nothing in the time; all implementations use the same tables of an epoch.
"""

import sys
from collections import deque

import numpy as np
import torch
from _interleaved import ratios, table
from _peers import CUTOUT, PAD, per_epoch, per_image

from replicate.datasets import Batches
from replicate.streams import rng

COUNT = 5120  # images
SIZE = 128  # images per batch
GOALS = {"per image": 6.0, "mask and copy": 1.7}


def main() -> int:
    """Equal pixels first, then an epoch of each."""
    draw = rng(0, "eval", 0)
    x = draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    y = draw.integers(0, 10, COUNT)
    data = Batches(x, y, SIZE, 10, pad=PAD, flip=True, cutout=CUTOUT)
    tables = data.tables(0, 0, 0)
    plain = {name: table.numpy() for name, table in tables.items()}
    mean = x.mean((0, 1, 2))
    deviation = x.std((0, 1, 2))
    padded = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    standardised = ((padded - mean) / deviation).astype(np.float32)
    whole = torch.from_numpy(standardised.transpose(0, 3, 1, 2).copy())

    def ours():
        data._epoch = ()  # draws the tables anew, as every epoch does
        return (data.batch(0, 0, step)[0] for step in range(data.per_epoch))

    def masked():
        images = per_epoch(whole, tables)
        return (images[rows] for rows in tables["order"].split(SIZE))

    def single():
        slices = (slice(i, i + SIZE) for i in range(0, COUNT, SIZE))
        return (per_image(x, plain, mean, deviation, rows) for rows in slices)

    # A crop reaches into the padding, which is black before it is standardised, in all three.
    for a, b, c in zip(ours(), masked(), single(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-5)
    jobs = {"per image": single, "mask and copy, an epoch at a time": masked, "rows gathered": ours}
    # A batch is dropped when the next one comes, as in training.
    measured = ratios({name: lambda job=job: deque(job(), maxlen=0) for name, job in jobs.items()})
    print(table(f"an epoch of {COUNT} images, batches of {SIZE}", measured))
    goals = ", ".join(f"{name} at least {ratio}x" for name, ratio in GOALS.items())
    print(f"  goal C9: {goals}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
