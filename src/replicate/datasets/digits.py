"""Handwritten digits of 8 x 8 pixels with 17 grey levels, as scikit-learn packages them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicate import streams
from replicate.datasets.files import File, check_sha256
from replicate.datasets.images import ImageSet, Labelled

# Of all pixels in scikit-learn's order, then all labels, one byte each.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@dataclass(frozen=True, kw_only=True)
class PackagedDigits(ImageSet):
    """The digits, which have no file of their own: they are always at hand and never fetched."""

    files: tuple[File, ...] = ()

    def checksum(self) -> str:
        """SHA-256 (hex) of every pixel and label."""
        return SHA256

    def verify(self, folder: Path) -> list[tuple[str, str]]:
        """The package that holds the digits, with their SHA-256. Raises BadData if they differ."""
        self.load(folder)
        return [("scikit-learn digits", SHA256)]

    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """See ImageSet; the last images of a shuffle that stays the same are the test set.

        Raises BadData if scikit-learn packages other digits.
        """
        pixels, labels = _read_package()
        order = streams.rng(0, "eval", 0).permutation(len(labels))
        test = np.sort(order[: self.test_images])
        train = np.sort(order[self.test_images :])
        return (pixels[train], labels[train]), (pixels[test], labels[test])


def _read_package() -> Labelled:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[..., None]
    content = pixels.tobytes() + digits.target.astype(np.uint8).tobytes()
    actual = hashlib.sha256(content).hexdigest()
    hint = "install the version in requirements.lock"
    check_sha256("scikit-learn's digits have", actual, SHA256, hint)
    return pixels, digits.target.astype(np.int64)


DATASET = PackagedDigits(
    name="digits",
    origin="*Optical recognition of handwritten digits* (Alpaydin and Kaynak 1998), the test part",
    terms="CC BY 4.0",
    shape=(1, 8, 8),
    classes=10,
    train_images=1437,
    test_images=360,
    peak=16,
)
