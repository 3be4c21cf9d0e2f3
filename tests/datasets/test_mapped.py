"""Shards on disk give the mini-batches that the same images give in memory, to the bit."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from small_sets import assert_refused, flip

from replicate import datasets, errors
from replicate.datasets import Batches, MappedBatches, Pixels, mapped, shards

EDGE, CLASSES = 16, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Several shards of 24 training and 6 validation pictures, and the training pictures."""
    folder = tmp_path_factory.mktemp("shards")
    draw = np.random.default_rng(0)
    x = draw.integers(0, 200, (24, EDGE, EDGE, 3), dtype=np.uint8)
    x[..., 1] //= 2  # channels of unlike moments
    y = draw.integers(0, CLASSES, 24)
    described = [
        write_shard(folder, f"train-0000{n}.npy", x[rows], y[rows])
        for n, rows in enumerate((slice(0, 10), slice(10, 13), slice(13, 24)))
    ]
    described.append(write_shard(folder, "val-00000.npy", x[:6], y[:6]))
    index = {"edge": EDGE, "wnids": ["a", "b", "c"], "shards": described}
    (folder / shards.INDEX).write_text(json.dumps(index))
    return folder, x, y


def write_shard(folder, name, x, y) -> dict:
    np.save(folder / name, x)
    content = (folder / name).read_bytes()
    return {
        "name": name, "plan": "", "bytes": len(content), "labels": y.tolist(), "modes": {},
        "sha256": mapped.hashlib.sha256(content).hexdigest(), "formats": {},
    }  # fmt: skip


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "shards")


OPTIONS = {
    "plain": {},
    "flip": {"flip": True},
    "crop": {"pad": 2},
    "all": {"flip": True, "pad": 3, "cutout": 4, "label_noise": 0.4},
}


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_batches_have_the_bits_of_those_in_memory(made, options, ahead):
    folder, x, y = made
    memory = Batches(x, y, 7, CLASSES, **options)
    disk = MappedBatches(Pixels(folder, "train"), 7, ahead=ahead, **options)
    assert disk.per_epoch == memory.per_epoch == 3
    for step in (0, 1, 2, 3, 7, 4, 0):  # over the end of an epoch, and back
        for one, other in zip(disk.batch(5, 1, step), memory.batch(5, 1, step), strict=True):
            assert torch.equal(one, other)
    pairs = [(5, 0), (6, 0), (5, 0)]
    for one, other in zip(disk.batches(pairs, 2), memory.batches(pairs, 2), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(
        disk.resize(5).batch(5, 0, 3), memory.resize(5).batch(5, 0, 3), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_the_slices_of_ranks_are_the_mini_batch_and_read_nothing_else(made, ranks, monkeypatch):
    folder, _, _ = made
    disk = MappedBatches(Pixels(folder, "train"), 7, flip=True, pad=2, ahead=0)
    whole = disk.batch(1, 0, 4)
    taken, take = [], Pixels.take
    monkeypatch.setattr(Pixels, "take", lambda self, o: taken.append(len(o)) or take(self, o))
    edges = [rank * 7 // ranks for rank in range(ranks + 1)]
    slices = [
        disk.batch_slice(1, 0, 4, slice(*pair)) for pair in zip(edges, edges[1:], strict=False)
    ]
    for part, parts in zip(whole, zip(*slices, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), part)
    assert sum(taken) == 7


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(made):
    pixels = Pixels(made[0], "train")
    orders = [
        MappedBatches(pixels, 8).tables(seed, stream, epoch)["order"].tolist()
        for seed, stream, epoch in [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert orders[0] == orders[1] and len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(24)) for order in orders)


def test_the_next_batches_are_read_before_they_are_asked_for(made, monkeypatch):
    disk = MappedBatches(Pixels(made[0], "train"), 4, ahead=2)
    readers, take = [], Pixels.take

    def noting(self, order):
        readers.append((threading.current_thread().name.split("_")[0], len(order)))
        return take(self, order)

    monkeypatch.setattr(Pixels, "take", noting)
    for step in range(6):
        disk.batch(0, 0, step)
    assert sorted(readers) == [("MainThread", 4)] + [("read ahead", 4)] * 5  # each image once
    for seed in range(20):
        disk.batch(seed, 0, 0)
    assert len(disk._read) <= 4  # what nobody came for is dropped


def test_moments_are_counted_once_and_every_byte_is_checked(folder, made, monkeypatch):
    x = made[1]
    (folder / mapped.VALUE_COUNTS).unlink(missing_ok=True)
    counts = Pixels(folder, "train").count_values()
    for channel in range(3):
        assert (
            counts[:, channel].tolist()
            == np.bincount(x[..., channel].ravel(), minlength=256).tolist()
        )
    with monkeypatch.context() as patch:
        patch.setattr(Pixels, "_check_and_count", None)  # it would fail
        assert np.array_equal(Pixels(folder, "train").count_values(), counts)
    path = folder / "train-00001.npy"
    path.write_bytes(flip(path.read_bytes()))
    (folder / mapped.VALUE_COUNTS).unlink()
    count = Pixels(folder, "train").count_values
    assert_refused(count, errors.BadData, 65, "train-00001.npy has checksum")
    assert not (folder / mapped.VALUE_COUNTS).exists()
    index = json.loads((folder / shards.INDEX).read_text())
    (folder / mapped.VALUE_COUNTS).write_text(
        json.dumps({"index": "of others", "train": [[0] * 3] * 256})
    )
    index["shards"][1]["sha256"] = mapped.hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / shards.INDEX).write_text(json.dumps(index))
    assert Pixels(folder, "train").count_values().sum() == x.size


def test_shards_that_are_not_there_or_cut_short_are_one_line(folder, tmp_path, monkeypatch):
    path = folder / "train-00000.npy"
    path.write_bytes(path.read_bytes()[:-5])
    assert_refused(lambda: Pixels(folder, "train"), errors.BadData, 65, "cannot be mapped")
    np.save(path, np.zeros((10, EDGE, EDGE, 3)))
    assert_refused(
        lambda: Pixels(folder, "train"), errors.BadData, 65, "want (10, 16, 16, 3) uint8"
    )
    assert_refused(lambda: Pixels(tmp_path, "train"), errors.Missing, 66, "data shard")
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    absent = lambda: datasets.map_batches("imagenet", "train", 8)  # noqa: E731
    assert_refused(absent, errors.Missing, 66, "imagenet/index.json")
    other = lambda: datasets.map_batches("cifar10", "train", 8)  # noqa: E731
    assert_refused(other, errors.BadParameter, 64, "cifar10 is not made of shards")
    with pytest.raises(ValueError, match="ahead must be at least 0, got -1"):
        MappedBatches(None, 8, ahead=-1)
