"""CIFAR: what is loaded equals the records on disk, and no record that is wrong is loaded."""

import numpy as np
import pytest
from small_sets import FOLDER, as_file, assert_refused, cut, flip, list_files, records

from replicate import datasets, errors, paths
from replicate.datasets import cifar10, cifar100, cifar100_coarse

real_cifar10 = pytest.mark.skipif(
    not datasets.at_hand("cifar10"), reason="cifar10 not at hand (make data)"
)
real_cifar100 = pytest.mark.skipif(
    not datasets.at_hand("cifar100"), reason="cifar100 not at hand (make data NAME=cifar100)"
)


def assert_record(image, path, number, label_bytes):
    """Pixel by pixel: the image is record `number` of the file. Returns its label bytes."""
    width = label_bytes + 3072
    with open(paths.data_folder() / path, "rb") as plain:
        plain.seek(number * width)
        record = plain.read(width)
    for row in range(32):
        for column in range(32):
            for channel in range(3):
                place = label_bytes + 1024 * channel + 32 * row + column
                assert image[row, column, channel] == record[place]
    return list(record[:label_bytes])


# The real sets


@real_cifar10
def test_cifar10_has_its_counts_and_its_records():
    images = datasets.load("cifar10")
    assert (images.train_x.shape, images.test_x.shape) == ((50000, 32, 32, 3), (10000, 32, 32, 3))
    assert (images.train_x.dtype, images.train_y.dtype) == (np.uint8, np.int64)
    assert (images.classes, images.peak) == (10, 255)
    assert np.bincount(images.train_y).tolist() == [5000] * 10
    assert np.bincount(images.test_y).tolist() == [1000] * 10
    for path, image, label in (
        ("data_batch_1", images.train_x[0], images.train_y[0]),
        ("data_batch_3", images.train_x[20000], images.train_y[20000]),
        ("test_batch", images.test_x[0], images.test_y[0]),
    ):
        assert [label] == assert_record(image, f"{FOLDER}/{path}.bin", 0, 1)


@real_cifar10
def test_cifar10_is_verified_in_full():
    checked = datasets.verify("cifar10")
    assert [file for file, _ in checked] == [
        *(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6)),
        f"{FOLDER}/test_batch.bin",
    ]
    assert checked[0][1].startswith("cee916563c9f80d8")


@real_cifar100
def test_cifar100_has_its_counts_and_its_records_with_either_label():
    fine = datasets.load("cifar100")
    coarse = datasets.load("cifar100-coarse")
    assert np.bincount(fine.train_y).tolist() == [500] * 100
    assert np.bincount(fine.test_y).tolist() == [100] * 100
    assert np.bincount(coarse.train_y).tolist() == [2500] * 20
    assert np.bincount(coarse.test_y).tolist() == [500] * 20
    path = "cifar-100-binary/train.bin"
    for number in (0, 49999):
        labels = [coarse.train_y[number], fine.train_y[number]]
        assert labels == assert_record(fine.train_x[number], path, number, 2)
    assert np.array_equal(fine.test_x, coarse.test_x)


@real_cifar100
def test_each_fine_class_lies_in_one_coarse_class_and_each_coarse_class_has_five():
    fine = datasets.load("cifar100")
    coarse = datasets.load("cifar100-coarse")
    pairs = set(zip(fine.train_y.tolist(), coarse.train_y.tolist(), strict=True))
    assert pairs == set(zip(fine.test_y.tolist(), coarse.test_y.tolist(), strict=True))
    assert sorted(label for label, _ in pairs) == list(range(100))
    assert np.bincount([label for _, label in pairs]).tolist() == [5] * 20


@pytest.mark.parametrize("dataset", [cifar10.DATASET, cifar100.DATASET, cifar100_coarse.DATASET])
def test_declared_sizes_are_those_of_50000_and_10000_images(dataset):
    width = dataset.label_bytes + 3072
    assert sum(file.size for file in dataset.files[:-1]) == 50000 * width
    assert dataset.files[-1].size == 10000 * width


# Small sets in the same layout


def test_files_keep_their_order_and_planes_become_channels(declare, put, contents):
    declare(contents)
    put(contents)
    images = datasets.load("cifar10")
    plain = np.frombuffer(b"".join(contents.values()), np.uint8).reshape(40, 3073)
    assert np.array_equal(images.train_y, plain[:30, 0])
    assert np.array_equal(images.test_y, plain[30:, 0])
    planes = np.moveaxis(np.concatenate([images.train_x, images.test_x]), 3, 1)
    assert np.array_equal(planes.reshape(40, 3072), plain[:, 1:])
    assert images.train_x.flags.c_contiguous and not images.train_x.flags.writeable


