"""An image set that this machine made from a folder tree: its checksums are in its own index.

The pixels of a photograph depend on the decoder, so no SHA-256 can be pinned for all machines. What
stands for every byte of such a set is the SHA-256 of its index, which has those of all its shards.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from replicate import paths
from replicate.datasets import catalogue, files, image_tree, shards
from replicate.datasets.files import File
from replicate.datasets.images import Images, ImageSet, Labelled
from replicate.errors import BadData, BadParameter, Failure, Missing


@dataclass(frozen=True, kw_only=True)
class Sharded(ImageSet):
    """Shards in the folder that is called as the set; its validation set is the test set.

    `classes` and the two numbers of images are those of the whole tree; a part of it has fewer, and
    the index knows how many.
    """

    files: tuple[File, ...] = ()

    @property
    def place(self) -> str:
        """See DataSet."""
        return f"{self.name}/"

    def checksum(self) -> str:
        """SHA-256 (hex) of the index below the data folder; of nothing where there is none, which no
        run can have used.
        """
        try:
            return hashlib.sha256(self._read_index(paths.data_folder())).hexdigest()
        except Missing:
            return hashlib.sha256().hexdigest()

    def is_at_hand(self, folder: Path) -> bool:
        """Whether the index is there, and every shard that it names with its size."""
        try:
            return not any(files.find_damage(file, folder) for file in self._list_files(folder))
        except (Failure, OSError):
            return False

    def find_damage(self, folder: Path) -> str | None:
        """See DataSet; without an index nobody knows which files there should be.

        Raises Missing then.
        """
        try:
            listed = self._list_files(folder)
        except BadData as error:
            return str(error)
        for file in listed:
            try:
                damage = files.find_damage(file, folder)
            except (FileNotFoundError, NotADirectoryError):
                damage = self.explain_absence(folder, file)
            if damage:
                return damage
        return None

    def read(self, folder: Path) -> Iterator[tuple[File, bytes]]:
        """The index, then each shard with its bytes, which were checked. Raises Missing, BadData."""
        content = self._read_index(folder)
        digest = hashlib.sha256(content).hexdigest()
        yield File(f"{self.place}{shards.INDEX}", len(content), digest), content
        for file in self._list_files(folder):
            absent = self.explain_absence(folder, file)
            yield file, files.read(file, folder, absent, shards.REMEDY)

    def load(self, folder: Path) -> Images:
        """See ImageSet; the classes are those that the index names."""
        index = self._parse_index(folder)
        return replace(super().load(folder), classes=len(index.wnids))

    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """See ImageSet. Raises BadData for an index or a shard of another form."""
        file, content = next(contents)
        index = self._parse(file.path, content)
        train, test = (self._decode_split(index, split, contents) for split in ("train", "val"))
        return train, test

    def _decode_split(
        self, index: shards.Index, split: str, contents: Iterator[tuple[File, bytes]]
    ) -> Labelled:
        labels = [label for shard in index.of_split(split) for label in shard.labels]
        images = np.empty((len(labels), index.edge, index.edge, 3), dtype=np.uint8)
        start = 0
        for shard in index.of_split(split):
            file, content = next(contents)
            part = images[start : start + len(shard.labels)]
            part[:] = shards.read_pixels(file.path, content, part.shape)
            start += len(part)
        return images, np.array(labels, dtype=np.int64)

    def _list_files(self, folder: Path) -> list[File]:
        return self._parse_index(folder).files(self.name)

    def _parse_index(self, folder: Path) -> shards.Index:
        label = str(folder / self.name / shards.INDEX)
        return self._parse(label, self._read_index(folder))

    def _parse(self, label: str, content: bytes) -> shards.Index:
        index = shards.read_index(label, content)
        if index.edge != self.shape[1]:
            actual = f"{label} is of pictures of {index.edge} x {index.edge}"
            raise BadData(f"{actual}, want {self.shape[1]}; {shards.REMEDY}")
        return index

    def _read_index(self, folder: Path) -> bytes:
        path = folder / self.name / shards.INDEX
        try:
            return path.read_bytes()
        except FileNotFoundError:
            absent = f"{self.name} is not at hand in {folder} (no {path})"
            raise Missing(f"{absent}; {self.by_hand}") from None
        except OSError as error:
            raise files.explain_unreadable(path, error) from error


def shard(name: str, tree: Path, classes: int | None = None, jobs: int = -1) -> str:
    """Decode ImageNet's folders into the shards of set `name`, below `paths.data_folder()`.

    tree: has train/WNID/*.JPEG and val/, see `image_tree`; classes: of a part of the tree, else
    those of the set; jobs: processes, -1 for one a core. Returns a line that says what is there.
    Shards that are there already are kept. Raises BadParameter for a set that has no shards,
    Missing, BadData, DiskFull.
    """
    dataset = catalogue.describe(name)
    if not isinstance(dataset, Sharded):
        sharded = [n for n in catalogue.NAMES if isinstance(catalogue.describe(n), Sharded)]
        raise BadParameter(f"{name} is not made of shards; those that are: {', '.join(sharded)}")
    listed = image_tree.list_tree(tree, classes or dataset.classes)
    folder = paths.data_folder() / name
    return shards.write(listed, folder, dataset.shape[1], jobs).describe()
