"""ImageNet's folders become shards once: whole, checked, resumable, and odd pictures are counted."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from small_sets import assert_refused, flip

from replicate import datasets, errors
from replicate.datasets import image_tree, shards
from replicate.datasets.imagenet_64 import DATASET

WNIDS = ("n00000001", "n00000002", "n00000003")
EDGE = 64
ROUNDED = 1.01  # Pillow rounds after the rows and again after the columns


def draw(seed, shape=(128, 192, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def put(path, pixels, mode="RGB", **options):
    """A picture without loss: PNG content, whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, **{"format": "PNG", **options})


@pytest.fixture
def tree(tmp_path):
    """Two training pictures and one validation picture of three classes."""
    root = tmp_path / "tree"
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            put(root / "train" / wnid / f"{wnid}_{number}.JPEG", draw(10 * label + number))
        put(root / "val" / wnid / f"ILSVRC2012_val_0000000{label}.JPEG", draw(100 + label))
    return root


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data folder."""
    folder = tmp_path / "data"
    monkeypatch.setenv("REPLICATE_DATA", str(folder))
    return folder


def convert(tree, home, **options):
    listed = image_tree.list_tree(tree, len(WNIDS))
    return shards.write(listed, home / "imagenet-64", EDGE, jobs=1, **options)


def average_boxes(pixels):
    """The mean over boxes of 2 x 3 pixels, which make 64 x 64 of 128 x 192."""
    return pixels.reshape(EDGE, 2, EDGE, 3, 3).mean(axis=(1, 3))


def test_pixels_are_means_over_boxes_and_classes_alternate(tree, home):
    convert(tree, home)
    images = DATASET.load(home)
    assert images.train_y.tolist() == [0, 1, 2, 0, 1, 2] and images.test_y.tolist() == [0, 1, 2]
    seeds = [0, 10, 20, 1, 11, 21]
    means = np.stack([average_boxes(draw(seed)) for seed in seeds])
    assert np.abs(images.train_x - means).max() <= ROUNDED
    means = np.stack([average_boxes(draw(100 + label)) for label in range(3)])
    assert np.abs(images.test_x - means).max() <= ROUNDED
    assert images.classes == len(WNIDS) and not images.train_x.flags.writeable


def test_several_shards_are_read_in_their_order(tree, home, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 3 * EDGE * EDGE)
    index = convert(tree, home)
    assert [shard.name for shard in index.shards] == [
        "train-00000.npy", "train-00001.npy", "train-00002.npy", "val-00000.npy", "val-00001.npy",
    ]  # fmt: skip
    images = DATASET.load(home)
    assert np.abs(images.train_x[3] - average_boxes(draw(1))).max() <= ROUNDED
    assert np.abs(images.test_x[2] - average_boxes(draw(102))).max() <= ROUNDED


def test_a_flat_validation_folder_takes_its_classes_from_the_solution(tree, home):
    convert(tree, home)
    nested = DATASET.load(home)
    lines = ["ImageId,PredictionString"]
    for wnid in WNIDS:
        for picture in (tree / "val" / wnid).iterdir():
            picture.rename(tree / "val" / picture.name)
            lines.append(f"{picture.stem},{wnid} 1 2 3 4 {WNIDS[0]} 5 6 7 8")
        (tree / "val" / wnid).rmdir()
    assert_refused(lambda: convert(tree, home / "other"), errors.Missing, 66, image_tree.SOLUTION)
    (tree / image_tree.SOLUTION).write_text("\n".join(lines))
    convert(tree, home / "flat")
    flat = DATASET.load(home / "flat")
    assert np.array_equal(flat.test_x, nested.test_x) and np.array_equal(flat.test_y, nested.test_y)


def test_odd_pictures_are_counted_and_broken_ones_left_out(tree, home, monkeypatch):
    monkeypatch.setattr(shards, "MOST_BROKEN", 0.2)
    folder = tree / "train" / WNIDS[0]
    put(folder / "grey.JPEG", draw(1, (128, 192)), "L", format="JPEG")
    put(folder / "print.JPEG", draw(2), "CMYK", format="JPEG")
    put(folder / "cut.JPEG", draw(3), format="JPEG")
    (folder / "cut.JPEG").write_bytes((folder / "cut.JPEG").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no picture")
    index = convert(tree, home)
    assert (
        index.describe()
        == "8 + 3 pictures of 3 classes at 64 x 64; 1 grey, 1 CMYK, 9 PNG, 1 broken"
    )
    assert len(index.broken) == 1 and "cut.JPEG is not a whole JPEG" in index.broken[0]
    assert len(DATASET.load(home).train_y) == 8


def test_a_tree_with_many_broken_pictures_is_refused(tree, home):
    (tree / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").write_bytes(b"not a picture")
    assert_refused(
        lambda: convert(tree, home), errors.BadData, 65, "1 of 9 pictures", "cannot be decoded"
    )
    assert not DATASET.is_at_hand(home)


@pytest.mark.parametrize("lost", ["train-00001.npy", "train-00001.json", "index.json"])
def test_a_conversion_that_stopped_makes_only_what_is_not_there(tree, home, monkeypatch, lost):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 3 * EDGE * EDGE)
    convert(tree, home)
    whole = {path.name: path.read_bytes() for path in (home / "imagenet-64").iterdir()}
    (home / "imagenet-64" / lost).unlink()
    assert not DATASET.is_at_hand(home) or lost.endswith("1.json")
    decoded = []
    decode = image_tree.decode
    monkeypatch.setattr(
        image_tree, "decode", lambda path, edge: decoded.append(path) or decode(path, edge)
    )
    convert(tree, home)
    assert len(decoded) == (0 if lost == "index.json" else 2)
    assert {path.name: path.read_bytes() for path in (home / "imagenet-64").iterdir()} == whole


def test_shards_of_other_pictures_are_not_taken_for_these(tree, home):
    convert(tree, home)
    put(tree / "train" / WNIDS[0] / "more.JPEG", draw(7))
    assert_refused(
        lambda: convert(tree, home), errors.BadData, 65, "other pictures or another size"
    )


def test_missing_classes_are_one_line(tree, home):
    list_all = lambda: image_tree.list_tree(tree, 1000)  # noqa: E731
    assert_refused(list_all, errors.BadData, 65, "3 classes", "want 1000", "--classes 3")
    for picture in (tree / "val" / WNIDS[2]).iterdir():
        picture.unlink()
    list_some = lambda: image_tree.list_tree(tree, 3)  # noqa: E731
    assert_refused(list_some, errors.BadData, 65, "in only one of", WNIDS[2])
    list_none = lambda: image_tree.list_tree(tree / "nowhere", 3)  # noqa: E731
    assert_refused(list_none, errors.Missing, 66, "train/WNID/*.JPEG")


def test_a_flipped_bit_in_a_shard_is_found_when_it_is_read(tree, home):
    convert(tree, home)
    path = home / "imagenet-64" / "train-00000.npy"
    path.write_bytes(flip(path.read_bytes()))
    assert DATASET.is_at_hand(home)  # by its size
    for read in (DATASET.load, DATASET.verify):
        assert_refused(
            lambda read=read: read(home), errors.BadData, 65, "train-00000.npy has checksum"
        )
    path.write_bytes(path.read_bytes()[:-1])
    assert not DATASET.is_at_hand(home) and "bytes, want" in DATASET.find_damage(home)


def change_index(home, change):
    path = home / "imagenet-64" / shards.INDEX
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index["shards"][0].update(name="../../secret.npy"), "no name of a shard"),
        (lambda index: index["shards"][0].pop("labels"), "not an index of shards"),
        (lambda index: index.update(edge=32), "32 x 32, want 64"),
        (lambda index: index["shards"][0]["labels"].pop(), "want (5, 64, 64, 3)"),
    ],
)
def test_an_index_that_is_no_index_of_these_shards_is_refused(tree, home, change, words):
    convert(tree, home)
    change_index(home, change)
    assert_refused(lambda: DATASET.load(home), errors.BadData, 65, words)


def test_the_checksum_is_that_of_the_index_and_changes_with_any_shard(tree, home):
    nothing = DATASET.checksum()
    assert_refused(lambda: DATASET.load(home), errors.Missing, 66, "data shard imagenet-64 TREE")
    convert(tree, home)
    before = DATASET.checksum()
    assert before == hashlib.sha256((home / "imagenet-64" / shards.INDEX).read_bytes()).hexdigest()
    put(tree / "val" / WNIDS[0] / "ILSVRC2012_val_00000000.JPEG", draw(999))
    for path in (home / "imagenet-64").iterdir():
        path.unlink()
    convert(tree, home)
    assert len({nothing, before, DATASET.checksum()}) == 3


def test_a_set_by_name(tree, home):
    line = datasets.shard("imagenet-64", tree, len(WNIDS), jobs=2)
    assert line.startswith("6 + 3 pictures of 3 classes") and datasets.at_hand("imagenet-64")
    words = ("not made of shards", "imagenet, imagenet-64")
    assert_refused(lambda: datasets.shard("cifar10", tree), errors.BadParameter, 64, *words)
