"""The digits are scikit-learn's, split once and for all."""

import numpy as np
import pytest
from small_sets import assert_refused, list_files

from replicate import datasets, errors, streams
from replicate.datasets import catalogue, digits, download


def test_digits_are_scikit_learns_split_once_and_for_all():
    from sklearn.datasets import load_digits

    images = datasets.load("digits")
    source = load_digits()
    assert (images.train_x.shape, images.test_x.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (images.train_x.dtype, images.train_y.dtype) == (np.uint8, np.int64)
    assert (images.classes, images.peak) == (10, 16)
    assert images.train_x.max() == images.peak and images.train_x.min() == 0
    test = np.sort(streams.rng(0, "eval", 0).permutation(1797)[:360])
    train = np.setdiff1d(np.arange(1797), test)
    for pixels, labels, rows in (
        (images.test_x, images.test_y, test),
        (images.train_x, images.train_y, train),
    ):
        assert np.array_equal(pixels[..., 0], source.images[rows])
        assert np.array_equal(labels, source.target[rows])


def test_another_scikit_learns_digits_would_be_noticed(monkeypatch):
    import sklearn.datasets

    changed = sklearn.datasets.load_digits()
    changed.images[1000, 4, 4] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: changed)
    catalogue._load.cache_clear()
    line = assert_refused(
        lambda: datasets.load("digits"), errors.BadData, 65, "scikit-learn", digits.SHA256[:12]
    )
    assert line.endswith("install the version in requirements.lock")


def test_digits_are_always_at_hand_and_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr(download, "_reach", None)
    assert datasets.at_hand("digits") and datasets.fetch("digits") is None
    assert datasets.verify("digits") == [("scikit-learn digits", digits.SHA256)]
    assert list_files(tmp_path) == []


def test_shared_arrays_cannot_be_written_to():
    images = datasets.load("digits")
    assert datasets.load("digits") is images
    for array in (images.train_x, images.train_y, images.test_x, images.test_y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
