"""Training is a generator of steps; whoever records, averages or stops is the caller's plain code.

On a CPU this is the plain eager version, straight from the page; on CUDA the gradient is one graph,
and no host waits inside an epoch. Both end at the same weights.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from replicate.errors import Diverged
from replicate.training.gradient import gradient_of
from replicate.training.weights import live_weights

CHECK_EVERY = (
    50  # steps between two looks at the losses, at least: a look is a synchronisation on a GPU
)


@dataclass(frozen=True)
class State:
    """A point of a training run: everything from which it can go on. `step` counts the updates made
    so far.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averages: Sequence = ()
    step: int = 0


def steps(
    model: nn.Module,
    data,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    seed: int,
    stream: int,
    start: int,
    stop: int,
    averages: Sequence = (),
) -> Iterator[tuple[int, Tensor]]:
    """Train from `start` to `stop`, yielding (step, loss of its mini-batch before the update, a 0-d
    tensor).

        theta_{i+1} = theta_i - lambda(i) u_i        i `step`, lambda `schedule`, u_i the optimizer's direction

    data: `.batch(seed, stream, step)` gives images and labels, `.loss(outputs, labels)` a mean over
    them. averages: objects whose `.update(flat_weights)` is told every iterate after `start`; the
    tensor is lent for the call only. A layer that is in evaluation mode while the model is in
    training mode is frozen, and stays so. Raises ValueError unless 0 <= start <= stop, and
    Diverged, naming the first step whose loss is not finite, at the latest when CHECK_EVERY steps
    or an epoch have gone by, whichever is longer.
    """
    if not 0 <= start <= stop:
        raise ValueError(f"start and stop must satisfy 0 <= start <= stop, got {start} and {stop}")
    losses, gradient = [], gradient_of(model, data)
    patience = max(CHECK_EVERY, getattr(data, "per_epoch", 0))
    if not model.training:  # else a layer in evaluation mode is one that its owner froze
        model.train()
    for step in range(start, stop):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        loss = gradient(seed, stream, step)
        optimizer.step()
        if averages:
            weights = live_weights(model)
            for average in averages:
                average.update(weights)
        losses.append(loss)
        if len(losses) == patience or step == stop - 1:
            _refuse_divergence(losses, step, optimizer.param_groups[0]["lr"])
            losses = []
        yield step, loss


def advance(
    state: State, data, schedule: Callable[[int], float], seed: int, stream: int, stop: int
) -> tuple[State, np.ndarray]:
    """`steps` from `state` to `stop`, in place: the state there, and the losses on the way, (stop -
    state.step,).

    The averages of the state are told the iterates.
    """
    run = steps(
        state.model, data, state.optimizer, schedule, seed, stream, state.step, stop, state.averages
    )
    losses = [loss for _, loss in run]
    values = torch.stack(losses).double().cpu().numpy() if losses else np.empty(0)
    return replace(state, step=stop), values


def branch(
    state: State,
    data,
    schedule: Callable[[int], float],
    seed: int,
    stream: int,
    stop: int,
    averages: Sequence = (),
) -> State:
    """The run that leaves `state` under another schedule, on the same or another stream, and ends
    at `stop`.

    `state` itself stays as it was, momentum included; `averages` are told the iterates of the
    branch.
    """
    model, optimizer = copy.deepcopy((state.model, state.optimizer))
    return advance(
        State(model, optimizer, averages, state.step), data, schedule, seed, stream, stop
    )[0]


def _refuse_divergence(losses: list[Tensor], last: int, lr: float) -> None:
    values = torch.stack(losses)
    if not torch.isfinite(values).all():
        first = int((~torch.isfinite(values)).nonzero()[0])
        step = last - len(losses) + 1 + first
        raise Diverged(f"loss became {float(values[first])} at step {step} (rate {lr:g})", step)
