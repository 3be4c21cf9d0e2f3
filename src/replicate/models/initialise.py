"""The starting weights are a function of the seed: parameter i of a model is filled from rng(seed,
"init", i).

    convolution    W ~ N(0, 2 / fan_out),  fan_out = output channels x kernel height x kernel width
    linear         W, b ~ U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))
    BatchNorm      weight 1, bias 0, running mean 0, running variance 1

i counts `model.parameters()`, those that need no random numbers too. The numbers are drawn in the
order of the logical shape (out, in, height, width), so they depend neither on the memory format nor
on the device.

Sources: He et al. 2015, Delving Deep into Rectifiers, section 2.2 and equation 14, for
convolutions, with fan_out as in torchvision's ResNet; the default of torch.nn.Linear for linear
layers.
"""

from math import sqrt

import numpy as np
import torch
from torch import nn

from replicate.streams import rng


def initialise(model: nn.Module, seed: int) -> nn.Module:
    """The same model in float32 on the CPU, at the weights that belong to `seed`; its parameters
    are new objects.

    Build it under `torch.device("meta")`: then neither building nor filling touches torch's global
    generator. Raises ValueError if the seed lies outside [0, 2^32) or a layer has no rule above,
    before anything is changed.
    """
    state = {
        path: _parameter(*_owner(model, path), seed, i)
        for i, (path, _) in enumerate(model.named_parameters())
    }
    state |= {path: _buffer(*_owner(model, path)) for path, _ in model.named_buffers()}
    # Assigned, since `to_empty` on the meta device imports sympy, a second and more in every
    # process.
    model.load_state_dict(state, assign=True)
    return model


def _parameter(layer: nn.Module, name: str, seed: int, index: int) -> torch.Tensor:
    shape = tuple(getattr(layer, name).shape)
    if isinstance(layer, nn.Conv2d) and name == "weight":
        fan_out = shape[0] * shape[2] * shape[3]
        values = rng(seed, "init", index).normal(0.0, sqrt(2 / fan_out), shape)
    elif isinstance(layer, nn.Linear):
        bound = 1 / sqrt(layer.in_features)
        values = rng(seed, "init", index).uniform(-bound, bound, shape)
    elif isinstance(layer, nn.BatchNorm2d):
        values = np.full(shape, float(name == "weight"))
    else:
        raise _no_rule(layer, name)
    return torch.from_numpy(values.astype(np.float32))


def _buffer(layer: nn.Module, name: str) -> torch.Tensor:
    if not isinstance(layer, nn.BatchNorm2d):
        raise _no_rule(layer, name)
    if name == "num_batches_tracked":
        return torch.tensor(0, device="cpu")
    return torch.from_numpy(
        np.full(layer.num_features, float(name == "running_var"), dtype=np.float32)
    )


def _owner(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    owner, _, name = path.rpartition(".")
    return model.get_submodule(owner), name


def _no_rule(layer: nn.Module, name: str) -> ValueError:
    return ValueError(
        f"layers must be Conv2d without bias, Linear or BatchNorm2d, got {name} of {layer}"
    )
