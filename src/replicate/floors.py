"""seconds >= operations / rate, and seconds >= bytes / bandwidth: what no code can go below on a device."""

import time
from collections.abc import Callable

import numpy as np
import torch


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
    """Seconds of each round after one to warm up, (rounds,): by the device's own clock on CUDA, else CPU time."""
    return np.array([_once(job, device) for _ in range(rounds + 1)][1:])


def _once(job: Callable[[], object], device: str) -> float:
    if device != "cuda":
        start = time.process_time()
        job()
        return max(time.process_time() - start, 1e-9)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    job()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3
