"""What one writes first: the code that ours is compared with, in the project's words.

What is written in jax is in `peers_in_jax`, so that a GPU's experiments in torch ask jax nothing.

Authors' files are read from the folder REPLICATE_PEERS where it is given; none is kept here.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from benchmarks.inputs import CLASSES, PIXELS
from replicate import models
from replicate.optim import SGD

PAD = 4
CUTOUT = 16
SGD_SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


# Images.


def augment_per_image(x: np.ndarray, tables: dict, mean, deviation, rows: slice) -> Tensor:
    """Crop, mirror, standardise and cut out one image after the other, as a map-style data set."""
    images = []
    for row in range(rows.start, rows.stop):
        image = np.pad(x[tables["order"][row]], ((PAD, PAD), (PAD, PAD), (0, 0)))
        top = tables["top"][row]
        left = tables["left"][row]
        image = image[top : top + PIXELS, left : left + PIXELS]
        image = image[:, ::-1] if tables["mirrored"][row] else image
        standardised = ((image - mean) / deviation).astype(np.float32)
        pixels = torch.from_numpy(standardised.transpose(2, 0, 1).copy())
        if "middle_row" in tables:
            down = tables["middle_row"][row]
            right = tables["middle_column"][row]
            half = CUTOUT // 2
            pixels[:, max(0, down - half) : down + half, max(0, right - half) : right + half] = 0
        images.append(pixels)
    return torch.stack(images)


def augment_per_epoch(x: Tensor, tables: dict) -> Tensor:
    """Mask and copy: all images of the epoch. x: standardised and padded, (n, 3, 40, 40)."""
    order = tables["order"]
    of_image = {
        name: torch.empty_like(table).index_copy_(0, order, table) for name, table in tables.items()
    }
    images = crop_by_masks(x, of_image["top"], of_image["left"])
    images = torch.where(of_image["mirrored"][:, None, None, None], images.flip(-1), images)
    place = torch.arange(PIXELS)
    down = place - of_image["middle_row"][:, None]
    right = place - of_image["middle_column"][:, None]
    rows, columns = [(at >= -CUTOUT // 2) & (at < CUTOUT // 2) for at in (down, right)]
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def crop_by_masks(padded: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Crops of padded images: for each of the 81 shifts, the images that have it are copied."""
    is_last = padded.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    images = torch.empty_like(padded[:, :, :PIXELS, :PIXELS], memory_format=layout)
    for y in range(2 * PAD + 1):
        for x in range(2 * PAD + 1):
            chosen = (top == y) & (left == x)
            images[chosen] = padded[chosen, :, y : y + PIXELS, x : x + PIXELS]
    return images


