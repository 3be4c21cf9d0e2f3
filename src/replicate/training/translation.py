"""loss of a mini-batch = mean over its target pieces of the cross-entropy with smoothed labels

Szegedy et al. 2016 smooth labels; Vaswani et al. 2017, section 5.4, use 0.1.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.errors import Diverged
from replicate.numerics import modes_restored
from replicate.training.dropout import draw_masks


def translation_steps(
    model: nn.Module,
    data,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    smoothing: float,
    seed: int,
    steps: range,
    averages: Sequence = (),
) -> Iterator[tuple[int, float]]:
    """Train, yielding (step, loss of its mini-batch before the update, under dropout, in nats per
    piece).

    model: (source, target) -> logits of what follows each target piece; data: `.batch(seed, step)`
    gives source and target, (sentences, length) int64 filled up with 0. averages: told of the model
    after each step. Raises Diverged at the first loss that is not finite.
    """
    device = next(model.parameters()).device
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        source, target = data.batch(seed, step)
        model.train()
        optimizer.zero_grad()
        with draw_masks(seed, step, device):
            loss = sum_losses(model(source, target[:, :-1]), target[:, 1:], smoothing)
        loss = loss / (target[:, 1:] != 0).sum()
        loss.backward()
        optimizer.step()
        for average in averages:
            average.update(model)
        value = float(loss.detach())
        if not abs(value) < float("inf"):
            rate = optimizer.param_groups[0]["lr"]
            raise Diverged(f"loss became {value} at step {step} (rate {rate:g})", step)
        yield step, value


def sum_losses(logits: Tensor, pieces: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the pieces that are not 0."""
    return functional.cross_entropy(
        logits.flatten(0, 1),
        pieces.flatten(),
        ignore_index=0,
        reduction="sum",
        label_smoothing=smoothing,
    )


@torch.no_grad()
def measure_pairs(model: nn.Module, data, rows: Sequence[int], chunk: int) -> float:
    """Mean nats per target piece of some pairs, labels not smoothed, in evaluation mode.

    data: `.gather(rows)` gives source and target; chunk: pairs at once, which bounds the memory. Every
    layer's mode is restored.
    """
    total, count = 0.0, 0
    with modes_restored(model):
        model.eval()
        for first in range(0, len(rows), chunk):
            source, target = data.gather(rows[first : first + chunk])
            total += float(sum_losses(model(source, target[:, :-1]), target[:, 1:]).double())
            count += int((target[:, 1:] != 0).sum())
    return total / count


@torch.no_grad()
def translate(
    model: nn.Module, source: Tensor, begin: int, end: int, longest: int
) -> list[list[int]]:
    """The pieces of a translation of each source sentence, the likeliest piece at every place.

    source: (sentences, length) int64, filled up. A translation ends before `end`, or after `longest`
    pieces. In evaluation mode; every layer's mode is restored.
    """
    with modes_restored(model):
        model.eval()
        memory, padding = model.encode(source)
        target = source.new_full((len(source), 1), begin)
        for _ in range(longest):
            piece = model.decode(target, memory, padding)[:, -1].argmax(-1)
            target = torch.cat([target, piece[:, None]], dim=1)
            if (target == end).any(1).all():
                break
    return [_cut(row, end) for row in target[:, 1:].tolist()]


def _cut(pieces: list[int], end: int) -> list[int]:
    return pieces[: pieces.index(end)] if end in pieces else pieces
