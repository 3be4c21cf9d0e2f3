"""Data sets: arrays whose bytes are checked, and mini-batches that any step can draw again."""

from typing import TYPE_CHECKING

from replicate.datasets.catalogue import (
    NAMES,
    at_hand,
    checksum,
    describe,
    fetch,
    load,
    module_of,
    verify,
)
from replicate.datasets.images import Images

if TYPE_CHECKING:
    from replicate.datasets.batches import Batches

__all__ = [
    "NAMES",
    "Batches",
    "Images",
    "at_hand",
    "checksum",
    "describe",
    "fetch",
    "load",
    "module_of",
    "verify",
]


def __getattr__(name: str):
    # Batches opens torch, which whoever asks for a shape or a file does not need.
    if name == "Batches":
        from replicate.datasets.batches import Batches

        return Batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
