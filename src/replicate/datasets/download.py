"""From an author's server to checked files: all of a data set or nothing.

Only the declared regular files of the author's archive are read, into memory, so no path in an
archive ever becomes a path on this machine.
"""

import errno
import gzip
import queue
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from replicate import paths
from replicate.datasets.dataset import DataSet
from replicate.datasets.files import check, check_size
from replicate.errors import BadData, DiskFull, Missing
from replicate.progress import progress

REACH = 10.0  # seconds in which a server has to answer
SLACK = 2**20  # bytes an archive may hold beside its declared files: headers, read-me, label names


class Damaged(BadData, Missing):
    """A file of a data set is there, is not as declared, and could not be replaced.

    Whoever can go on without a data set that is missing can go on without this one.
    """


class Unreachable(Exception):
    """No copy of an archive could be had; the text says when and why."""


def fetch(dataset: DataSet, folder: Path) -> None:
    """Bring the set into `folder`, all of it or nothing; return at once if it is at hand.

    A file that is cut short is replaced. Raises Missing if the set cannot be fetched or the folder
    not be written, Damaged if a file differs and cannot be replaced, BadData if the archive is not
    the author's, DiskFull.
    """
    if dataset.is_at_hand(folder):
        return
    damage = dataset.find_damage(folder)
    obstructed = any(_is_obstructed(folder / file.path) for file in dataset.files)
    if dataset.url is None or obstructed:
        raise _refuse(dataset, folder, damage)
    _check_tools(dataset, damage)
    try:
        contents = _download(dataset)
    except Unreachable as error:
        raise _explain(dataset, damage, str(error)) from error.__cause__
    for path, content in contents.items():
        _write(dataset, folder, path, content)


def _is_obstructed(path: Path) -> bool:
    """Whether a folder or the like has the name of a file, which then cannot be written."""
    return path.exists() and not path.is_file()


def _refuse(dataset: DataSet, folder: Path, damage: str | None) -> Missing:
    """The error for a set that no download would help."""
    if damage is None:
        absent = next(file for file in dataset.files if not (folder / file.path).exists())
        return Missing(dataset.explain_absence(folder, absent))
    return Damaged(f"{damage}; {dataset.remedy}")


def _explain(dataset: DataSet, damage: str | None, reason: str) -> Missing:
    """The error for a set that could not be downloaded; a damaged file is named, not the server."""
    if damage is not None:
        again = f"try python -m replicate data fetch {dataset.name} again"
        return Damaged(f"{damage}; no new copy came{reason}; {again}, or put the right file there")
    remedy = f"try again, or set REPLICATE_DATA to a folder that has {dataset.place}"
    return Missing(f"{dataset.name} could not be fetched{reason}; {remedy}")


def _check_tools(dataset: DataSet, damage: str | None) -> None:
    try:
        import pooch  # noqa: F401
        import requests  # noqa: F401
    except ImportError as error:
        reason = f"{error.name}, which fetches it, is not installed"
        if damage is not None:
            raise Damaged(f"{damage}; {reason}; put the right file there") from None
        remedy = f"set REPLICATE_DATA to a folder that has {dataset.place}"
        raise Missing(f"{dataset.name} is not at hand, and {reason}; {remedy}") from None


def _write(dataset: DataSet, folder: Path, path: str, content: bytes) -> None:
    try:
        paths.write_atomic(folder / path, content)
    except DiskFull:
        raise
    except OSError as error:
        reason = f"cannot be written in {folder} ({error.strerror})"
        remedy = "set REPLICATE_DATA to a folder that can be"
        raise Missing(f"{dataset.name} {reason}; {remedy}") from error


# From the server to bytes


def _download(dataset: DataSet) -> dict[str, bytes]:
    """{path: bytes} of the files of the set, each checked."""
    _reach(dataset)
    with tempfile.TemporaryDirectory(prefix="replicate-") as folder:
        return _unpack(_retrieve(dataset, Path(folder)), dataset)


