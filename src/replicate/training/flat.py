"""theta = (theta_1, ..., theta_n) is one vector `weights`; what the model knows as its parameters
are views of it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Flat(nn.Module):
    """A model with one parameter, `weights` (parameters,), in the order of `flat_weights`.

    An optimizer, a pull-back or an average then makes one pass over one vector instead of one a
    tensor. The views are taken anew in every forward pass, so that autograd itself puts the
    gradients into one vector: zero_grad, deepcopy, schedulers, scalers and state_dict need to know
    nothing of it. Buffers stay where they were.
    """

    def __init__(self, model: nn.Module):
        """Takes `model` over: its own parameters are gone. A parameter it uses twice is there once.

        Raises ValueError if it has no parameters, or some that are frozen or not all of one
        floating-point type.
        """
        super().__init__()
        own = list(model.named_parameters())
        if not own:
            raise ValueError(f"model must have parameters, got {type(model).__name__} with none")
        if frozen := [name for name, p in own if not p.requires_grad]:
            raise ValueError(f"parameters must all be trained, got {frozen[0]} frozen")
        if len(types := {p.dtype for _, p in own}) > 1 or not own[0][1].is_floating_point():
            raise ValueError(
                f"parameters must be of one floating-point type, got {sorted(map(str, types))}"
            )
        self.weights = nn.Parameter(torch.cat([p.detach().reshape(-1) for _, p in own]))
        self._shapes = [p.shape for _, p in own]
        self._sizes = [p.numel() for _, p in own]
        self._places = list(_take(model, [p for _, p in own]))
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        """The model's output."""
        return self.at(self.weights, *inputs)

    def at(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """The model's output with other weights (parameters,): a function of them, as torch.func
        wants it.
        """
        views = [
            part.view(shape)
            for part, shape in zip(weights.split(self._sizes), self._shapes, strict=True)
        ]
        # An attribute of the instance hides nn.Module's own look-up, and is not registered as a
        # parameter.
        for layer, name, index in self._places:
            layer.__dict__[name] = views[index]
        try:
            return self.model(*inputs)
        finally:
            for layer, name, _ in self._places:
                del layer.__dict__[name]


def _take(model: nn.Module, parameters: list[Tensor]) -> Iterator[tuple[nn.Module, str, int]]:
    """Remove every parameter from the layer that holds it: (layer, name, its index)."""
    index = {id(p): i for i, p in enumerate(parameters)}
    for layer in model.modules():
        for name, parameter in list(layer._parameters.items()):
            if parameter is not None:
                del layer._parameters[name]
                yield layer, name, index[id(parameter)]
