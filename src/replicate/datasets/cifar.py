"""The author's binary layout of CIFAR: one record per image, label bytes first, then planes.

The planes are red, green and blue, each row by row. The last file is the test set.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from replicate.datasets.files import File
from replicate.datasets.images import ImageSet, Labelled
from replicate.errors import BadData

TERMS = (
    "No formal licence; the author asks that the report be cited. "
    "The images were collected from the web."
)
HOME = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True, kw_only=True)
class Cifar(ImageSet):
    """A CIFAR set; of the `label_bytes` before an image, byte `label` is its class."""

    shape: tuple[int, int, int] = (3, 32, 32)
    train_images: int = 50_000
    test_images: int = 10_000
    label_bytes: int
    label: int

    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """See ImageSet. Raises BadData for a file of other records or a label out of range."""
        # One file at a time becomes an array, so that its bytes can go before the next is read.
        batches = [self._split_records(file, content) for file, content in contents]
        images = np.concatenate([pixels for pixels, _ in batches[:-1]])
        labels = np.concatenate([labels for _, labels in batches[:-1]])
        return (images, labels), batches[-1]

    def _split_records(self, file: File, content: bytes) -> Labelled:
        width = self.label_bytes + int(np.prod(self.shape))
        if len(content) % width:
            want = f"a multiple of {width}, one record per image"
            raise BadData(f"{file.path} has {len(content)} bytes, want {want}")
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
        labels = records[:, self.label].astype(np.int64)
        if labels.max(initial=0) >= self.classes:
            raise BadData(f"{file.path} has label {labels.max()}, want less than {self.classes}")
        planes = records[:, self.label_bytes :].reshape(-1, *self.shape)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
