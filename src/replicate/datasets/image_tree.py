"""The official folders of ImageNet: which pictures they hold, and a picture as an array.

    TREE/train/n01440764/n01440764_10026.JPEG
    TREE/val/n01440764/ILSVRC2012_val_00000293.JPEG

The validation pictures may also lie in TREE/val itself, as ImageNet ships them; their classes then
come from TREE/LOC_val_solution.csv, ImageNet's own list. Labels are the places of the WNIDs in
their order, which is the usual order of the 1000 classes.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from replicate.errors import BadData, Missing

SPLITS = ("train", "val")
WNID = re.compile(r"n[0-9]{8}")
SUFFIXES = (".jpeg", ".jpg", ".png")
SOLUTION = "LOC_val_solution.csv"  # columns ImageId, PredictionString: "WNID x y x y ..."
CLASSES_NAMED = 3  # classes that an error names


class Picture(NamedTuple):
    """A file of the tree; in sorted order the first pictures of a split have all classes alike."""

    place: int  # in its class, by name
    label: int
    path: str  # below the tree


@dataclass(frozen=True)
class ImageTree:
    """The pictures of both splits and the classes that they have in common."""

    root: Path
    wnids: tuple[str, ...]
    pictures: dict[str, tuple[Picture, ...]]


class Decoded(NamedTuple):
    """A picture as (edge, edge, 3) uint8 and what it was in its file."""

    pixels: np.ndarray
    mode: str  # Pillow's: RGB, L (grey), CMYK, ...
    format: str  # JPEG or PNG


def list_tree(root: Path, classes: int) -> ImageTree:
    """The pictures below `root`, whose two splits must have the same `classes` classes.

    Raises Missing if a split is not there or cannot be read, BadData if classes are missing or a
    picture of the validation set has no class.
    """
    by_class = {split: _list_split(root, split) for split in SPLITS}
    wnids = tuple(sorted(by_class["train"]))
    if len(wnids) != classes:
        count = f"{root / 'train'} has {len(wnids)} classes with pictures, want {classes}"
        raise BadData(f"{count}; complete it, or say --classes {len(wnids)} to take these")
    if strange := sorted(set(wnids) ^ set(by_class["val"])):
        names = ", ".join(strange[:CLASSES_NAMED]) + (
            " ..." if len(strange) > CLASSES_NAMED else ""
        )
        raise BadData(
            f"{len(strange)} classes are in only one of {root / 'train'} and val ({names}); "
            "both need the same ones"
        )
    pictures = {split: _sort(wnids, by_class[split]) for split in SPLITS}
    return ImageTree(root, wnids, pictures)


def _list_split(root: Path, split: str) -> dict[str, list[str]]:
    """{WNID: paths of its pictures below the tree}; a class without a picture is not there."""
    folder = root / split
    try:
        entries = sorted(folder.iterdir())
        classes = [entry for entry in entries if WNID.fullmatch(entry.name)]
        listed = {each.name: sorted(filter(_is_picture, each.iterdir())) for each in classes}
    except OSError as error:
        reason = f"{error.filename or folder} cannot be read ({error.strerror})"
        raise Missing(f"{reason}; the tree needs train/WNID/*.JPEG and val/") from error
    if not classes and split == "val":
        return _list_flat(root, entries)
    return {
        wnid: [str(p.relative_to(root)) for p in paths] for wnid, paths in listed.items() if paths
    }


def _list_flat(root: Path, entries: list[Path]) -> dict[str, list[str]]:
    """The same of validation pictures that lie in one folder."""
    class_of = _read_solution(root / SOLUTION)
    by_class: dict[str, list[str]] = {}
    for picture in filter(_is_picture, entries):
        if picture.stem not in class_of:
            raise BadData(f"{picture} is not in {root / SOLUTION}; refused")
        by_class.setdefault(class_of[picture.stem], []).append(str(picture.relative_to(root)))
    return by_class


def _read_solution(path: Path) -> dict[str, str]:
    """{name of a picture without its suffix: WNID}."""
    try:
        with path.open(newline="", encoding="ascii") as file:
            rows = list(csv.DictReader(file))
        answers = {row["ImageId"]: row["PredictionString"].split(maxsplit=1)[0] for row in rows}
    except FileNotFoundError:
        remedy = f"put val/WNID/*.JPEG there, or ImageNet's {path.name}"
        raise Missing(f"{path.parent / 'val'} has no folders of classes; {remedy}") from None
    except (KeyError, IndexError, AttributeError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{path} is not ImageNet's list of answers ({error!r}); refused") from error
    if strange := [wnid for wnid in answers.values() if not WNID.fullmatch(wnid)]:
        raise BadData(f"{path} names {strange[0]!r}, which is no WNID; refused")
    return answers


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _sort(wnids: tuple[str, ...], by_class: dict[str, list[str]]) -> tuple[Picture, ...]:
    return tuple(
        sorted(
            Picture(place, label, path)
            for label, wnid in enumerate(wnids)
            for place, path in enumerate(by_class[wnid])
        )
    )


def decode(path: Path, edge: int) -> Decoded:
    """A picture, the whole of it, reduced to edge x edge pixels by the mean over boxes.

    The aspect ratio is not kept, as in the downsampled ImageNet of Chrabaszcz et al. 2017 ("box").
    A grey picture has three equal channels. Raises BadData if it is not a whole JPEG or PNG.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            mode, kind = image.mode, image.format
            small = image.convert("RGB").resize((edge, edge), Image.Resampling.BOX)
            return Decoded(np.asarray(small), mode, kind)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadData(f"{path} is not a whole JPEG or PNG ({error}); left out") from error
