"""Goals C10 and C12: training ResNet-8 end to end against a plain script, and what bookkeeping takes of it.

The plain script crops and mirrors image by image, runs in float32 in torch's own memory format with torch's own SGD,
and asks for the loss as a number at every step. Ours is the project's: bfloat16 where the processor has AMX tiles.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _interleaved import ratios, table
from _peers import PAD, Plain8, per_image
from torch.nn import functional

from replicate.averaging import KernelAverages, ema, swa, two_point
from replicate.datasets import Batches
from replicate.models import resnet8
from replicate.optim import SGD
from replicate.runs import gains_by_bfloat16
from replicate.streams import rng
from replicate.training import Checkpoints, State, advance, flat_weights, load_flat, steps
from replicate.training.schedules import constant

COUNT, SIZE, WIDTH, STEPS = 5120, 128, 16, 4
ABOUT = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def plain_steps(x, y, data, model):
    """The script; one value a step."""
    optimizer = SGD(model.parameters(), **ABOUT)
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    for step in itertools.count():
        epoch, index = divmod(step, data.per_epoch)
        rows = slice(index * SIZE, (index + 1) * SIZE)
        tables = {name: one.numpy() for name, one in data.tables(0, 0, epoch).items()}
        images = per_image(x, tables, mean, deviation, rows)
        labels = torch.from_numpy(y[tables["order"][rows]])
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        yield loss.item()


def our_steps(data, half):
    """The project's loop; one value a step."""
    model = resnet8(10, 0, WIDTH, "cifar", half)
    optimizer = SGD(model.parameters(), fused=True, **ABOUT)
    for _, loss in steps(model, data, optimizer, constant(ABOUT["lr"]), 0, 0, 0, 10**9):
        yield loss


def bare_steps(data, half):
    """Forward, backward and update on batches that lie ready, and nothing else."""
    model = resnet8(10, 0, WIDTH, "cifar", half)
    optimizer = SGD(model.parameters(), fused=True, **ABOUT)
    ready = [data.batch(0, 0, step) for step in range(data.per_epoch)]
    for images, labels in itertools.cycle(ready):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        yield loss


def kept_steps(data, half, folder):
    """As `our_steps`, with eleven averages and a checkpoint every STEPS, ten times as often as a run writes one."""
    model = resnet8(10, 0, WIDTH, "cifar", half)
    kernels = {f"{one.__name__} {k}": one(k) for one in (swa, two_point, ema) for k in (100, 1000, 3000)}
    state = State(model, SGD(model.parameters(), fused=True, **ABOUT))
    state = State(model, state.optimizer, (KernelAverages(kernels, flat_weights(model)),))
    checkpoints = Checkpoints(folder, "bench")
    for step in itertools.count(1):
        state, losses = advance(state, data, constant(ABOUT["lr"]), 0, 0, step)
        if step % (10 * STEPS) == 0:
            checkpoints.save(state, {"losses": losses})
        yield losses


def some(run) -> None:
    """The next STEPS steps."""
    for _ in itertools.islice(run, STEPS):
        pass


def main() -> int:
    """Equal losses first, in float32; then the ratios."""
    torch.set_num_threads(1)
    draw = rng(0, "eval", 0)
    x, y = draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, COUNT)
    data = Batches(x, y, SIZE, 10, pad=PAD, flip=True)
    plain = Plain8(10, WIDTH)
    load_flat(plain, flat_weights(resnet8(10, 0, WIDTH, "cifar")))
    for a, b in itertools.islice(zip(plain_steps(x, y, data, plain), our_steps(data, False), strict=False), 3):
        torch.testing.assert_close(torch.tensor(a), b, rtol=1e-3, atol=1e-3)
    half = gains_by_bfloat16("cpu")
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "the plain script": plain_steps(x, y, data, plain),
            "ours in float32": our_steps(data, False),
            "ours, averages and checkpoints too": kept_steps(data, half, Path(folder)),
            "forward, backward and update alone": bare_steps(data, half),
            f"ours in {'bfloat16' if half else 'float32'}": our_steps(data, half),
        }
        found = ratios({name: lambda run=run: some(run) for name, run in runs.items()})
    print(table(f"ResNet-8, width {WIDTH}, batch {SIZE}, {STEPS} steps", found))
    print("  goal C10: the plain script at least 2.2x with AMX, 1.35x of ours in float32 without")
    print("  goal C12: logging, tables, averages and checkpoints at most 3 % over forward, backward and update")
    return 0


if __name__ == "__main__":
    sys.exit(main())
