"""Data sets: arrays whose bytes are known, and mini-batches that any step can be asked for again."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.datasets.batches import Batches
    from replicate.datasets.images import Images
    from replicate.datasets.vision import NAMES, at_hand, checksum, fetch, load, verify

lazy.attach(__name__)
