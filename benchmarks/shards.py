"""What a core gets out of ImageNet's files: memory-mapped shards beside Pillow and a DataLoader.

The pictures are cut from the two photographs that scikit-learn brings, 500 x 375 pixels as an
average one of ImageNet, and saved as JPEG. All three give the same standardised mini-batches of 224
x 224 pixels, in the same order and with the same mirrored ones. Shards are made once, beforehand;
the files lie in the page cache, so that a disk is not what is measured.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import harness
from replicate.datasets import MappedBatches, Pixels, image_tree, shards
from replicate.streams import rng

WNIDS = ("n00000001", "n00000002")
WIDE, HIGH = 500, 375  # pixels of a picture
QUALITY = 90  # of the JPEG files
PILLOW = "Pillow, picture by picture"
LOADER = "a DataLoader over the pictures, no workers"
OURS = "memory-mapped shards"


@dataclass(frozen=True)
class Size:
    """pictures: of an epoch; batch: of a mini-batch; edge: pixels that they are reduced to."""

    pictures: int = 256
    batch: int = 64
    edge: int = 224
    rounds: int = 5


FULL = Size()
TINY = Size(pictures=4, batch=2, edge=32, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """An epoch of each."""
    with tempfile.TemporaryDirectory() as folder:
        epochs = make_epochs(Path(folder), size)
        comparison = harness.Comparison(
            f"an epoch of {size.pictures} pictures at {size.edge} x {size.edge}",
            {name: lambda run=run: deque(run(), maxlen=0) for name, run in epochs.items()},
            lambda: {name: torch.cat(list(run())).numpy() for name, run in epochs.items()},
            (0, 1e-5),
            rounds=size.rounds,
            is_stated=size == FULL,
        )
        harness.check_equal(comparison.title, comparison.results(), *comparison.tolerance)
        seconds = harness.take_turns(comparison)
        rates = [
            harness.Row("", name, "pictures/s", size.pictures / seconds[name]) for name in epochs
        ]
        yield harness.Table(comparison.title, [*rates, *harness.list_ratios(comparison, seconds)])


def make_epochs(folder: Path, size: Size) -> dict[str, Callable[[], Iterator[torch.Tensor]]]:
    """name -> function that gives the images of the mini-batches of an epoch."""
    tree = write_pictures(folder / "tree", size.pictures)
    shards.write(tree, folder / "shards", size.edge, jobs=1)
    # What is read ahead is read on another thread of the same core: it counts as work either way.
    data = MappedBatches(Pixels(folder / "shards", "train"), size.batch, flip=True)
    tables = {name: table.numpy() for name, table in data.tables(0, 0, 0).items()}
    files = [folder / "tree" / picture.path for picture in tree.pictures["train"]]
    mean, scale = (values[:3].numpy() for values in (data._mean, data._scale))
    pictures = Pictures(files, size.edge, tables, mean, scale)
    loader = DataLoader(pictures, size.batch)

    def read_singly():
        for start in range(0, size.pictures, size.batch):
            yield torch.stack([pictures[start + place] for place in range(size.batch)])

    def read_mapped():
        return (data.batch(0, 0, step)[0] for step in range(data.per_epoch))

    return {PILLOW: read_singly, LOADER: lambda: iter(loader), OURS: read_mapped}


class Pictures(Dataset):
    """The pictures in the order of an epoch, each decoded when it is asked for."""

    def __init__(self, files, edge, tables, mean, scale):
        self.files, self.edge, self.tables = files, edge, tables
        self.mean, self.scale = mean, scale

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        pixels = image_tree.decode(self.files[self.tables["order"][place]], self.edge).pixels
        if self.tables["mirrored"][place]:
            pixels = pixels[:, ::-1]
        values = (pixels.astype(np.float32) - self.mean) * self.scale
        return torch.from_numpy(values.transpose(2, 0, 1).copy())


def write_pictures(root: Path, count: int) -> image_tree.ImageTree:
    """A tree of JPEG files, `count` of them to train on and one of each class to validate on."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    draw, photographs = rng(0, "eval", 0), load_sample_images().images
    for number in range(count + len(WNIDS)):
        label = number % len(WNIDS)
        photograph = photographs[label]
        top, left = (int(draw.integers(0, n)) for n in (427 - HIGH, 640 - WIDE))
        split = "train" if number < count else "val"
        path = root / split / WNIDS[label] / f"{number:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = photograph[top : top + HIGH, left : left + WIDE]
        Image.fromarray(cut).save(path, quality=QUALITY)
    return image_tree.list_tree(root, len(WNIDS))
