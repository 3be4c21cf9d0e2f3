"""Where things lie, and how a file comes to lie there whole or not at all."""

import errno
import os
import tempfile
from pathlib import Path

from replicate.errors import DiskFull

ROOT = Path(__file__).resolve().parents[2]  # holds for an editable install, which `make env` makes
BUILD = ROOT / "build"
CLAIMS = ROOT / "data" / "claims"
RESULTS = ROOT / "data" / "results"
NOTEBOOKS = ROOT / "notebooks"


def data_folder() -> Path:
    """The folder of the data sets: REPLICATE_DATA if set, else `data/`."""
    return Path(os.environ.get("REPLICATE_DATA") or ROOT / "data")


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is always the old file or the new one, whole, even if the process is killed.

    Raises DiskFull if the disk has no room; the old file is kept and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{error.strerror} while writing {path}; what was there before is kept") from None
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
