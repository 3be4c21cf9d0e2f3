"""theta_{t+1} = theta_t + u_t on a function of a few numbers, and the whole path of it.

u_t is what torch optimizers make of the gradient of f at theta_t, one after the other. Elementwise
optimizers move every row of a start as if it were alone, so that thousands of starts are one run.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def minimise(
    f: Callable[[Tensor], Tensor],
    starts: np.ndarray,
    optimizers: Callable[[list[nn.Parameter]], Sequence[Optimizer]],
    steps: int,
    every: int = 1,
    noise: Callable[[int], np.ndarray] | None = None,
    begins: Sequence[int] | None = None,
) -> np.ndarray:
    """The path theta_0, theta_every, ..., (1 + steps // every, groups, ..., d) float64, non-finite
    numbers and all.

    f: (..., d) -> (...); starts: (groups, ..., d), one parameter a group; optimizers: what moves
    them, made from the parameters, each told the gradient at the step's beginning; noise: step ->
    what is added to it, (groups, ..., d); begins: the step from which each optimizer moves, all
    from 0 if not said. Raises ValueError if steps or every are below 1 or the number of begins is
    not that of the optimizers.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be at least 1, got {steps} and {every}")
    theta = [nn.Parameter(torch.from_numpy(np.array(start, dtype=np.float64))) for start in starts]
    made = optimizers(theta)
    begins = [0] * len(made) if begins is None else begins
    if len(begins) != len(made):
        raise ValueError(
            f"begins must have one entry per optimizer, {len(made)}, got {len(begins)}"
        )
    path = np.empty((1 + steps // every, *np.shape(starts)))
    path[0] = starts
    for step in range(steps):
        gradients = torch.autograd.grad(f(torch.stack([*theta])).sum(), theta)
        added = None if noise is None else torch.from_numpy(noise(step))
        for i, (parameter, gradient) in enumerate(zip(theta, gradients, strict=True)):
            parameter.grad = gradient if added is None else gradient + added[i]
        for optimizer, begin in zip(made, begins, strict=True):
            if step >= begin:
                optimizer.step()
        if (step + 1) % every == 0:
            path[(step + 1) // every] = torch.stack(
                [parameter.detach() for parameter in theta]
            ).numpy()
    return path
