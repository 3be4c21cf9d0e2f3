"""L(theta) = mean over mini-batches that never change of the reader's loss at theta

In evaluation mode, and after BatchNorm's statistics were re-estimated at theta: those in the
buffers belong to other weights, and those of an average to none at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from replicate.averaging import recompute_batch_norm
from replicate.cooldown.draws import Draws, move
from replicate.errors import Diverged
from replicate.numerics import modes_restored
from replicate.training import load_flat

JUDGED_STREAM, NORM_STREAM = 0, 1  # streams of mini-batches that nobody trains on


class Losses:
    """The loss at any weights of a reader's model, on the same batches each time; fills the model."""

    def __init__(self, model: nn.Module, loss, draws: Draws, held_out: Sequence, norm_batches: int):
        """loss: (model, batch) -> 0-d tensor; held_out: what is judged on; norm_batches: how many
        batches of stream NORM_STREAM BatchNorm is re-estimated on, where the model has any.
        """
        self.model = model
        self.loss = loss
        self.draws = draws
        self.held_out = held_out
        self.norm_batches = norm_batches

    @torch.no_grad()
    def at(self, weights: Tensor) -> float:
        """L at weights (parameters,). Every layer's mode is restored, weights and buffers are not.

        Raises Diverged if it is not finite.
        """
        load_flat(self.model, weights)
        recompute_batch_norm(
            _Whole(self.model, self.loss),
            (([self.draws.batch(NORM_STREAM, step)],) for step in range(self.norm_batches)),
        )
        total = torch.zeros((), dtype=torch.float64, device=self.draws.device)
        with modes_restored(self.model):
            self.model.eval()
            for place, batch in enumerate(self.held_out):
                self.draws.seed_generators(JUDGED_STREAM, place)
                total += self.loss(self.model, move(batch, self.draws.device)).double()
        value = float(total) / len(self.held_out)
        if not torch.isfinite(total):
            raise Diverged(f"loss on the held-out batches is {value}", 0)
        return value


class _Whole(nn.Module):
    """A reader's loss as a module, so that BatchNorm sees what it sees in training."""

    def __init__(self, model: nn.Module, loss):
        super().__init__()
        self.model = model
        self._loss = loss
        self.training = model.training

    def forward(self, held: list) -> Tensor:
        """held: a batch alone in a list, which `recompute_batch_norm` can count."""
        return self._loss(self.model, held[0])
