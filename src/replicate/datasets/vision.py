"""Every image set is four NumPy arrays whose bytes were checked against a SHA-256 before anything looked at them.

The digits come inside scikit-learn. CIFAR-10 and CIFAR-100 lie below `paths.data_folder()` in the author's binary
layout: one record an image, label bytes first, then the red, green and blue planes row by row. `fetch` reads only the
named regular files of the author's archive, into memory, so no path in an archive ever becomes a path on this machine.
The ten classes of Tiny-ImageNet lie there as one archive (`tiny_imagenet`), which is only found.
"""

import errno
import gzip
import hashlib
import queue
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np

from replicate import paths, streams
from replicate.datasets import tiny_imagenet
from replicate.datasets.images import File, Images, check, check_size, read, sealed
from replicate.errors import BadData, DiskFull, Missing, unknown
from replicate.progress import progress

NAMES = ("digits", "cifar10", "cifar100", tiny_imagenet.NAME)
REACH = 10.0  # seconds in which a server has to answer
SLACK = 2**20  # bytes: what an archive may hold beside its named files (headers, padding, a read-me, label names)
SIDE, CHANNELS = 32, 3  # of a CIFAR image
DIGITS_TEST = 360  # images
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"  # pixels, then labels, a byte each


@dataclass(frozen=True)
class Manifest:
    """What one CIFAR set consists of and where its archive lies; of several label bytes the last is the label."""

    url: str
    archive: File
    train: tuple[File, ...]
    test: tuple[File, ...]
    label_bytes: int
    classes: int

    @property
    def files(self) -> tuple[File, ...]:
        """Every file of the set, in the order in which it is read."""
        return self.train + self.test

    @property
    def folder(self) -> str:
        """The folder of the set below the data folder."""
        return self.files[0].path.split("/")[0]


