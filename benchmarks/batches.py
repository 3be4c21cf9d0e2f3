"""Goal C9: crop, mirror, standardise, cut out and shuffle images of 32 pixels, per image, against two other ways.

The images are random bytes: what they show changes nothing in the time. All versions use the same tables of an epoch.
"""

import sys
from collections import deque

import numpy as np
import torch
from _interleaved import ratios, table
from _peers import CUTOUT, PAD, per_epoch, per_image

from replicate.datasets import Batches
from replicate.streams import rng

COUNT, SIZE, GOALS = 5120, 128, {"per image": 6.0, "mask and copy": 1.7}


def main() -> int:
    """Equal pixels first, then an epoch of each."""
    draw = rng(0, "eval", 0)
    x, y = draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, COUNT)
    data = Batches(x, y, SIZE, 10, pad=PAD, flip=True, cutout=CUTOUT)
    tables = data.tables(0, 0, 0)
    plain = {name: one.numpy() for name, one in tables.items()}
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    padded = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    whole = torch.from_numpy(((padded - mean) / deviation).astype(np.float32).transpose(0, 3, 1, 2).copy())

    def ours():
        data._epoch = ()  # draws the tables anew, as every epoch does
        return (data.batch(0, 0, step)[0] for step in range(data.per_epoch))

    def masked():
        images = per_epoch(whole, tables)
        return (images[rows] for rows in tables["order"].split(SIZE))

    def single():
        return (per_image(x, plain, mean, deviation, slice(i, i + SIZE)) for i in range(0, COUNT, SIZE))

    # A crop reaches into the padding, which is black before it is standardised, here and in both others.
    for a, b, c in zip(ours(), masked(), single(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-5)
    jobs = {"per image": single, "mask and copy, an epoch at a time": masked, "rows gathered": ours}
    # A batch is dropped when the next one comes, as in training.
    found = ratios({name: lambda job=job: deque(job(), maxlen=0) for name, job in jobs.items()})
    print(table(f"an epoch of {COUNT} images, batches of {SIZE}", found))
    print(f"  goal C9: per image at least {GOALS['per image']}x, mask and copy {GOALS['mask and copy']}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
