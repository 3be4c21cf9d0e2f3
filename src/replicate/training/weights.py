"""A model's weights as one vector, and back."""

import torch
from torch import Tensor, nn

from replicate.training.flat import Flat


def flat_weights(model: nn.Module) -> Tensor:
    """A copy of all parameters in the order of `model.parameters()`: (parameters,). Buffers are not
    weights.

    Raises ValueError if there are none.
    """
    parts = [p.detach().reshape(-1) for p in model.parameters()]
    if not parts:
        raise ValueError(f"model must have parameters, got {type(model).__name__} with none")
    return torch.cat(parts)


def live_weights(model: nn.Module) -> Tensor:
    """`flat_weights` to be read before the next update: of a `Flat` model it is the vector itself,
    without a copy.
    """
    return model.weights.detach() if isinstance(model, Flat) else flat_weights(model)


@torch.no_grad()
def load_flat(model: nn.Module, weights: Tensor) -> None:
    """Put a vector (parameters,) back into the parameters, rounded to their precision.

    Raises ValueError if the vector has another length than the model.
    """
    count = sum(p.numel() for p in model.parameters())
    if weights.shape != (count,):
        raise ValueError(f"weights must have shape ({count},), got {tuple(weights.shape)}")
    start = 0
    for parameter in model.parameters():
        end = start + parameter.numel()
        parameter.copy_(weights[start:end].view(parameter.shape))
        start = end


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b|, Euclidean, computed in float64. a, b: (parameters,)."""
    return float(torch.linalg.vector_norm(a.double() - b.double()))
