"""What every image set is, and how a file on disk becomes bytes that are known: size first, then SHA-256, then use."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicate.errors import BadData, Missing


@dataclass(frozen=True, eq=False)
class Images:
    """A training and a test set of images; the arrays are shared between callers and cannot be written to.

    Images are (n, h, w, c) uint8 from 0 (black) to `peak` (white), labels (n,) int64 in [0, classes).
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    peak: int  # 16 for the digits, else 255


@dataclass(frozen=True)
class File:
    """A file that is known by its path (below the data folder or within an archive), bytes and SHA-256."""

    path: str
    size: int
    sha256: str


def sealed(name: str, train: tuple, test: tuple, classes: int, peak: int) -> Images:
    """The image set of two (images, labels), which from now on nobody can write to."""
    for array in (*train, *test):
        array.flags.writeable = False
    return Images(name, *train, *test, classes=classes, peak=peak)


def read(file: File, folder: Path, absent: str, hint: str) -> bytes:
    """The bytes of one file below `folder`, which are what they should be.

    Raises Missing with the line `absent` if it is not there, BadData that ends in `hint` if it is another file.
    """
    path = folder / file.path
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadData(f"{path} is not a plain file; {hint}")
        check_size(path, file, status.st_size, hint)  # before it is read: nothing else has a bound
        content = path.read_bytes()
    except FileNotFoundError:
        raise Missing(absent) from None
    except OSError as error:
        raise Missing(f"{path} cannot be read ({error.strerror}); make it readable, or set REPLICATE_DATA") from error
    check(path, file, content, hint)
    return content


def check_size(shown: Path | str, file: File, size: int, hint: str) -> None:
    """Raise BadData that names `shown` and ends in `hint` unless `size` is the file's."""
    if size != file.size:
        raise BadData(f"{shown} has {size} bytes, want {file.size}; {hint}")


def check(shown: Path | str, file: File, content: bytes, hint: str) -> None:
    """Raise BadData that names `shown` and ends in `hint` unless size and SHA-256 of `content` are the file's."""
    check_size(shown, file, len(content), hint)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise BadData(f"{shown} has checksum {sha256[:12]}..., want {file.sha256[:12]}...; {hint}")
