"""seconds >= operations / rate, and seconds >= bytes / bandwidth: what no code can go below on a
device.

Operations are a network's multiplications and additions, counted layer by layer; rates are measured
on the device.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from replicate.numerics import clock, modes_restored


def operations(model: nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
    """(forward, forward and backward) multiplications and additions of one example, of convolutions
    and matrices.

    shape: one example, without the batch. The backward pass makes the gradient of a layer's weights
    and of its input, each as much work as the layer itself; the first layer's input needs none. The
    model is one on the CPU.
    """
    counts = []

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        inner = layer.weight[0].numel()  # products that one number of the output is the sum of
        counts.append(2.0 * output.numel() * inner)

    hooks = [
        one.register_forward_hook(count)
        for one in model.modules()
        if isinstance(one, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad(), modes_restored(model):
            model.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts), 3 * sum(counts) - counts[0]


def matrix_rate(device: str, size: int = 8192, dtype: torch.dtype = torch.bfloat16) -> float:
    """Multiplications and additions a second of products of size x size matrices of random numbers,
    the best of five.

    Random, since a GPU multiplies zeros faster than numbers.
    """
    a = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 / seconds(lambda: a @ a, device, 5).min()


def copy_rate(device: str, size: int = 2**28) -> float:
    """Bytes a second, read and written, of a copy of `size` bytes from the device's memory to it,
    the best of five.
    """
    a = torch.zeros(size // 4, device=device)
    b = torch.empty_like(a)
    return 2.0 * size / seconds(lambda: b.copy_(a), device, 5).min()


def seconds(job: Callable[[], object], device: str, rounds: int) -> np.ndarray:
    """Seconds of each round after one to warm up, (rounds,), by `numerics.clock`."""
    return clock({"job": job}, rounds, device)["job"]
