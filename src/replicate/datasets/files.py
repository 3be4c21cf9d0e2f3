"""A file is used only after its size, and then its SHA-256, were found to be the pinned ones."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from replicate.errors import BadData, Missing


@dataclass(frozen=True)
class File:
    """A file with its path (below the data folder or within an archive), bytes and SHA-256."""

    path: str
    size: int
    sha256: str


def find_damage(file: File, folder: Path) -> str | None:
    """How the file below `folder` differs in kind or size, seen without reading it; None if equal.

    Raises FileNotFoundError if nothing is there, another OSError if it cannot be looked at.
    """
    path = folder / file.path
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            return f"{path} is a link to {os.readlink(path)}, where nothing is"
        raise
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is {_name_kind(status.st_mode)}, not a plain file"
    return _compare_size(path, file, status.st_size)


def read(file: File, folder: Path, absent: str, hint: str) -> bytes:
    """The bytes of one file below `folder`, after size and SHA-256 were checked.

    Raises Missing with the line `absent` if nothing is there, Missing if it cannot be read, BadData
    that ends in `hint` if it is another file.
    """
    path = folder / file.path
    try:
        damage = find_damage(file, folder)  # before it is read: nothing else bounds its length
        content = b"" if damage else path.read_bytes()
    except FileNotFoundError:
        raise Missing(absent) from None
    except OSError as error:
        raise explain_unreadable(path, error) from error
    if damage:
        raise BadData(f"{damage}; {hint}")
    check(path, file, content, hint)
    return content


def explain_unreadable(path: Path, error: OSError) -> Missing:
    """The error for a file that is there and cannot be looked at or read."""
    remedy = "make it readable, or set REPLICATE_DATA"
    return Missing(f"{path} cannot be read ({error.strerror}); {remedy}")


def check_size(label: Path | str, file: File, size: int, hint: str) -> None:
    """Raise BadData that names `label` and ends in `hint` unless `size` is the file's."""
    if damage := _compare_size(label, file, size):
        raise BadData(f"{damage}; {hint}")


def check(label: Path | str, file: File, content: bytes, hint: str) -> None:
    """Raise BadData that names `label`, ends in `hint`, unless size and SHA-256 are the file's."""
    check_size(label, file, len(content), hint)
    check_sha256(f"{label} has", hashlib.sha256(content).hexdigest(), file.sha256, hint)


def check_sha256(label: str, actual: str, expected: str, hint: str) -> None:
    """Raise BadData that begins with `label` and ends in `hint` unless both SHA-256 are equal."""
    if actual != expected:
        raise BadData(f"{label} checksum {actual[:12]}..., want {expected[:12]}...; {hint}")


def _compare_size(label: Path | str, file: File, size: int) -> str | None:
    return None if size == file.size else f"{label} has {size} bytes, want {file.size}"


def _name_kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
