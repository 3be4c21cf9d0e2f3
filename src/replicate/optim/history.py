"""The last displacements of a parameter, the newest over the oldest, and their weighted sum.

Row (known - 1) mod order of a ring is the newest displacement d_0, the row before it d_1, and so
on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from replicate.optim.stencils import step_coefficients


def ring(p: Tensor, order: int) -> Tensor:
    """Room for `order` tensors like a parameter in shape and memory, (order, *shape), zero.

    >>> ring(torch.zeros(2, 3), 4).shape
    torch.Size([4, 2, 3])
    """
    is_dense = p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)
    strides = p.stride() if is_dense else torch.empty(p.shape, device="meta").stride()
    room = torch.empty_strided(
        (order, *p.shape), (p.numel(), *strides), dtype=p.dtype, device=p.device
    )
    return room.zero_()


@lru_cache(maxsize=1024)  # groups times order, for a grid of rates in one optimizer
def in_ring(
    s: float, scales: tuple[float, ...], derivative: str, newest: int, dtype, device
) -> Tensor:
    """c_j(s) of row (newest - j) mod order, times the row's scale, (order,).

    scales: (order,), what makes the row a displacement at the rate of the newest.

    >>> in_ring(1.0, (1.0, 1.0), "bdf", 0, torch.float64, "cpu")  # c_0 = 2, c_1 = -1
    tensor([ 2., -1.], dtype=torch.float64)
    """
    order = len(scales)
    c = step_coefficients(s, order, derivative)
    rows = [scale * c[(newest - row) % order] for row, scale in enumerate(scales)]
    return torch.tensor(rows, dtype=dtype, device=device)


def add(p: Tensor, rows: Tensor, c: Tensor) -> None:
    """p <- p + sum_r c_r rows_r, rounded once. rows: (order, *shape), c: (order,).

    >>> p = torch.zeros(2)
    >>> add(p, torch.tensor([[1.0, 2.0], [10.0, 20.0]]), torch.tensor([2.0, 0.5]))
    >>> p
    tensor([ 7., 14.])
    """
    n = p.numel()
    if rows.stride() == (n, *p.stride()) and p.dtype == c.dtype:  # those of a dense tensor
        # As vectors in the order of memory: a matrix and a vector, one pass.
        p.as_strided((n,), (1,)).addmv_(rows.as_strided((n, len(c)), (1, n)), c)
    else:
        p.add_(torch.tensordot(c, rows.to(c.dtype), dims=1))


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 in float32: neither TF32 nor bfloat16, whatever the training uses.

    >>> with full_precision():
    ...     torch.get_float32_matmul_precision()
    'highest'
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
