"""z_l = W_l z_{l-1} + b_l, l = 1..L, with or without ReLU between: the net of a regression on
made-up data.
"""

from itertools import pairwise

import torch
from torch import nn

from replicate.models.initialise import initialise

ACTIVATIONS = ("linear", "relu")


def chain(dims: tuple[int, ...], seed: int, activation: str = "linear") -> nn.Sequential:
    """A Sequential of linear maps; (rows, dims[0]) float32 -> (rows, dims[-1]).

    activation: "linear" (none, as the post prints it) or "relu" after every map but the last.
    Weights and biases start at torch.nn.Linear's distribution, drawn from `seed` by `initialise`.
    Raises ValueError if there are fewer than two dims, one is below 1, the activation is unknown or
    the seed outside [0, 2^32).
    """
    if len(dims) < 2 or min(dims) < 1:
        raise ValueError(f"dims must be at least 2 numbers of at least 1, got {dims}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    layers: list[nn.Module] = []
    with torch.device("meta"):
        for fan_in, fan_out in pairwise(dims):
            layers += [nn.Linear(fan_in, fan_out)] + ([nn.ReLU()] if activation == "relu" else [])
    return initialise(nn.Sequential(*(layers[:-1] if activation == "relu" else layers)), seed)
