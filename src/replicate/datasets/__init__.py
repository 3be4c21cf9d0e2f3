"""Data sets: arrays and texts whose bytes are checked, and mini-batches that any step can draw again."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.datasets.batches import Batches
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
    from replicate.datasets.held_out import HeldOut
    from replicate.datasets.images import Images
    from replicate.datasets.mapped import MappedBatches, Pixels, map_batches
    from replicate.datasets.pieces import PIECE_MARKS, Pieces
    from replicate.datasets.sentences import Sentences
    from replicate.datasets.sharded import shard
    from replicate.datasets.windows import cut_windows, fold

lazy.attach(__name__)
