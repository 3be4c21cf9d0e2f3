"""What an image set declares beside its files, and the arrays that it is loaded into."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicate.datasets.dataset import DataSet
from replicate.datasets.files import File, check_sha256

Labelled = tuple[np.ndarray, np.ndarray]  # images (n, h, w, c) uint8, labels (n,) int64
PILLOW = "install the version of Pillow in requirements.lock"


@dataclass(frozen=True, eq=False)
class Images:
    """A training and a test set of images; all callers share the arrays, which are read-only.

    Images are (n, h, w, c) uint8 from 0 (black) to `peak` (white), labels (n,) int64 from 0 to
    `classes` - 1.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    peak: int  # 16 for the digits, else 255


@dataclass(frozen=True, kw_only=True)
class ImageSet(DataSet, ABC):
    """Labelled images in a training and a test set.

    `shape` is (channels, height, width) of one image, as a network takes it; the arrays are
    (n, height, width, channels). `pixels_sha256` is that of the decoded training images, then the
    test images; it is declared where the compression is lossy, which leaves a decoder some freedom.
    """

    shape: tuple[int, int, int]
    classes: int
    train_images: int
    test_images: int
    peak: int = 255
    pixels_sha256: str | None = None

    @abstractmethod
    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """Training and test set of the files, which come in their declared order.

        Raises BadData if a file is not in the format of the set.
        """

    def load(self, folder: Path) -> Images:
        """The set, from the files below `folder`.

        Raises Missing if a file is not there, BadData if one differs or is decoded to other pixels.
        """
        train, test = self.decode(self.read(folder))
        if self.pixels_sha256 is not None:
            actual = hashlib.sha256(train[0].tobytes() + test[0].tobytes()).hexdigest()
            label = f"the pixels decoded from {self.place} have"
            check_sha256(label, actual, self.pixels_sha256, PILLOW)
        for array in (*train, *test):
            array.flags.writeable = False
        return Images(self.name, *train, *test, classes=self.classes, peak=self.peak)
