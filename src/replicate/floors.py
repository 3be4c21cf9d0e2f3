"""seconds >= operations / rate, and seconds >= bytes / bandwidth: what no code can go below on a device."""

from collections.abc import Callable

import numpy as np
import torch

from replicate.numerics import clock


def matrix_rate(device: str, size: int = 8192, dtype: torch.dtype = torch.bfloat16) -> float:
    """Multiplications and additions a second of products of size x size matrices of random numbers, the best of five.

    Random, since a GPU multiplies zeros faster than numbers.
    """
    a = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 / seconds(lambda: a @ a, device, 5).min()


def copy_rate(device: str, size: int = 2**28) -> float:
    """Bytes a second, read and written, of a copy of `size` bytes from the device's memory to it, the best of five."""
    a = torch.zeros(size // 4, device=device)
    b = torch.empty_like(a)
    return 2.0 * size / seconds(lambda: b.copy_(a), device, 5).min()


def seconds(job: Callable[[], object], device: str, rounds: int) -> np.ndarray:
    """Seconds of each round after one to warm up, (rounds,), by `numerics.clock`."""
    return clock({"job": job}, rounds, device)["job"]
