"""z_1 = W_1 x + b_1,  z_l = W_l relu(z_{l-1}) + b_l: the last z, one number a class, is what the model returns."""

from itertools import pairwise

import torch
from torch import nn

from replicate.models.initialise import initialise


def mlp(inputs: int, widths: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """A multilayer perceptron with ReLU between its layers and no BatchNorm.

    (batch, ...) float32 -> logits (batch, classes) float32. The axes after the first are flattened
    and hold `inputs` numbers together. `widths` are the hidden layers', first to last. Weights and
    biases start at torch.nn.Linear's U(-1/sqrt(fan_in), 1/sqrt(fan_in)), drawn from `seed` by
    `initialise`. Raises ValueError if `widths` is empty, `inputs` or a width below 1, `classes`
    below 2 or the seed outside [0, 2^32).
    """
    if not widths:
        raise ValueError(f"widths must name at least 1 hidden layer, got {widths}")
    if inputs < 1:
        raise ValueError(f"inputs must be at least 1, got {inputs}")
    if min(widths) < 1:
        raise ValueError(f"widths must each be at least 1, got {widths}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    layers: list[nn.Module] = [nn.Flatten()]
    with torch.device("meta"):
        for fan_in, fan_out in pairwise((inputs, *widths)):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        layers.append(nn.Linear(widths[-1], classes))
    return initialise(nn.Sequential(*layers), seed)
