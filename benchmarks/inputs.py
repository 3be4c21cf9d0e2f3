"""What is fed to the jobs: images of random bytes, and networks' parameters with gradients."""

import numpy as np
import torch
from torch import Tensor, nn

from replicate import models
from replicate.streams import rng

PIXELS = 32
CLASSES = 10


def draw_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 32, 32, 3) of random bytes, and labels; what they show changes no time."""
    generator = rng(0, "eval", 0)
    images = generator.integers(0, 256, (count, PIXELS, PIXELS, 3), dtype=np.uint8)
    return images, generator.integers(0, CLASSES, count)


def make_parameters(network: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The tensors of a network with gradients that are the same at every call."""
    parameters = list(getattr(models, network)(CLASSES, seed=0).to(dtype).parameters())
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        # In the parameter's layout, as autograd gives it: fused SGD pairs them by place in memory.
        parameter.grad = torch.empty_like(parameter).normal_(std=1e-3, generator=generator)
    return parameters


def join(tensors: list[Tensor]) -> list[Tensor]:
    """The same weights and gradients as one vector, in a list."""
    vector = nn.Parameter(flatten(tensors))
    vector.grad = torch.cat([tensor.grad.reshape(-1) for tensor in tensors])
    return [vector]


def flatten(tensors: list[Tensor]) -> Tensor:
    """All numbers of a list of tensors in one vector."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
