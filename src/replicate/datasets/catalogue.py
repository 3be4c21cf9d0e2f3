"""Data sets by name: each is a module of this folder that declares a DATASET; no list names them.

`tiny-imagenet-10` is declared in `tiny_imagenet_10.py`. To add a data set is to add its file.
"""

import importlib
import re
from functools import lru_cache
from pathlib import Path

from replicate import paths
from replicate.datasets import download
from replicate.datasets.images import Images, ImageSet
from replicate.errors import unknown

FOLDER = Path(__file__).parent
DECLARATION = re.compile(r"^DATASET\b", re.MULTILINE)


def list_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The names of the data sets that the modules in `folder` declare, sorted.

    The text of the modules is searched; none is imported, so that one that fails harms no other.
    """
    modules = [path for path in folder.glob("*.py") if DECLARATION.search(path.read_text("utf-8"))]
    return tuple(sorted(path.stem.replace("_", "-") for path in modules))


NAMES = list_names()


def module_of(name: str) -> str:
    """The full name of the module that declares data set `name`. Raises BadParameter."""
    if name not in NAMES:
        raise unknown("data set", name, NAMES)
    return f"{__package__}.{name.replace('-', '_')}"


def describe(name: str) -> ImageSet:
    """The declaration of a data set: its shape, classes, counts, files; nothing is loaded.

    Imports the module of this data set only, and neither torch nor scikit-learn. Raises
    BadParameter for an unknown name.
    """
    return importlib.import_module(module_of(name)).DATASET


def load(name: str) -> Images:
    """The image set `name`; the last three stay in memory.

    Raises BadParameter for an unknown name, Missing if a file is not there, BadData if one differs.
    """
    return _load(describe(name), paths.data_folder())


@lru_cache(maxsize=3)
def _load(dataset: ImageSet, folder: Path) -> Images:
    return dataset.load(folder)


def at_hand(name: str) -> bool:
    """Whether every file of the set is there with its size; digits always are.

    Raises BadParameter for an unknown name.
    """
    return describe(name).is_at_hand(paths.data_folder())


def checksum(name: str) -> str:
    """SHA-256 (hex) that stands for every byte of the files of the set. Raises BadParameter."""
    return describe(name).checksum()


def verify(name: str) -> list[tuple[str, str]]:
    """(file, SHA-256) of every file of the set, each read in full.

    Raises BadParameter for an unknown name, Missing or BadData for the first file that is absent
    or differs.
    """
    return describe(name).verify(paths.data_folder())


def fetch(name: str) -> None:
    """Bring the set into `paths.data_folder()`, all of it or nothing; at once if it is at hand.

    Raises BadParameter for an unknown name; Missing if it cannot be fetched or the folder not be
    written; Damaged if a file is there that differs and cannot be replaced; BadData if the archive
    is not the author's; DiskFull.
    """
    download.fetch(describe(name), paths.data_folder())
