"""Mini-batches of sentence pairs, filled up to their longest: a function of (seed, step).

Sentences of an epoch are shuffled, sorted by length within pools of POOL mini-batches, so that
little is filled up, and the mini-batches are shuffled again. The last, incomplete one is dropped.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from replicate.datasets.pieces import PIECE_MARKS
from replicate.errors import BadParameter
from replicate.streams import rng

POOL = 20


class Sentences:
    """Pairs of sentences as pieces, with PIECE_MARKS.end behind each and PIECE_MARKS.begin before the target."""

    def __init__(
        self,
        source: Sequence[Sequence[int]],
        target: Sequence[Sequence[int]],
        size: int,
        device: str = "cpu",
    ):
        """source, target: pieces without marks; size: pairs a mini-batch.

        Raises BadParameter unless a mini-batch has at least one pair and no more than there are.
        """
        if not 1 <= size <= len(source):
            raise BadParameter(f"batch must be in [1, {len(source)}], got {size}")
        self.source = [[*pieces, PIECE_MARKS.end] for pieces in source]
        self.target = [[PIECE_MARKS.begin, *pieces, PIECE_MARKS.end] for pieces in target]
        self.size = size
        self.per_epoch = len(source) // size
        self.device = device
        self._lengths = np.array([len(pieces) for pieces in self.target])
        self._epoch: tuple = ()
        self._order = np.empty(0)

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Source (size, longest) and target (size, longest), int64, of one step of training."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch != (seed, epoch):
            self._order = self._sort(rng(seed, "order", epoch))
            self._epoch = (seed, epoch)
        return self.gather(self._order[place])

    def gather(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Some pairs, filled up."""
        return self._fill([self.source[i] for i in rows]), self._fill(
            [self.target[i] for i in rows]
        )

    def _sort(self, draws: np.random.Generator) -> np.ndarray:
        """(per_epoch, size) places of sentences."""
        order = draws.permutation(len(self.target))[: self.per_epoch * self.size]
        pools = [
            pool[np.argsort(self._lengths[pool], kind="stable")]
            for pool in np.split(order, range(POOL * self.size, len(order), POOL * self.size))
        ]
        return draws.permutation(np.concatenate(pools).reshape(self.per_epoch, self.size))

    def _fill(self, sentences: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, sentences))
        table = np.full((len(sentences), longest), PIECE_MARKS.pad, dtype=np.int64)
        for row, pieces in zip(table, sentences, strict=True):
            row[: len(pieces)] = pieces
        return torch.from_numpy(table).to(self.device)
