"""theta_t for t = at + 1, at + 2, ...        after the gradient 1 at step `at`, and 0 at all others

What a torch optimizer does with a single gradient, at rate 1 and with the sign turned, so that it can
be held against `replicate.problems.filters`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer


def answer_pulse(
    make: Callable[[list[nn.Parameter]], Optimizer], steps: int, at: int = 0
) -> np.ndarray:
    """How far the weight has gone against the gradient, after step `at` and each of the next:
    (steps,) float64.

    make: parameters -> optimizer. at: steps whose gradient is 0 before, so that a method with a
    memory has begun.
    """
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make([weight])
    path = []
    for step in range(at + steps):
        weight.grad = torch.full((1,), float(step == at), dtype=torch.float64)
        optimizer.step()
        path.append(-float(weight.detach()))
    return np.array(path[at:])
