"""Ten classes of Tiny-ImageNet, 64 x 64 pixels, decoded from one zip archive that is only found, never fetched.

The archive's SHA-256 is checked before it is opened and that of the pixels after they are decoded, since a JPEG leaves
its decoder some freedom. Members are read in memory, so no path in the archive ever becomes a path on this machine.
"""

import hashlib
import io
import re
import stat
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from replicate.datasets.images import File, Images, read, sealed
from replicate.errors import BadData, Missing

NAME = "tiny-imagenet-10"
FILE = File(f"{NAME}.zip", 11286575, "3d79589362b74ffb1bb60be2ec69816c59941996a2a4acf9dc29e3a02886c371")
PIXELS_SHA256 = "80e0b26c4a931246c2c2a1a8d59b83337d6f6b2268ea294e3f02c621a4b4b6b0"  # training images, then test images
CLASSES, SIDE, PARTS = 10, 64, ("train", "val")
MEMBER = re.compile(r"(train|val)/(n[0-9]{8})/(?:\2|val)_([0-9]{1,4})\.JPEG")
LEGEND = "classes.txt"  # WNID and words of each class; not read


class Member(NamedTuple):
    """An image of the archive; members sort by number, so that any first part of a set has all classes alike."""

    number: int
    wnid: str  # the class in WordNet
    part: str
    path: str


@lru_cache(maxsize=1)
def load(folder: Path) -> Images:
    """The set, from the archive in `folder`; the last one is kept in memory.

    Labels are the places of the classes' WNIDs in their order, the test set is Tiny-ImageNet's validation set. Raises
    Missing if the archive is not there, BadData if it is not what it should be.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content(folder))) as archive:
            members = _members(archive)
            train, test = (_part(archive, part, members) for part in PARTS)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadData(f"{FILE.path} is cut short or not a zip archive ({error}); refused") from error
    sha256 = hashlib.sha256(train[0].tobytes() + test[0].tobytes()).hexdigest()
    if sha256 != PIXELS_SHA256:
        raise BadData(
            f"the pixels decoded from {FILE.path} have checksum {sha256[:12]}..., want {PIXELS_SHA256[:12]}...; "
            "install the version of Pillow in requirements.lock"
        )
    return sealed(NAME, train, test, CLASSES, peak=255)


def content(folder: Path) -> bytes:
    """The bytes of the archive, which are what they should be. Raises as `load`."""
    return read(FILE, folder, str(absent(folder)), f"put the right one there, or delete it to go on without {NAME}")


def absent(folder: Path) -> Missing:
    """The error that says where the archive has to lie."""
    return Missing(
        f"{NAME} is not at hand in {folder} (no {FILE.path} of {FILE.size} bytes); "
        "it is only found, never fetched: put it there, or set REPLICATE_DATA to a folder that has it"
    )


def _members(archive: zipfile.ZipFile) -> list[Member]:
    """The images of the archive in their order; one member that is no such file refuses them all."""
    members = [_member(info) for info in archive.infolist() if info.filename != LEGEND]
    if len(set(members)) < len(members):
        raise BadData(f"{FILE.path} has two members of one name; refused")
    train, val = ({one.wnid for one in members if one.part == part} for part in PARTS)
    if train != val or len(train) != CLASSES:
        raise BadData(f"{FILE.path} has {len(train)} classes and {len(val)}, want the same {CLASSES} twice; refused")
    return sorted(members)


def _member(info: zipfile.ZipInfo) -> Member:
    name = MEMBER.fullmatch(info.filename)
    if name is None:
        raise BadData(f"{FILE.path}: {info.filename!r} is not named as an image of this set; refused")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BadData(f"{FILE.path}: {info.filename!r} is a link, device or pipe, not a plain file; refused")
    # What is stored is as long as it is in the archive; what is packed could unpack to any length.
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise BadData(f"{FILE.path}: {info.filename!r} is packed or encrypted, not stored; refused")
    part, wnid, number = name.groups()
    return Member(int(number), wnid, part, info.filename)


def _part(archive: zipfile.ZipFile, part: str, members: list[Member]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 64, 64, 3) uint8 and labels (n,) int64 of the training or the validation set."""
    wnids = sorted({one.wnid for one in members})
    own = [one for one in members if one.part == part]
    labels = np.array([wnids.index(one.wnid) for one in own], dtype=np.int64)
    return np.stack([_pixels(one.path, archive.read(one.path)) for one in own]), labels


def _pixels(path: str, jpeg: bytes) -> np.ndarray:
    """(64, 64, 3) uint8 of a JPEG, a grey one three times; its header is believed only if it says 64 x 64."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            if image.size != (SIDE, SIDE) or image.mode not in ("RGB", "L"):
                shape = f"{image.width} x {image.height} {image.mode}"
                raise BadData(f"{FILE.path}: {path} is {shape}, want {SIDE} x {SIDE} RGB or L; refused")
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise BadData(f"{FILE.path}: {path} is not a whole JPEG ({error}); refused") from error