def _reach(dataset: DataSet) -> None:
    """Raise Unreachable unless the server answers within REACH seconds, name look-up included."""
    import requests

    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            requests.head(dataset.url, timeout=REACH, allow_redirects=True).close()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    # No socket's time-out covers the look-up of a name, so a thread asks that can be abandoned.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=REACH)
    except queue.Empty:
        error = TimeoutError("no answer")
    if error is not None:
        raise Unreachable(f" within {REACH:g} s {_name_cause(dataset, error)}") from error


def _name_cause(dataset: DataSet, error: Exception) -> str:
    """`(host: reason)`, the reason in a few words."""
    cause: BaseException = error
    while cause.__context__ is not None:  # requests wraps the system's error several times
        cause = cause.__context__
    first_line = (str(cause).splitlines() or [type(cause).__name__])[0]
    reason = getattr(cause, "strerror", None) or first_line
    return f"({urlsplit(dataset.url).hostname}: {reason})"


def _retrieve(dataset: DataSet, folder: Path) -> Path:
    """The archive, fetched into `folder` and checked."""
    import pooch

    archive = dataset.archive

    def download(url: str, output: str, caller: pooch.Pooch) -> None:
        bar = progress((), f"fetching {dataset.name}", total=archive.size) or False
        if bar:
            bar.unit = "B"
            bar.unit_scale = True
        try:
            pooch.HTTPDownloader(progressbar=bar, timeout=REACH)(url, output, caller)
        finally:
            if bar:  # pooch leaves it open where the connection breaks off
                bar.close()
        # pooch checks as well, but does not say how what came differs
        check(archive.path, archive, Path(output).read_bytes(), "nothing of it was used; try again")

    pooch.get_logger().setLevel("WARNING")
    try:
        pinned = f"sha256:{archive.sha256}"
        return Path(pooch.retrieve(dataset.url, pinned, archive.path, folder, downloader=download))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"{error.strerror} in {folder} while fetching {dataset.name}"
            raise DiskFull(f"{reason}; set TMPDIR to another disk") from error
        raise Unreachable(f" {_name_cause(dataset, error)}") from error


# From the archive to files


class _Bounded:
    """A stream that refuses to go past `limit` bytes, so that no archive can fill the memory."""

    def __init__(self, read: Callable[[int], bytes], limit: int, label: str):
        self._read = read
        self._remaining = limit
        self._refusal = f"{label} unpacks to more than {limit} bytes, its upper bound; refused"

    def read(self, size: int) -> bytes:
        content = self._read(size)
        self._remaining -= len(content)
        if self._remaining < 0:
            raise BadData(self._refusal)
        return content


def _unpack(path: Path, dataset: DataSet) -> dict[str, bytes]:
    """{path: bytes} of the declared files; one member that is no plain file refuses them all."""
    label = dataset.archive.path
    limit = sum(file.size for file in dataset.files) + SLACK
    try:
        with gzip.open(path) as stream:
            bounded = _Bounded(stream.read, limit, label)
            with tarfile.open(fileobj=bounded, mode="r|", bufsize=2**18) as members:
                contents = _read_members(members, dataset)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"cut short or not a gzipped tar archive ({error})"
        raise BadData(f"{label} is {reason}; refused") from error
    if absent := sorted({file.path for file in dataset.files} - contents.keys()):
        raise BadData(f"{label} does not hold {', '.join(absent)}; refused")
    return contents


def _read_members(members: tarfile.TarFile, dataset: DataSet) -> dict[str, bytes]:
    files = {file.path: file for file in dataset.files}
    contents: dict[str, bytes] = {}
    for member in members:
        path = _check_member(member, dataset.archive.path)
        if path in files:
            label = f"{dataset.archive.path}: {path}"
            check_size(label, files[path], member.size, "refused")
            contents[path] = members.extractfile(member).read()
            check(label, files[path], contents[path], "refused")
    return contents


def _check_member(member: tarfile.TarInfo, label: str) -> str:
    """The member's path; BadData unless it is a plain file or folder below the archive's folder."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BadData(f"{label}: {member.name!r} leads out of the archive's folder; refused")
    if not (member.isreg() or member.isdir()):
        kind = "link" if member.issym() or member.islnk() else "device or pipe"
        raise BadData(f"{label}: {member.name!r} is a {kind}, not a plain file; refused")
    return str(path)
