"""A loop that knows nothing of states, branches or flat models, on a small net with BatchNorm, weight
decay, warm-up, crops, flips and noise: what experiments on trajectories are held against.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from replicate import datasets, models
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories.presets import PRESETS
from replicate.training import Flat

SEED = 1
NORM, DRAWS = 2**31, 2**31 + 1  # streams on which nobody trains
NET = replace(
    PRESETS["smoke"]["digits"], model="resnet8", stem="stride2", width=4, batch=16, lr=0.05, weight_decay=1e-3,
    warmup=5, flip=True, pad=1, seeds=(SEED,), first_branch=24, branches=2, branch_every=30, two_point=(10, 30),
    swa=(10, 30), ema=(10, 30), controls=(30,), last_windows=(), train_images=96, norm_batches=1, norm_batch=32,
    directions=6, hessian_images=64, noise_gradients=3,
)  # fmt: skip
LAST = NET.starts[-1]


def coloured() -> datasets.Images:
    """A few digits in three channels, which a ResNet takes."""
    full = datasets.load("digits")
    parts = {name: getattr(full, name)[:64] for name in ("train_x", "train_y", "test_x", "test_y")}
    three = {name: np.repeat(parts[name], 3, axis=-1) for name in ("train_x", "test_x")}
    return replace(full, **(parts | three))


@contextmanager
def loading(images: datasets.Images) -> Iterator[None]:
    """Every data set is these images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: images)
        yield


def leave_states(settings, images: datasets.Images, folder: Path) -> Path:
    """The folder, in which the main run of `SEED` has left its states."""
    with loading(images):
        _branches.main_run(settings, {"seed": SEED}, folder, [], "cpu")
    return folder


def batches(images: datasets.Images, size: int = NET.batch) -> datasets.Batches:
    """Mini-batches as the settings have them."""
    return datasets.Batches(
        images.train_x, images.train_y, size, images.classes, pad=NET.pad, flip=NET.flip,
        pixel_noise=NET.pixel_noise, label_noise=NET.label_noise,
    )  # fmt: skip


def net(images: datasets.Images, seed: int = SEED) -> torch.nn.Module:
    """The network at the weights of a seed."""
    specification = models.Specification("resnet8", NET.width, "stride2")
    return models.build(specification, (3, 8, 8), images.classes, seed)


def join(model: torch.nn.Module) -> torch.Tensor:
    """All weights, (parameters,) float64."""
    return torch.cat([p.detach().double().reshape(-1) for p in model.parameters()])


def fill(model: torch.nn.Module, weights: torch.Tensor) -> None:
    """Put weights into a model."""
    with torch.no_grad():
        first = 0
        for p in model.parameters():
            p.copy_(weights[first : first + p.numel()].reshape(p.shape))
            first += p.numel()


def main_rate(step: int) -> float:
    """The main run's schedule."""
    return NET.lr * min(1.0, (step + 1) / NET.warmup)


def walk(
    data,
    model: torch.nn.Module,
    rate: Callable[[int], float],
    steps: int,
    stream: Callable[[int], int] = lambda step: 0,
    seed: int = SEED,
    momenta: list | None = None,
    start: int = 0,
) -> list[torch.Tensor]:
    """theta_start .. theta_{start + steps} of SGD with momentum and weight decay, written out.

    momenta: the buffer of every weight, which is changed; zeros by default.
    """
    momenta = [torch.zeros_like(p) for p in model.parameters()] if momenta is None else momenta
    path = [join(model)]
    model.train()
    for step in range(start, start + steps):
        images, labels = data.batch(seed, stream(step), step)
        model.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for p, v in zip(model.parameters(), momenta, strict=True):
                v.mul_(NET.momentum).add_(p.grad + NET.weight_decay * p)
                p.sub_(rate(step) * v)
        path.append(join(model))
    return path


def measure(images: datasets.Images, weights: torch.Tensor) -> dict[str, float]:
    """Losses and accuracies in evaluation mode, BatchNorm's statistics taken from one batch."""
    model, data = net(images, 0), batches(images)
    fill(model, weights)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics are those of the latest batch
    model.train()
    with torch.no_grad():
        model(batches(images, NET.norm_batch).batch(0, NORM, 0)[0])
        model.eval()
        x, y = data.plain(images.test_x, images.test_y)
        drawn = [data.batch(0, DRAWS, step) for step in range(NET.train_images // NET.batch)]
        values = {}
        for name, top1, (x, y) in (
            ("train_loss", "train_top1", [torch.cat(each) for each in zip(*drawn, strict=True)]),
            ("test_loss", "top1", (x, y)),
        ):
            outputs = model(x)
            values[name] = float(functional.cross_entropy(outputs, y))
            values[top1] = float((outputs.argmax(1) == y).double().mean())
    return values


def gradient(model: torch.nn.Module, weights: torch.Tensor, batch) -> tuple[np.ndarray, float]:
    """The gradient of one batch in training mode, and its loss."""
    fill(model, weights)
    model.train()
    model.zero_grad()
    loss = functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    flat = torch.cat([p.grad.double().reshape(-1) for p in model.parameters()])
    return flat.numpy(), float(loss.detach())


def product_with_hessian(images, weights):
    """v -> H v of the loss on the same draws, in double precision, by differentiating twice, BatchNorm
    in training mode.
    """
    model, data = Flat(net(images, 0).double()), batches(images)
    draws = [data.batch(0, DRAWS, step) for step in range(4)]
    x, y = (torch.cat(each) for each in zip(*draws, strict=True))
    point = weights.double().requires_grad_()
    loss = functional.cross_entropy(model.at(point, x.double()), y)
    (gradient,) = torch.autograd.grad(loss, point, create_graph=True)

    def product(v):
        return torch.autograd.grad(gradient, point, torch.as_tensor(v), retain_graph=True)[0].numpy()  # fmt: skip

    return product


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Euclidean."""
    return float(((a.double() - b.double()) ** 2).sum().sqrt())


def rows_by(table, *names: str) -> dict:
    """The rows of a table by the values of some columns, each of which must be there once."""
    found = {tuple(row[name] for name in names): row for row in table.to_dict("records")}
    assert len(found) == len(table)
    return found


def error(row: dict, expected: dict[str, float], names: Iterable[str]) -> float:
    """The largest relative difference of the named numbers."""
    return max(abs(row[name] - expected[name]) / (abs(expected[name]) + 1e-3) for name in names)


def agrees(row: dict, expected: dict[str, float], names: Iterable[str], rel: float = 1e-3) -> None:
    """Every named number is as expected."""
    wrong = {name: (row[name], expected[name]) for name in names if error(row, expected, [name]) > rel}  # fmt: skip
    assert not wrong
