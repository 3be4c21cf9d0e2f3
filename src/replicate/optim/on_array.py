"""theta <- step(theta, g(theta)): an optimizer on weights that are a NumPy array."""

from collections.abc import Callable

import numpy as np
import torch
from torch.optim import Optimizer


def run_on_array(
    make: Callable[[list[torch.Tensor]], Optimizer],
    theta: np.ndarray,
    gradient: Callable[[np.ndarray, int], np.ndarray],
    steps: int,
    loss: Callable[[np.ndarray], float] | None = None,
) -> Optimizer:
    """Take the steps of a torch optimizer on theta, in place, and return the optimizer.

    make: from a list of one tensor, which shares its memory with theta, to an optimizer
    gradient: from theta and the number of the step, from 0 on, to an array of theta's shape
    loss: of theta, what a method with forward checks asks after each of its mini-steps

    >>> from replicate.optim import SGD
    >>> theta = np.array([1.0, -2.0])
    >>> optimizer = run_on_array(lambda params: SGD(params, lr=0.25), theta, lambda w, t: 2 * w, 2)
    >>> theta.tolist()
    [0.25, -0.5]
    """
    weights = torch.from_numpy(theta)
    optimizer = make([weights])
    closure = () if loss is None else (lambda: torch.tensor(loss(theta), dtype=weights.dtype),)
    for step in range(steps):
        weights.grad = torch.from_numpy(gradient(theta, step))
        optimizer.step(*closure)
    return optimizer
