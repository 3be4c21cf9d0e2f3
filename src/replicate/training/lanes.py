"""Many small runs side by side: row l of one matrix (lanes, parameters) holds the weights of run l.

    W_l <- W_l - lambda_l u(g_l),      g_l = gradient of loss(model(W_l, x_l), y_l)

One vectorised pass gives every run its own gradient g_l, and any optimizer u that works element by
element (SGD, Adam, AdamW, Lookahead around them) makes every run's own update in one pass. The
products are batched ones, which round differently: a lane equals the run alone up to rounding, and
the number of lanes is part of a run's numerics.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from replicate.errors import Diverged, Unavailable
from replicate.training.flat import Flat


class Lanes(nn.Module):
    """`model` at many weight vectors at once. Lanes that share a schedule lie next to each other,
    in one block.

    Optimizers take `groups()`, one parameter group a block. After training `rows()` are the
    weights, for `load_flat`.
    """

    def __init__(self, model: Flat, weights: Tensor, blocks: Sequence[int] | None = None):
        """weights: where each lane starts, (lanes, parameters); blocks: lanes of each block, by
        default all in one.

        Raises ValueError if the model has BatchNorm, whose running statistics would be one for all
        lanes, if the weights do not fit, or if the blocks do not add up to the lanes.
        """
        super().__init__()
        blocks = [len(weights)] if blocks is None else list(blocks)
        if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
            raise ValueError(
                "lanes need a model without BatchNorm: its running statistics would be shared"
            )
        if weights.dim() != 2 or weights.shape[1] != len(model.weights):
            raise ValueError(
                f"weights must have shape (lanes, {len(model.weights)}), got {tuple(weights.shape)}"
            )
        if sum(blocks) != len(weights) or min(blocks) < 1:
            raise ValueError(
                f"blocks must be at least 1 each and add up to {len(weights)}, got {blocks}"
            )
        self._model = (
            model,
        )  # hidden in a tuple, so that its own weights are no parameters of this one
        self._sizes = blocks
        self.blocks = nn.ParameterList(
            nn.Parameter(part.detach().clone()) for part in weights.split(blocks)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(lanes, batch, ...) -> (lanes, batch, classes): every lane its own images."""
        return torch.vmap(self._model[0].at)(self._rows(), images)

    def gradient(
        self, loss: Callable[[Tensor, Tensor], Tensor], compiled: bool = False
    ) -> Callable:
        """(images, labels) -> the lanes' losses (lanes,), which puts their gradients into `.grad`
        of the blocks.

        compiled: by torch.compile, half a minute once and then half the time a step; it rounds
        differently. Raises Unavailable if that is asked for where no C++ compiler is found.
        """
        if compiled and not any(map(shutil.which, ("g++", "clang++"))):
            raise Unavailable(
                "compiled lanes need a C++ compiler, g++ or clang++; leave out compiled"
            )
        return self._compile_gradient(loss) if compiled else self._eager_gradient(loss)

    def _eager_gradient(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        loss_of_each = torch.vmap(loss)

        def gradient(images: Tensor, labels: Tensor) -> Tensor:
            self.zero_grad()
            losses = loss_of_each(self(images), labels)
            losses.sum().backward()  # a lane's weights are in its own loss only
            return losses.detach()

        return gradient

    def _compile_gradient(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        model = self._model[0]
        # One graph of forward and backward pass, half the time of compiling the forward pass alone.
        both = torch.compile(
            torch.vmap(torch.func.grad_and_value(lambda row, x, y: loss(model.at(row, x), y)))
        )

        def gradient(images: Tensor, labels: Tensor) -> Tensor:
            gradients, losses = both(self._rows().detach(), images, labels)
            for block, part in zip(self.blocks, gradients.split(self._sizes), strict=True):
                block.grad = part
            return losses

        return gradient

    def groups(self) -> list[dict]:
        """One parameter group a block."""
        return [{"params": [block]} for block in self.blocks]

    def rows(self) -> Tensor:
        """A copy of the weights, (lanes, parameters)."""
        return torch.cat([block.detach() for block in self.blocks])

    def _rows(self) -> Tensor:
        return self.blocks[0] if len(self.blocks) == 1 else torch.cat(list(self.blocks))


def lane_steps(
    lanes: Lanes,
    data,
    optimizer: torch.optim.Optimizer,
    schedules: Sequence[Callable[[int], float]],
    runs: Sequence[tuple[int, int]],
    start: int,
    stop: int,
    averages: Sequence = (),
    compiled: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """`steps` for every lane at once, yielding (step, losses before the update (lanes,)).

    schedules: one a block; runs: (seed, stream) of each lane's mini-batches; averages: told
    `rows()` as one vector; compiled: see `Lanes.gradient`, for runs of more than a minute. A lane
    whose loss stops being finite is lost and the others go on; Diverged if none is left at the end.
    Raises ValueError unless 0 <= start <= stop and the numbers of schedules and runs fit.
    """
    if not 0 <= start <= stop:
        raise ValueError(f"start and stop must satisfy 0 <= start <= stop, got {start} and {stop}")
    count = sum(len(block) for block in lanes.blocks)
    if len(schedules) != len(lanes.blocks) or len(runs) != count:
        raise ValueError(
            f"there must be {len(lanes.blocks)} schedules and {count} runs, got {len(schedules)} and {len(runs)}"
        )
    gradient = lanes.gradient(data.loss, compiled)
    lanes.train()
    for step in range(start, stop):
        for group, schedule in zip(optimizer.param_groups, schedules, strict=True):
            group["lr"] = schedule(step)
        images, labels = data.batches(runs, step)
        losses = gradient(images, labels)
        optimizer.step()
        for average in averages:
            average.update(lanes.rows().view(-1))
        yield step, losses
    if stop > start and not torch.isfinite(losses).any():
        raise Diverged(f"every lane diverged before step {stop}", stop - 1)
