"""Where things lie, and how a file comes to lie there whole or not at all."""

import contextlib
import errno
import os
import re
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from replicate.errors import BadParameter, DiskFull

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
PART = ".part"  # ends the name of a file that is being written, `.<name>.<eight letters>.part`
UNFINISHED = re.compile(r"\..+\.\w{8}\.part")
NAME_LETTERS = 60  # letters of a name that another is made of; they may have four bytes each, and a system takes 255
ATTEMPTS = 5  # at a new file, where another process took it for one that was left behind
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
    folder, and every later call, means the same. Raises BadParameter for `~name` of nobody.
    """
    named = os.environ.get(DATA)
    if not named:
        return WORK / "data"
    try:
        folder = Path(named).expanduser().absolute()
    except RuntimeError:  # `~` of nobody
        raise BadParameter(
            f"{DATA} must be a folder, got {named[:80]!r}, whose user is unknown"
        ) from None
    os.environ[DATA] = str(folder)
    return folder


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is always the old file or the new one, whole, even if killed.

    Raises DiskFull if the disk has no room; the old file is kept and no temporary file is left. One
    that a killed process has left in the folder is removed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path.parent)
        for attempt in range(ATTEMPTS):
            try:
                _replace(path, content)
                break
            except (BlockingIOError, FileNotFoundError):
                if attempt == ATTEMPTS - 1:
                    raise
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = f"{error.strerror} while writing {path}"
        raise DiskFull(
            f"{reason}; what was there before is kept; make room, and run it again"
        ) from None


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name[:NAME_LETTERS]}.", suffix=PART
    )
    try:
        with os.fdopen(handle, "wb") as file:
            _lock(handle)
            file.write(content)
            file.flush()
            os.fsync(handle)
            with contextlib.suppress(
                PermissionError
            ):  # a share may fix the rights of all its files
                os.chmod(name, 0o644)
            os.replace(name, path)  # before it is closed, which ends the lock
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed processes were writing: its lock went with them."""
    for path in folder.glob(f".*{PART}"):
        if not UNFINISHED.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # one that is being written, or is gone already
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle):
                    path.unlink()
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    """Whether nobody else has the file locked, which this process has from now on; False where files
    cannot be locked. Raises BlockingIOError if somebody has.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


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


with contextlib.suppress(BadParameter):  # which whoever needs the folder is told
    data_folder()  # at once, before anybody changes the folder of this process or starts a kernel
