"""A folder tree of pictures, decoded once into shards of uint8 arrays.

A folder of shards holds train-00000.npy, ... and val-00000.npy, ...: (n, edge, edge, 3) uint8 each,
with a .json beside it that has the labels, the SHA-256 of the array's file and what was unusual in
its pictures. `index.json`, written last, makes the folder whole. A shard that is there with its
.json is not made again, so that a conversion which was stopped goes on where it was.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from replicate import paths
from replicate.datasets import image_tree
from replicate.datasets.files import File
from replicate.datasets.image_tree import ImageTree, Picture
from replicate.errors import BadData
from replicate.progress import progress

INDEX = "index.json"
SHARD_NAME = re.compile(r"(train|val)-[0-9]{5}\.npy")
SHARD_BYTES = 48 * 2**20  # of pixels, at most: what a worker holds, and what a stop can lose
MOST_BROKEN = 0.01  # share of unreadable pictures from which the tree itself is not whole
REMEDY = "delete it and run python -m replicate data shard again"
GREY_MODES, CMYK_MODES = ("L", "LA", "I;16", "1"), ("CMYK",)


@dataclass(frozen=True)
class Shard:
    """One array file. `plan` is the SHA-256 of the pictures' paths, their sizes and the edge."""

    name: str
    plan: str
    bytes: int
    sha256: str  # of the file
    labels: list[int]
    modes: dict[str, int]  # Pillow's name of the colours -> pictures
    formats: dict[str, int]
    broken: list[str] = field(default_factory=list)  # one line for each picture left out


@dataclass(frozen=True)
class Index:
    """What a folder of shards holds."""

    edge: int  # pixels
    wnids: list[str]
    shards: list[Shard]

    def files(self, folder: str) -> list[File]:
        """The array files of the shards in a folder below the data folder."""
        return [File(f"{folder}/{shard.name}", shard.bytes, shard.sha256) for shard in self.shards]

    def of_split(self, split: str) -> list[Shard]:
        """The shards of "train" or "val", in their order."""
        return [shard for shard in self.shards if shard.name.startswith(f"{split}-")]

    def count(self, split: str) -> int:
        """The pictures of a split."""
        return sum(len(shard.labels) for shard in self.of_split(split))

    @property
    def broken(self) -> list[str]:
        """One line for each picture that could not be decoded and is left out."""
        return [line for shard in self.shards for line in shard.broken]

    def describe(self) -> str:
        """One line: pictures, classes, and how many of them were unusual."""
        modes = sum((Counter(shard.modes) for shard in self.shards), Counter())
        formats = sum((Counter(shard.formats) for shard in self.shards), Counter())
        grey, cmyk = (sum(modes[mode] for mode in group) for group in (GREY_MODES, CMYK_MODES))
        counts = (
            f"{self.count('train')} + {self.count('val')} pictures of {len(self.wnids)} classes"
        )
        unusual = f"{grey} grey, {cmyk} CMYK, {formats['PNG']} PNG, {len(self.broken)} broken"
        return f"{counts} at {self.edge} x {self.edge}; {unusual}"


def write(tree: ImageTree, folder: Path, edge: int, jobs: int = -1) -> Index:
    """Decode `tree` into shards in `folder`, `jobs` at once (-1: a process for every core).

    Raises BadData if more than a hundredth of the pictures are broken, or if `folder` has shards
    of another tree or size; DiskFull.
    """
    import joblib

    plans = [(split, *plan) for split in image_tree.SPLITS for plan in _plan(tree, split, edge)]
    folder.mkdir(parents=True, exist_ok=True)
    tasks = (joblib.delayed(_make)(tree.root, folder, edge, *plan) for plan in plans)
    made = joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks)
    shards = list(progress(made, f"shards of {edge} x {edge}", len(plans)))
    index = Index(edge, list(tree.wnids), shards)
    pictures = sum(map(len, tree.pictures.values()))
    if len(index.broken) > MOST_BROKEN * pictures:
        lost = f"{len(index.broken)} of {pictures} pictures below {tree.root} cannot be decoded"
        raise BadData(f"{lost}; the first: {index.broken[0]}")
    paths.write_atomic(folder / INDEX, json.dumps(asdict(index)).encode())
    return index


def _plan(tree: ImageTree, split: str, edge: int) -> Iterator[tuple[int, str, list[Picture]]]:
    """(number, SHA-256 of what is to be decoded, pictures) of every shard of a split."""
    pictures, most = tree.pictures[split], max(1, SHARD_BYTES // (3 * edge * edge))
    for number, start in enumerate(range(0, len(pictures), most)):
        chosen = list(pictures[start : start + most])
        lines = [f"{p.label} {p.path} {(tree.root / p.path).stat().st_size}\n" for p in chosen]
        yield number, hashlib.sha256(f"{edge}\n{''.join(lines)}".encode()).hexdigest(), chosen


def _make(
    root: Path, folder: Path, edge: int, split: str, number: int, plan: str, pictures: list[Picture]
) -> Shard:
    """The shard, decoded now unless it is there already."""
    name = f"{split}-{number:05d}.npy"
    described = (folder / name).with_suffix(".json")
    if described.exists() and (folder / name).exists():
        shard = _read_shard(described)
        if shard.plan != plan:
            raise BadData(f"{folder / name} is of other pictures or another size; {REMEDY}")
        return shard
    content, shard = _decode(root, edge, name, plan, pictures)
    paths.write_atomic(folder / name, content)
    paths.write_atomic(described, json.dumps(asdict(shard)).encode())
    return shard


def _decode(
    root: Path, edge: int, name: str, plan: str, pictures: list[Picture]
) -> tuple[bytes, Shard]:
    """The content of the array file, and what is known of it."""
    decoded, labels, broken = [], [], []
    for picture in pictures:
        try:
            decoded.append(image_tree.decode(root / picture.path, edge))
            labels.append(picture.label)
        except BadData as error:
            broken.append(str(error))
    pixels = np.empty((len(decoded), edge, edge, 3), dtype=np.uint8)
    for target, each in zip(pixels, decoded, strict=True):
        target[:] = each.pixels
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    content = buffer.getvalue()
    modes = dict(Counter(each.mode for each in decoded))
    formats = dict(Counter(each.format for each in decoded))
    sha256 = hashlib.sha256(content).hexdigest()
    return content, Shard(name, plan, len(content), sha256, labels, modes, formats, broken)


def read_index(label: str, content: bytes) -> Index:
    """The index that `content` holds. Raises BadData, which begins with `label`, if it is none."""
    try:
        fields = json.loads(content)
        shards = [Shard(**shard) for shard in fields["shards"]]
        if strange := [shard.name for shard in shards if not SHARD_NAME.fullmatch(shard.name)]:
            raise ValueError(f"{strange[0]!r} is no name of a shard")
        return Index(int(fields["edge"]), list(map(str, fields["wnids"])), shards)
    except (ValueError, TypeError, KeyError) as error:
        raise BadData(f"{label} is not an index of shards ({error}); {REMEDY}") from error


def _read_shard(path: Path) -> Shard:
    try:
        return Shard(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise BadData(f"{path} is damaged ({error}); {REMEDY}") from error


def read_pixels(label: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The (n, edge, edge, 3) uint8 array of a shard's file. Raises BadData if it is another one."""
    try:
        pixels = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadData(f"{label} is not an array file ({error}); {REMEDY}") from error
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise BadData(f"{label} has {pixels.shape} {pixels.dtype}, want {shape} uint8; {REMEDY}")
    return pixels