# Archives: as TensorFlow Datasets pins them. Files: as the Ruby port of torchvision pins them.
MANIFESTS = {
    "cifar10": Manifest(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        archive=File(
            "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        ),
        train=tuple(
            File(f"cifar-10-batches-bin/data_batch_{number}.bin", 30730000, sha256)
            for number, sha256 in (
                (1, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
                (2, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
                (3, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
                (4, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
                (5, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            )
        ),
        test=(
            File(
                "cifar-10-batches-bin/test_batch.bin",
                30730000,
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            ),
        ),
        label_bytes=1,
        classes=10,
    ),
    "cifar100": Manifest(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        archive=File(
            "cifar-100-binary.tar.gz", 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
        ),
        train=(
            File(
                "cifar-100-binary/train.bin",
                153700000,
                "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            ),
        ),
        test=(
            File(
                "cifar-100-binary/test.bin",
                30740000,
                "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            ),
        ),
        label_bytes=2,  # coarse, fine
        classes=100,
    ),
}


def load(name: str) -> Images:
    """The image set `name`; the last two CIFAR sets and the others are kept in memory.

    Raises BadParameter for an unknown name, Missing if a file is not there, BadData if one is not what it should be.
    """
    match name:
        case "digits":
            return _digits()
        case tiny_imagenet.NAME:
            return tiny_imagenet.load(paths.data_folder())
        case _:
            return _cifar(name, _manifest(name), paths.data_folder())


def at_hand(name: str) -> bool:
    """Whether every file of the set is there with the right size; the digits always are. Raises BadParameter."""
    return all(
        path.is_file() and path.stat().st_size == file.size
        for file in _files(name)
        for path in [paths.data_folder() / file.path]
    )


def checksum(name: str) -> str:
    """SHA-256 (hex) that stands for every byte `load` can return under this name. Raises BadParameter."""
    files = _files(name)
    if not files:
        return DIGITS_SHA256
    lines = [f"{file.sha256}  {file.path}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify(name: str) -> list[tuple[str, str]]:
    """(file, SHA-256) of every file of the set, each read in full and found right.

    Raises BadParameter for an unknown name, Missing or BadData for the first file that is absent or wrong.
    """
    files = _files(name)
    if not files:
        _digits()
        return [("scikit-learn digits", DIGITS_SHA256)]
    for file in files:
        _content(name, file, paths.data_folder())
    return [(file.path, file.sha256) for file in files]


def fetch(name: str) -> None:
    """Bring the set to `paths.data_folder()`, all of it or nothing; return at once if it is at hand.

    Raises BadParameter for an unknown name, Missing if the server cannot be reached or the folder not be written,
    BadData if the archive is not the author's, DiskFull. Tiny-ImageNet is never fetched: Missing if it is not at hand.
    """
    if at_hand(name):
        return
    if name == tiny_imagenet.NAME:
        raise tiny_imagenet.absent(paths.data_folder())
    manifest = _manifest(name)
    _reach(name, manifest)
    with tempfile.TemporaryDirectory(prefix="replicate-") as folder:
        content = _unpack(_download(name, manifest, Path(folder)), manifest)
    for path, octets in content.items():
        try:
            paths.write_atomic(paths.data_folder() / path, octets)
        except DiskFull:
            raise
        except OSError as error:
            reason = f"cannot be written in {paths.data_folder()} ({error.strerror})"
            raise Missing(f"{name} {reason}; set REPLICATE_DATA to a folder that can be") from error


def _files(name: str) -> tuple[File, ...]:
    """What has to be read for `name`, in this order; nothing for the digits, which are packaged."""
    match name:
        case "digits":
            return ()
        case tiny_imagenet.NAME:
            return (tiny_imagenet.FILE,)
        case _:
            return _manifest(name).files


def _manifest(name: str) -> Manifest:
    if name not in MANIFESTS:
        raise unknown("data set", name, NAMES)
    return MANIFESTS[name]


# From bytes to images


@lru_cache(maxsize=1)
def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int64)
    sha256 = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if sha256 != DIGITS_SHA256:
        raise BadData(
            f"scikit-learn's digits have checksum {sha256[:12]}..., want {DIGITS_SHA256[:12]}...; "
            "install the version in requirements.lock"
        )
    order = streams.rng(0, "eval", 0).permutation(len(labels))
    test, train = np.sort(order[:DIGITS_TEST]), np.sort(order[DIGITS_TEST:])
    return sealed("digits", (pixels[train], labels[train]), (pixels[test], labels[test]), classes=10, peak=16)


@lru_cache(maxsize=2)
def _cifar(name: str, manifest: Manifest, folder: Path) -> Images:
    def part(files: tuple[File, ...]) -> tuple[np.ndarray, np.ndarray]:
        parts = [_records(file, _content(name, file, folder), manifest) for file in files]
        return np.concatenate([pixels for pixels, _ in parts]), np.concatenate([labels for _, labels in parts])

    return sealed(name, part(manifest.train), part(manifest.test), manifest.classes, peak=255)


def _records(file: File, content: bytes, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) uint8 and labels (n,) int64 of one file's bytes."""
    width = manifest.label_bytes + SIDE * SIDE * CHANNELS
    if len(content) % width:
        raise BadData(f"{file.path} has {len(content)} bytes, want a multiple of {width}, one record an image")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    labels = records[:, manifest.label_bytes - 1].astype(np.int64)
    if labels.max(initial=0) >= manifest.classes:
        raise BadData(f"{file.path} has label {labels.max()}, want less than {manifest.classes}")
    planes = records[:, manifest.label_bytes :].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _content(name: str, file: File, folder: Path) -> bytes:
    """The bytes of one file below `folder`, which are what they should be."""
    if name == tiny_imagenet.NAME:
        return tiny_imagenet.content(folder)
    absent = (
        f"{name} is not at hand in {folder} (no {file.path}); "
        f"run make data, or set REPLICATE_DATA to a folder that has {MANIFESTS[name].folder}/"
    )
    return read(file, folder, absent, f"delete it and run python -m replicate data fetch {name}")


# From the server to bytes


def _reach(name: str, manifest: Manifest) -> None:
    """Raise Missing unless the server answers within REACH seconds, the look-up of its name included."""
    try:
        import pooch  # noqa: F401
        import requests
    except ImportError as error:
        reason = f"is not at hand, and {error.name}, which fetches it, is not installed"
        raise Missing(f"{name} {reason}; set REPLICATE_DATA to a folder that has {manifest.folder}/") from None

    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            requests.head(manifest.url, timeout=REACH, allow_redirects=True).close()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    # No socket's time-out covers the look-up of a name, so a thread asks that can be left behind.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=REACH)
    except queue.Empty:
        error = TimeoutError("no answer")
    if error is not None:
        raise _not_fetched(name, manifest, error, f" within {REACH:g} s") from error


def _not_fetched(name: str, manifest: Manifest, error: Exception, when: str = "") -> Missing:
    cause: BaseException = error
    while cause.__context__ is not None:  # requests wraps the system's error several times
        cause = cause.__context__
    reason = getattr(cause, "strerror", None) or (str(cause).splitlines() or [type(cause).__name__])[0]
    return Missing(
        f"{name} could not be fetched{when} ({urlsplit(manifest.url).hostname}: {reason}); "
        f"try again, or set REPLICATE_DATA to a folder that has {manifest.folder}/"
    )


def _download(name: str, manifest: Manifest, folder: Path) -> Path:
    """The archive, fetched into `folder` and checked."""
    import pooch

    def download(url: str, output: str, caller: pooch.Pooch) -> None:
        bar = progress((), f"fetching {name}", total=manifest.archive.size) or False
        if bar:
            bar.unit, bar.unit_scale = "B", True
        try:
            pooch.HTTPDownloader(progressbar=bar, timeout=REACH)(url, output, caller)
        finally:
            if bar:  # pooch leaves it open where the connection breaks off
                bar.close()
        # pooch checks as well, but does not say what came
        hint = "nothing was kept; try again"
        check(manifest.archive.path, manifest.archive, Path(output).read_bytes(), hint)

    pooch.get_logger().setLevel("WARNING")
    try:
        known = f"sha256:{manifest.archive.sha256}"
        return Path(pooch.retrieve(manifest.url, known, manifest.archive.path, folder, downloader=download))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{error.strerror} in {folder} while fetching {name}; set TMPDIR to another disk") from error
        raise _not_fetched(name, manifest, error) from error


class _Bounded:
    """A stream that refuses to go past `limit` bytes, so that no archive can fill the memory."""

    def __init__(self, read: Callable[[int], bytes], limit: int, label: str):
        self._read, self._left, self._limit, self._label = read, limit, limit, label

    def read(self, size: int) -> bytes:
        octets = self._read(size)
        self._left -= len(octets)
        if self._left < 0:
            raise BadData(f"{self._label} unpacks to more than the {self._limit} bytes it can honestly hold; refused")
        return octets


def _unpack(archive: Path, manifest: Manifest) -> dict[str, bytes]:
    """{path: bytes} of the files of the set, each checked; one member that is no plain file refuses them all."""
    label, wanted = manifest.archive.path, {file.path: file for file in manifest.files}
    limit = sum(file.size for file in manifest.files) + SLACK
    content: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream:
            bounded = _Bounded(stream.read, limit, label)
            with tarfile.open(fileobj=bounded, mode="r|", bufsize=2**18) as members:
                for member in members:
                    path = _plain(member, label)
                    if path in wanted:
                        check_size(f"{label}: {path}", wanted[path], member.size, "refused")
                        content[path] = members.extractfile(member).read()
                        check(f"{label}: {path}", wanted[path], content[path], "refused")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{label} is cut short or not a gzipped tar archive ({error}); refused") from error
    if absent := sorted(wanted.keys() - content.keys()):
        raise BadData(f"{label} does not hold {', '.join(absent)}; refused")
    return content


def _plain(member: tarfile.TarInfo, label: str) -> str:
    """The member's path, if it is one that a file or folder below an ordinary folder can have."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BadData(f"{label}: {member.name!r} leads out of the archive's folder; refused")
    if not (member.isreg() or member.isdir()):
        kind = "link" if member.issym() or member.islnk() else "device or pipe"
        raise BadData(f"{label}: {member.name!r} is a {kind}, not a plain file; refused")
    return str(path)
