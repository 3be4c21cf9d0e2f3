"""A model whose parameter i is drawn from rng(seed, "init", i) by a rule of its own."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from replicate.streams import rng

Rule = Callable[[str, tuple[int, ...], np.random.Generator], Tensor]


def fill(build: Callable[[], nn.Module], rule: Rule, seed: int) -> nn.Module:
    """The model that `build` makes, in float32 on the CPU, filled by `rule(name, shape, draws)`.

    It is built without memory, so that torch's global generator stays as it is; buffers are not
    allowed. i counts `model.named_parameters()`. Raises ValueError for a model with buffers.
    """
    with torch.device("meta"):
        model = build()
    if buffers := [name for name, _ in model.named_buffers()]:
        raise ValueError(f"model must have no buffers, got {buffers[0]}")
    state = {
        name: rule(name, tuple(parameter.shape), rng(seed, "init", i))
        for i, (name, parameter) in enumerate(model.named_parameters())
    }
    model.load_state_dict(state, assign=True)
    return model
