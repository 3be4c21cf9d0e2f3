"""Where things lie, and how a file comes to lie there whole or not at all."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from replicate.errors import DiskFull

PACKAGE = Path(__file__).resolve().parent


def is_checkout(package: Path) -> bool:
    """Whether `package` lies in src/ of a repository of this project, not among installed ones."""
    return package.parent.name == "src" and (package.parents[1] / "pyproject.toml").is_file()


IS_CHECKOUT = is_checkout(PACKAGE)
# Claims, results and notebooks: the repository's, else those that the wheel brought; these are only
# read.
ROOT = PACKAGE.parents[1] if IS_CHECKOUT else PACKAGE / "shipped"
WORK = ROOT if IS_CHECKOUT else Path.cwd()  # where everything is written
BUILD = WORK / "build"
CLAIMS = ROOT / "data" / "claims"
ANSWERS = ROOT / "data" / "answers"
RESULTS = ROOT / "data" / "results"
NOTEBOOKS = ROOT / "notebooks"
DATA = "REPLICATE_DATA"  # environment variable: the folder of the data sets
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What CIFS, VirtualBox, FUSE and Windows answer to an fsync of a folder, which they cannot do.
NO_FOLDER_SYNC = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EBADF,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
)


def data_folder() -> Path:
    """The folder of the data sets, absolute: REPLICATE_DATA if set, else `data/` in WORK.

    `~` is the user's home. A relative folder is taken from where this process was when it first
    asked; the variable then holds the absolute one, so that a kernel which starts in another
    folder, and every later call, means the same.
    """
    named = os.environ.get(DATA)
    if not named:
        return WORK / "data"
    folder = Path(named).expanduser().absolute()
    os.environ[DATA] = str(folder)
    return folder


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is always the old file or the new one, whole, even if killed.

    Raises DiskFull if the disk has no room; the old file is kept and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(PermissionError):  # a share may fix the rights of all its files
            os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            reason = f"{error.strerror} while writing {path}"
            raise DiskFull(f"{reason}; what was there before is kept") from None
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # The file is in its place, whole; only which of the two a power cut leaves is not certain.
        if error.errno not in NO_FOLDER_SYNC:
            raise


data_folder()  # at once, before anybody changes the folder of this process or starts a kernel
