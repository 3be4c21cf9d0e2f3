"""A model whose parameter i is drawn from rng(seed, "init", i) by a rule of its own."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from replicate.streams import rng

Rule = Callable[[str, tuple[int, ...], np.random.Generator], Tensor]


@torch.no_grad()
def fill(build: Callable[[], nn.Module], rule: Rule, seed: int) -> nn.Module:
    """The model that `build` makes, its parameters filled by `rule(name, shape, draws)`.

    i counts `model.named_parameters()`. torch's global generator is afterwards as it was. (On the
    meta device nothing would be drawn twice; but normal numbers there import sympy, six seconds in
    every process.)
    """
    with torch.random.fork_rng([]):
        model = build()
    for i, (name, parameter) in enumerate(model.named_parameters()):
        parameter.copy_(rule(name, tuple(parameter.shape), rng(seed, "init", i)))
    return model