@pytest.mark.parametrize(("label", "train", "test"), [(1, [99, 3], [3, 99]), (0, [19, 7], [7, 19])])
def test_the_declared_label_byte_of_two_is_the_label(declare, put, label, train, test):
    table = np.zeros((2, 3074), np.uint8)
    table[:, 0] = (19, 7)
    table[:, 1] = (99, 3)
    contents = {f"{FOLDER}/train.bin": table.tobytes(), f"{FOLDER}/test.bin": table[::-1].tobytes()}
    declare(contents, label_bytes=2, label=label, classes=100)
    put(contents)
    images = datasets.load("cifar10")
    assert images.train_y.tolist() == train and images.test_y.tolist() == test
    assert images.classes == 100


def test_the_last_of_two_label_bytes_is_the_fine_label():
    fine = cifar100.DATASET
    coarse = cifar100_coarse.DATASET
    assert (fine.label_bytes, fine.label, fine.classes) == (2, 1, 100)
    assert (coarse.label_bytes, coarse.label, coarse.classes) == (2, 0, 20)


def test_checksum_changes_with_any_byte_of_the_set(declare, contents):
    declare(contents)
    before = datasets.checksum("cifar10")
    declare({**contents, f"{FOLDER}/test_batch.bin": records(10, 4)})
    assert len(before) == 64
    assert datasets.checksum("cifar10") != before != datasets.checksum("digits")


@pytest.mark.parametrize("call", [datasets.load, datasets.verify])
def test_missing_set_says_where_it_was_looked_for_and_what_helps(declare, contents, tmp_path, call):
    declare(contents)
    assert not datasets.at_hand("cifar10")
    where = f"cifar10 is not at hand in {tmp_path / 'data'}"
    remedies = ("run make data", f"set REPLICATE_DATA to a folder that has {FOLDER}/")
    assert_refused(lambda: call("cifar10"), errors.Missing, 66, where, *remedies)
    assert list_files(tmp_path) == []


def test_one_absent_file_is_named(declare, put, contents, tmp_path):
    declare(contents)
    put(contents)
    (tmp_path / "data" / FOLDER / "data_batch_2.bin").unlink()
    assert not datasets.at_hand("cifar10")
    assert_refused(lambda: datasets.load("cifar10"), errors.Missing, 66, "data_batch_2.bin")


@pytest.mark.parametrize("file", ["data_batch_2.bin", "test_batch.bin"])
@pytest.mark.parametrize(
    ("damage", "words"), [(cut, ("30729 bytes", "want 30730")), (flip, ("has checksum", "want"))]
)
@pytest.mark.parametrize("call", [datasets.load, datasets.verify])
def test_damaged_file_is_refused_and_not_touched(
    declare, put, contents, tmp_path, call, damage, words, file
):
    path = f"{FOLDER}/{file}"
    declare(contents)
    damaged = {**contents, path: damage(contents[path])}
    put(damaged)
    remedy = "delete it and run python -m replicate data fetch cifar10"
    assert_refused(lambda: call("cifar10"), errors.BadData, 65, f"{path} has", *words, remedy)
    assert {path: (tmp_path / "data" / path).read_bytes() for path in contents} == damaged


def test_label_outside_the_classes_is_refused_even_with_the_right_checksum(declare, put, contents):
    path = f"{FOLDER}/data_batch_2.bin"
    contents[path] = bytes([10]) + contents[path][1:]
    declare(contents)
    put(contents)
    words = ("data_batch_2.bin has label 10", "less than 10")
    assert_refused(lambda: datasets.load("cifar10"), errors.BadData, 65, *words)


def test_file_of_other_records_is_refused_even_with_the_right_checksum(declare, put, contents):
    contents[f"{FOLDER}/test_batch.bin"] = records(10, 3, width=3074)
    declare(contents)
    put(contents)
    words = ("test_batch.bin has 30740 bytes", "multiple of 3073")
    assert_refused(lambda: datasets.load("cifar10"), errors.BadData, 65, *words)


def test_a_set_may_lie_behind_links(declare, contents, tmp_path):
    """A link to the right file is the right file."""
    declare(contents)
    for path, content in contents.items():
        target = tmp_path / "elsewhere" / path
        link = tmp_path / "data" / path
        for folder in (target.parent, link.parent):
            folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        link.symlink_to(target)
    assert datasets.at_hand("cifar10")
    sums = [(path, as_file(path, content).sha256) for path, content in contents.items()]
    assert datasets.verify("cifar10") == sums
