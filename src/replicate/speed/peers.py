"""What one writes first, as jobs of so many steps: the scripts that ours is compared with, in our own words."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from replicate import models
from replicate.optim import SGD

PAD, SIDE, CLASSES = 4, 32, 10
ABOUT = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def net(name: str, half: bool) -> nn.Module:
    """A network by its name: channels last, in bfloat16 where `half`."""
    return getattr(models, name)(CLASSES, seed=0, bfloat16=half)


class Plain(nn.Module):
    """The same layers in the memory format torch starts with, in float32."""

    def __init__(self, name: str):
        super().__init__()
        self.layers = net(name, half=False).to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return nn.Sequential.forward(self.layers, images)


class OneByOne(Dataset):
    """Crop, mirror and standardise one image after the other."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))), y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        top, left, mirrored = (int(torch.randint(high, ())) for high in (2 * PAD + 1, 2 * PAD + 1, 2))
        image = self.x[index, top : top + SIDE, left : left + SIDE]
        image = image[:, ::-1] if mirrored else image
        return (torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.25, int(self.y[index])


def loaded(x: np.ndarray, y: np.ndarray, size: int, workers: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of an ordinary loader, for ever."""
    loader = DataLoader(OneByOne(x, y), size, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for images, labels in loader:
            yield images.to(device), labels.to(device)


def an_epoch_at_a_time(x: np.ndarray, y: np.ndarray, size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches from images on the device that are all augmented when an epoch begins, a mask for each shift."""
    pixels = torch.from_numpy(x).to(device).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
    padded = functional.pad(pixels, (PAD,) * 4, "reflect").contiguous(memory_format=torch.channels_last)
    labels, count = torch.from_numpy(y).to(device), len(y)
    while True:
        shifts = torch.randint(0, 2 * PAD + 1, (count, 2), device=device)
        images = torch.empty_like(pixels, memory_format=torch.channels_last)
        for top in range(2 * PAD + 1):
            for left in range(2 * PAD + 1):
                mask = (shifts[:, 0] == top) & (shifts[:, 1] == left)
                images[mask] = padded[mask, :, top : top + SIDE, left : left + SIDE]
        mirrored = torch.rand(count, 1, 1, 1, device=device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
        order = torch.randperm(count, device=device)
        for rows in order[: count // size * size].split(size):
            yield images[rows], labels[rows]


def eager(model: nn.Module, batches: Iterator, reads: int, half: bool = False) -> Callable[[int], None]:
    """A job of so many plain steps with torch's own SGD; reads: how often the host asks for a number in each."""
    optimizer, kind = SGD(model.parameters(), **ABOUT), next(model.parameters()).device.type

    def job(steps: int) -> None:
        for _ in range(steps):
            images, labels = next(batches)
            optimizer.zero_grad()
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            for _ in range(reads):
                loss.item()

    return job
