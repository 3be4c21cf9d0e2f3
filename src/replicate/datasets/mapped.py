"""Mini-batches of shards that stay on disk: memory-mapped, read ahead, a slice for each rank.

What `Batches` does with images in memory, to the same bits, for a set that memory does not hold,
such as ImageNet's 200 GB at 224 pixels. The order of an epoch is a pure function of (seed, stream,
epoch), so any step can be read again, by any number of ranks, and no rank sends another anything.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from replicate import paths
from replicate.datasets import catalogue, shards
from replicate.datasets.batches import Batches
from replicate.errors import BadData, BadParameter, Missing
from replicate.progress import progress

VALUE_COUNTS = (
    "counts.json"  # of pixel values, beside the index; its checksum stands for all shards
)
BATCHES_AHEAD = 2  # mini-batches that are read before they are asked for: one is used, one is ready


class Pixels:
    """The images of one split, (n, edge, edge, 3) uint8 over all its shards, of which only what is
    taken is read.
    """

    def __init__(self, folder: Path, split: str):
        """folder: holds shards and their index. Raises Missing, or BadData if a file has another
        size than the index says.
        """
        path = folder / shards.INDEX
        if not path.is_file():
            raise Missing(f"{path} is not there; run python -m replicate data shard NAME TREE")
        self.folder, self.split, content = folder, split, path.read_bytes()
        self.index_sha256 = hashlib.sha256(content).hexdigest()
        index = shards.read_index(str(path), content)
        self.shards = index.of_split(split)
        self.classes = len(index.wnids)
        self.labels = np.array([y for each in self.shards for y in each.labels], dtype=np.int64)
        self.shape = (len(self.labels), index.edge, index.edge, 3)
        self._maps = [self._map(shard) for shard in self.shards]
        self._starts = np.cumsum([0, *(len(pixels) for pixels in self._maps)])

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, order: np.ndarray) -> np.ndarray:
        """The images of these numbers, (len(order), edge, edge, 3): a copy in memory."""
        taken = np.empty((len(order), *self.shape[1:]), dtype=np.uint8)
        homes = np.searchsorted(self._starts, order, side="right") - 1
        rows = order - self._starts[homes]
        for place in np.argsort(order):  # as they lie on the disk
            taken[place] = self._maps[homes[place]][rows[place]]
        return taken

    def count_values(self) -> np.ndarray:
        """How often each of the 256 values occurs in each channel, (256, 3).

        The first call reads every byte, holds every shard against its checksum, and leaves the
        counts beside the index. Raises BadData.
        """
        path = self.folder / VALUE_COUNTS
        kept = json.loads(path.read_bytes()) if path.exists() else {}
        if kept.get("index") != self.index_sha256:
            kept = {"index": self.index_sha256}
        if self.split not in kept:
            pairs = list(zip(self.shards, self._maps, strict=True))
            counts = (self._check_and_count(*pair) for pair in pairs)
            total = sum(progress(counts, f"checking {self.folder.name}", len(pairs)))
            kept[self.split] = total.tolist()
            paths.write_atomic(path, json.dumps(kept).encode())
        return np.array(kept[self.split])

    def _map(self, shard: shards.Shard) -> np.ndarray:
        path = self.folder / shard.name
        wanted = (len(shard.labels), *self.shape[1:])
        try:
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BadData(f"{path} cannot be mapped ({error}); {shards.REMEDY}") from None
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            actual = f"{path} has {pixels.shape} {pixels.dtype}"
            raise BadData(f"{actual}, want {wanted} uint8; {shards.REMEDY}")
        return pixels

    def _check_and_count(self, shard: shards.Shard, pixels: np.ndarray) -> np.ndarray:
        path = self.folder / shard.name
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != shard.sha256:
            raise BadData(f"{path} has checksum {checksum}, want {shard.sha256}; {shards.REMEDY}")
        channels = np.asarray(pixels).reshape(-1, 3).T
        return np.stack([np.bincount(channel, minlength=256) for channel in channels], axis=1)


class MappedBatches(Batches):
    """Mini-batches as `Batches` gives them, of images that stay in their shards."""

    def __init__(
        self,
        pixels: Pixels,
        size: int,
        device: str = "cpu",
        pad: int = 0,
        flip: bool = False,
        label_noise: float = 0.0,
        cutout: int = 0,
        ahead: int = BATCHES_AHEAD,
    ):
        """pixels: of one split; ahead: mini-batches of the same epoch to read beforehand, 0 for
        none. The other arguments are those of `Batches`, which also says what it raises.
        """
        if ahead < 0:
            raise ValueError(f"ahead must be at least 0, got {ahead}")
        self._ahead = ahead
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
        self._read: dict[tuple, Future] = {}
        super().__init__(
            pixels, pixels.labels, size, pixels.classes, device, pad, flip, 0.0, label_noise, cutout
        )

    def batch(self, seed: int, stream: int, step: int) -> tuple[Tensor, Tensor]:
        """As `Batches.batch`."""
        return self.batch_slice(seed, stream, step, slice(0, self.size))

    def batch_slice(self, seed: int, stream: int, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """The images and labels of some rows of a mini-batch; no others are read."""
        epoch, index = divmod(step, self.per_epoch)
        tables = self.tables(seed, stream, epoch)
        first = index * self.size
        chosen = {n: t[first + rows.start : first + rows.stop] for n, t in tables.items()}
        order = tables["order"].cpu().numpy() if self._ahead else None
        pixels = self._take(chosen["order"].cpu().numpy())
        for later in range(1, self._ahead + 1):
            if index + later < self.per_epoch:
                begin = first + later * self.size
                self._prepare(order[begin + rows.start : begin + rows.stop])
        return self._augment(pixels, chosen)

    def batches(self, runs: Sequence[tuple[int, int]], step: int) -> tuple[Tensor, Tensor]:
        """As `Batches.batches`, one after the other."""
        images, labels = zip(*(self.batch(*run, step) for run in runs), strict=True)
        return torch.stack(images), torch.stack(labels)

    def gather(self, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As `Batches.gather`."""
        return self._augment(self._x.take(tables["order"].cpu().numpy()), tables)

    def _place(self, x: Pixels, y: np.ndarray) -> None:
        counts = x.count_values()
        share = counts / counts.sum(0)
        values = np.arange(256.0)[:, None]
        mean = (share * values).sum(0)
        deviation = np.sqrt((share * (values - mean) ** 2).sum(0))
        self._mean = self._repeat(mean, x.shape[2])
        self._scale = self._repeat(1 / deviation, x.shape[2])
        self._x, self._shape = x, x.shape
        self._y = torch.from_numpy(y).to(self.device)

    def _take(self, order: np.ndarray) -> np.ndarray:
        future = self._read.pop(order.tobytes(), None)
        return self._x.take(order) if future is None else future.result()

    def _prepare(self, order: np.ndarray) -> None:
        key = order.tobytes()
        if key not in self._read:
            while len(self._read) >= 2 * self._ahead:  # of a run that went elsewhere
                self._read.pop(next(iter(self._read))).cancel()
            self._read[key] = self._reader.submit(self._x.take, order)

    def _augment(self, pixels: np.ndarray, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`Batches.gather` of images that are in memory alone."""
        images = torch.from_numpy(pixels).to(self.device)
        here = copy.copy(self)
        here._y = self._y[tables["order"]]
        here._shape, here.flip = tuple(images.shape), False
        tables = tables | {"order": torch.arange(len(images), device=self.device)}
        if self.flip:
            mirrored = tables["mirrored"]
            images[mirrored] = images[mirrored].flip(2)
            if self.pad:
                tables["left"] = torch.where(
                    mirrored, 2 * self.pad - tables["left"], tables["left"]
                )
        border = (0, 0, self.pad, self.pad, self.pad, self.pad)
        here._x = torch.nn.functional.pad(images, border) if self.pad else images
        return Batches.gather(here, tables)


def map_batches(name: str, split: str, size: int, **options) -> MappedBatches:
    """The mini-batches of a set of shards in `paths.data_folder()`, such as "imagenet".

    split: "train" or "val"; options: those of `MappedBatches`. Raises BadParameter for a set
    without shards, Missing, BadData.
    """
    if catalogue.describe(name).files:
        raise BadParameter(f"{name} is not made of shards and lies in memory; load it")
    return MappedBatches(Pixels(paths.data_folder() / name, split), size, **options)