class MapDataset(Dataset):
    """Crop, mirror and standardise one image after the other, at random."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        highs = (2 * PAD + 1, 2 * PAD + 1, 2)
        top, left, mirrored = (int(torch.randint(high, ())) for high in highs)
        image = self.x[index, top : top + PIXELS, left : left + PIXELS]
        image = image[:, ::-1] if mirrored else image
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
        return (pixels / 255 - 0.5) / 0.25, int(self.y[index])


def load_batches(x, y, size: int, workers: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of torch's loader, for ever."""
    data = MapDataset(x, y)
    loader = DataLoader(data, size, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for images, labels in loader:
            yield images.to(device), labels.to(device)


def augment_on_device(x, y, size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever of images that are all augmented on the device when an epoch begins."""
    pixels = torch.from_numpy(x).to(device).permute(0, 3, 1, 2).float()
    padded = functional.pad(pixels.div_(255).sub_(0.5).div_(0.25), (PAD,) * 4, "reflect")
    padded = padded.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(y).to(device)
    count = len(y)
    while True:
        shifts = torch.randint(0, 2 * PAD + 1, (2, count), device=device)
        images = crop_by_masks(padded, *shifts)
        mirrored = torch.rand(count, 1, 1, 1, device=device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
        order = torch.randperm(count, device=device)
        for rows in order[: count // size * size].split(size):
            yield images[rows], labels[rows]


# Networks and their training.


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if inputs != width:
            project = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x))."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class ResNet8(nn.Module):
    """In torch's first memory format; parameters in the order of `models.resnet8`."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        sizes = [(width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        self.blocks = nn.Sequential(*(Block(*size) for size in sizes))
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.linear(self.blocks(functional.relu(self.bn(self.conv(x)))).mean((2, 3)))


class Contiguous(nn.Module):
    """The layers of one of our networks in torch's first memory format, in float32."""

    def __init__(self, name: str):
        super().__init__()
        layers = getattr(models, name)(CLASSES, seed=0)
        self.layers = layers.to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return nn.Sequential.forward(self.layers, images)


def train_eagerly(
    model: nn.Module, batches: Iterator, reads: int, half: bool = False, **settings: float
) -> Iterator[float]:
    """The loss of every step of a plain loop with torch's SGD, for ever.

    reads: how often the host asks for the loss in each step; settings: of SGD.
    """
    optimizer = SGD(model.parameters(), **(SGD_SETTINGS | settings))
    kind = next(model.parameters()).device.type
    for images, labels in batches:
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        for _ in range(reads):
            loss.item()
        yield loss


# Optimizers and averages.


class Lookahead:
    """Slow copies in a list, and a loop over tensors at every k-th step."""

    def __init__(self, inner, parameters: Sequence[Tensor], k: int, alpha: float):
        self.inner = inner
        self.fast = parameters
        self.slow = [p.detach().clone() for p in parameters]
        self.k = k
        self.alpha = alpha
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """One inner step, and the pull after every k-th."""
        self.inner.step()
        self.steps += 1
        if self.steps % self.k == 0:
            for fast, slow in zip(self.fast, self.slow, strict=True):
                slow.add_(fast - slow, alpha=self.alpha)
                fast.copy_(slow)


class Extrapolation:
    """Extrapolation as the post writes it: a class beside the optimizer, a pass for every term."""

    def __init__(self, inner, parameters: Sequence[Tensor], lr: float, dt: float):
        self.inner = inner
        self.parameters = parameters
        self.lr = lr
        self.ahead = dt / lr
        self.calls = 0
        self.state = {}

    @torch.no_grad()
    def step(self) -> None:
        """The inner step; from the fourth call on the three terms, one after the other."""
        self.inner.step()
        self.calls += 1
        for p in self.parameters:
            newest = p.grad
            older, oldest = self.state.get(p, (newest, newest))
            if self.calls > 3:
                p.add_(11 * newest - 7 * older + 2 * oldest, alpha=-self.lr * self.ahead / 6)
                p.add_(2 * newest - 3 * older + oldest, alpha=-self.lr * self.ahead**2 / 2)
                p.add_(newest - 2 * older + oldest, alpha=-self.lr * self.ahead**3 / 6)
            self.state[p] = (newest.clone(), older)


class AfterStep:
    """The authors' extrapolator after an inner step."""

    def __init__(self, inner, extrapolator):
        self.inner = inner
        self.extrapolator = extrapolator

    def step(self) -> None:
        """The inner step and theirs."""
        self.inner.step()
        self.extrapolator.step()


def load_authors(name: str) -> ModuleType | None:
    """The authors' file of this name in the folder REPLICATE_PEERS; None where it is not there."""
    file = Path(os.environ.get("REPLICATE_PEERS", "")) / f"{name}.py"
    if "REPLICATE_PEERS" not in os.environ or not file.exists():
        return None
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LoopAverages:
    """Averages as lists of tensors: mean <- (1 - delta) mean + delta theta, tensor by tensor."""

    def __init__(self, model: nn.Module, deltas: Sequence[float]):
        self.live = [p.detach() for p in model.parameters()]
        self.averages = [(delta, [p.clone() for p in self.live]) for delta in deltas]

    def update(self) -> None:
        """Take in the model's weights as they are."""
        for delta, means in self.averages:
            for mean, live in zip(means, self.live, strict=True):
                mean.mul_(1 - delta).add_(live, alpha=delta)


class LerpAverages(LoopAverages):
    """The same with one call of torch per average, over all tensors."""

    def update(self) -> None:
        """Take in the model's weights as they are."""
        for delta, means in self.averages:
            torch._foreach_lerp_(means, self.live, delta)


class ModelAverages:
    """torch's `AveragedModel`, one per average."""

    def __init__(self, model: nn.Module, deltas: Sequence[float]):
        self.model = model
        rules = [get_ema_multi_avg_fn(1 - delta) for delta in deltas]
        self.averages = [AveragedModel(model, multi_avg_fn=rule) for rule in rules]
        self.update()  # the first call only copies

    def update(self) -> None:
        """Take in the model's weights as they are."""
        for average in self.averages:
            average.update_parameters(self.model)


# Small networks and small problems.


def step_each(models: Sequence[nn.Module], x: Tensor, y: Tensor, **settings: float) -> Callable:
    """A job: a step of every network, one after the other."""
    optimizers = [SGD(model.parameters(), **settings) for model in models]

    def step() -> None:
        for model, optimizer, images, labels in zip(models, optimizers, x, y, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return step


def descend_eagerly(
    model: nn.Module, x: Tensor, y: Tensor, optimizer, steps: int, walk: Callable | None = None
) -> list[float]:
    """Losses before each step: the loop of a tutorial.

    walk: what to do with (optimizer, closure, loss) instead of a step of the optimizer.
    """
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        losses.append(loss.item())
        if walk is None:
            optimizer.step()
        else:
            walk(optimizer, lambda: functional.mse_loss(model(x), y), loss)
    return losses


@torch.no_grad()
def walk_while_falling(optimizer, closure: Callable, loss: Tensor, most: int) -> None:
    """Keep stepping while the loss falls, which `.item()` says; `optimizer` is SGD."""
    before = loss.item()
    for _ in range(most):
        optimizer.step()
        after = closure().item()
        if not after < before:
            break
        before = after


def draw_mean_squares(x: np.ndarray, steps: int, repeats: int, noise: float) -> np.ndarray:
    """Mean over drawn paths of w_t^2 under w <- w - x w + e, path by path: (steps + 1, len(x))."""
    generator = np.random.default_rng(0)
    total = np.zeros((steps + 1, len(x)))
    for _ in range(repeats):
        w = np.ones(len(x))
        total[0] += w**2
        for t in range(1, steps + 1):
            w = w - x * w + noise * generator.standard_normal(len(x))
            total[t] += w**2
    return total / repeats
