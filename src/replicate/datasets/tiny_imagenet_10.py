"""Ten classes of Tiny-ImageNet, 64 x 64 pixels, decoded from one zip archive.

The archive's SHA-256 is checked before it is opened and that of the pixels after they are decoded,
since a JPEG leaves its decoder some freedom. Members are read in memory, so no path in the archive
ever becomes a path on this machine.
"""

import io
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from replicate.datasets.files import File
from replicate.datasets.images import ImageSet, Labelled
from replicate.errors import BadData

SPLITS = ("train", "val")
MEMBER = re.compile(r"(train|val)/(n[0-9]{8})/(?:\2|val)_([0-9]{1,4})\.JPEG")
LEGEND = "classes.txt"  # WNID and words of each class; not read


class Member(NamedTuple):
    """An image of the archive; sorted by number, any run of ten images has each class once."""

    number: int
    wnid: str  # the class in WordNet
    split: str
    path: str


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(ImageSet):
    """Classes of Tiny-ImageNet; its validation set is the test set.

    Labels are the places of the classes' WNIDs in their order.
    """

    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """See ImageSet. Raises BadData for a member that is not a plain JPEG of this set."""
        [(file, content)] = contents
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = self._list_members(file, archive)
                train, test = (self._decode_split(archive, s, members) for s in SPLITS)
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            reason = f"cut short or not a zip archive ({error})"
            raise BadData(f"{file.path} is {reason}; refused") from error
        return train, test

    def _list_members(self, file: File, archive: zipfile.ZipFile) -> list[Member]:
        """The images in their order; one member that is no such image refuses them all."""
        entries = [entry for entry in archive.infolist() if entry.filename != LEGEND]
        members = [_parse_member(file, entry) for entry in entries]
        if len(set(members)) < len(members):
            raise BadData(f"{file.path} has two members of one name; refused")
        train, val = ({m.wnid for m in members if m.split == split} for split in SPLITS)
        if train != val or len(train) != self.classes:
            count = f"{len(train)} classes and {len(val)}, want the same {self.classes} twice"
            raise BadData(f"{file.path} has {count}; refused")
        return sorted(members)

    def _decode_split(
        self, archive: zipfile.ZipFile, split: str, members: list[Member]
    ) -> Labelled:
        wnids = sorted({member.wnid for member in members})
        chosen = [member for member in members if member.split == split]
        labels = np.array([wnids.index(member.wnid) for member in chosen], dtype=np.int64)
        pixels = [self.decode_jpeg(member.path, archive.read(member.path)) for member in chosen]
        return np.stack(pixels), labels

    def decode_jpeg(self, path: str, jpeg: bytes) -> np.ndarray:
        """(64, 64, 3) uint8; a grey image has three equal channels.

        Raises BadData for another format or size; the size is checked before a pixel is decoded.
        """
        from PIL import Image

        label = f"{self.place}: {path}"
        try:
            with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
                self._check_header(label, image)
                return np.asarray(image.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise BadData(f"{label} is not a whole JPEG ({error}); refused") from error

    def _check_header(self, label: str, image) -> None:
        _, height, width = self.shape
        if image.size != (width, height) or image.mode not in ("RGB", "L"):
            actual = f"{image.width} x {image.height} {image.mode}"
            raise BadData(f"{label} is {actual}, want {width} x {height} RGB or L; refused")


def _parse_member(file: File, entry: zipfile.ZipInfo) -> Member:
    label = f"{file.path}: {entry.filename!r}"
    name = MEMBER.fullmatch(entry.filename)
    if name is None:
        raise BadData(f"{label} is not named as an image of this set; refused")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BadData(f"{label} is a link, device or pipe, not a plain file; refused")
    # A stored member is as long as it is in the archive; a packed one could unpack to any length.
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise BadData(f"{label} is packed or encrypted, not stored; refused")
    split, wnid, number = name.groups()
    return Member(int(number), wnid, split, entry.filename)


DATASET = TinyImageNet(
    name="tiny-imagenet-10",
    origin="Tiny-ImageNet (Stanford's course CS231n), ten of its 200 classes",
    terms=(
        "ImageNet's, non-commercial research and education; the photographs belong to their owners."
    ),
    by_hand="it is never fetched: put it there, or set REPLICATE_DATA to a folder that has it",
    files=(
        File(
            "tiny-imagenet-10.zip",
            11286575,
            "3d79589362b74ffb1bb60be2ec69816c59941996a2a4acf9dc29e3a02886c371",
        ),
    ),
    shape=(3, 64, 64),
    classes=10,
    train_images=5000,
    test_images=500,
    pixels_sha256="80e0b26c4a931246c2c2a1a8d59b83337d6f6b2268ea294e3f02c621a4b4b6b0",
)
