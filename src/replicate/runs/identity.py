"""Which code this process has imported: taken once, here, and held against the files before
anything is stored.

A file that is edited while a run goes on would otherwise give the numbers of the old code the key
of the new one.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from replicate.errors import Busy

PACKAGE = Path(__file__).resolve().parents[1]


def _stamps(package: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file of the package; only those that differ are read again."""
    stamps = {}
    for file in _files(package):
        said = file.stat()
        stamps[file.path] = (said.st_mtime_ns, said.st_size)
    return stamps


def _hashes(package: Path) -> dict[str, str]:
    return {path: _hash(path) for path in sorted(file.path for file in _files(package))}


def _files(package: Path) -> Iterator[os.DirEntry]:
    """Files of the package, and of the folder benchmarks where it lies in a checkout."""
    yield from _modules_in(package)
    if (package.parents[1] / "benchmarks").is_dir():
        yield from _modules_in(package.parents[1] / "benchmarks")


def _modules_in(folder: Path | os.DirEntry) -> Iterator[os.DirEntry]:
    """As the system lists them, not as `Path`: every run asks for all of them when it is done."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _modules_in(entry)


def _hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


IMPORTED_STAMPS = _stamps(PACKAGE)
IMPORTED = _hashes(PACKAGE)


@functools.cache
def hash_imported() -> str:
    """A hash of the whole package as this process imported it; a worker compares it with its own."""
    text = "".join(
        f"{os.path.relpath(path, PACKAGE.parents[1])} {digest}\n"
        for path, digest in IMPORTED.items()
    )
    return hashlib.sha256(text.encode()).hexdigest()


def check_unchanged(expected: str | None = None) -> None:
    """Raise Busy if a file of the package has changed since it was imported.

    expected: `hash_imported` of the process that asked for the run, which must have imported the
    same.
    """
    now = _stamps(PACKAGE)
    for path in sorted(now.keys() | IMPORTED.keys()) if now != IMPORTED_STAMPS else ():
        if now.get(path) != IMPORTED_STAMPS.get(path) and (
            path not in now or _hash(path) != IMPORTED.get(path)
        ):
            name = os.path.relpath(path, PACKAGE.parents[1])
            raise Busy(
                f"{name} has changed since this run began; nothing of it is stored; run the same command again"
            )
    if expected is not None and expected != hash_imported():
        raise Busy(
            "the code has changed between this process and its workers; run the same command again"
        )
