"""The plain full-batch training loop in torch, as tutorials print it, and where its time goes.

    zero gradients, loss = L(model(x), y), backward, step

One row of history per step: the loss before it.

Seconds are those of `numerics`: of the process, so that a busy machine lengthens nothing, or of the
CUDA device.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate import numerics

PARTS = ("forward", "check", "printed check", "backward", "step", "adam")
AGAIN = " again"  # after a part's name: the same work done twice, to see what the clock is worth


def tensors(x: np.ndarray, y: np.ndarray, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """x and y on the device, floating-point numbers as float32; whole numbers in y are labels."""
    labels = np.issubdtype(y.dtype, np.integer)
    inputs = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(device)
    return inputs, torch.from_numpy(
        np.ascontiguousarray(y, dtype=np.int64 if labels else np.float32)
    ).to(device)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """A closure, forward only: cross-entropy where y holds labels, else the mean squared error."""
    criterion = functional.mse_loss if y.is_floating_point() else functional.cross_entropy
    return lambda: criterion(model(x), y)


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    optimizer,
    steps: int,
    zero: bool = True,
    walks: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses before each step and seconds after it by `numerics.stopwatch`, (steps,) each.

    zero: whether gradients are zeroed (the post's loop does not); walks: the optimizer takes a
    closure, and the loss that the loop has already.
    """
    closure = loss_of(model, x, y)
    losses = np.empty(steps)
    seconds = np.empty(steps)
    elapsed = numerics.stopwatch(x.device)
    for t in range(steps):
        if zero:
            optimizer.zero_grad()
        loss = closure()
        loss.backward()
        if walks:
            optimizer.step(closure, loss.detach())
        else:
            optimizer.step()
        losses[t] = loss.item()
        seconds[t] = elapsed()
    return losses, seconds


def clock(model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each of PARTS, and of each of them AGAIN, by `numerics.clock`, (repeats,) each.

    forward: loss with a graph; check: the same without one; printed check: as the post's classes
    make it, with a graph, while that of the check before is alive in `old_loss`; backward, which
    frees the graph; step: SGD's update and zeroed gradients; adam: Adam's update. At that rate the
    weights stay where they are. As in `train`, no graph is alive when the forward check runs: its
    activations can lie where those of the pass before lay. In every round all parts are done in the
    order of a loop, and then all of them again. Raises ValueError if repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    closure = loss_of(model, x, y)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-12)
    adam = torch.optim.Adam(model.parameters(), lr=1e-12)
    graph: list[Tensor] = []
    loop = {
        "forward": lambda: graph.append(closure()),
        "backward": lambda: graph.pop().backward(),
        "check": torch.no_grad()(closure),
        "adam": adam.step,
        "step": lambda: (sgd.step(), sgd.zero_grad()),
        "old loss": lambda: graph.append(closure()),
        "printed check": lambda: graph.append(closure()),
        "end of the walk": graph.clear,
    }
    jobs = {part + turn: job for turn in ("", AGAIN) for part, job in loop.items()}
    seconds = numerics.clock(jobs, repeats, x.device)
    return {part + turn: seconds[part + turn] for turn in ("", AGAIN) for part in PARTS}


def train_on_batches(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    optimizer,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    passes: int,
) -> dict[str, np.ndarray]:
    """Outer steps of a walking optimizer on mini-batches: what each did to its batch and to the
    whole set.

    batches: rows of the gradient and rows of the forward checks (None: the same) of each step;
    passes: forward passes after which no further step begins, where a gradient counts as three.
    Returns (steps,) arrays: batch and whole (the drop of their mean losses over the step) and loss
    (of the whole set after it).
    """
    whole = torch.no_grad()(loss_of(model, x, y))
    found, before, spent = [], whole().item(), 0
    for rows, checked in batches:
        own = loss_of(model, *_rows(rows, x, y))
        optimizer.zero_grad()
        loss = own()
        loss.backward()
        if checked is None:
            optimizer.step(own, loss.detach())
        else:
            optimizer.step(loss_of(model, *_rows(checked, x, y)))
        with torch.no_grad():
            after, batch = whole().item(), own().item()
        found.append((loss.item() - batch, before - after, after))
        before, spent = after, spent + optimizer.forwards + 3
        if spent >= passes:
            break
    return dict(zip(("batch", "whole", "loss"), np.array(found).T, strict=True))


def cosines(
    model: nn.Module, x: Tensor, y: Tensor, optimizer, batches: Iterable[np.ndarray]
) -> np.ndarray:
    """Cosines of the gradients of successive mini-batches on the way of an optimizer, (steps - 1,).

    batches: rows of each.
    """
    found, last = [], None
    for rows in batches:
        optimizer.zero_grad()
        loss_of(model, *_rows(rows, x, y))().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        if last is not None:
            found.append(functional.cosine_similarity(gradient, last, dim=0, eps=1e-30).item())
        last = gradient
        optimizer.step()
    return np.array(found)


def outputs(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """What the model makes of x, without a graph, as NumPy."""
    with torch.no_grad():
        return model(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))).numpy()


def _rows(rows: np.ndarray, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.from_numpy(rows).to(x.device)
    return x[index], y[index]
