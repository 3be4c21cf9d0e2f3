"""L(theta) = mean over fixed mini-batches of the loss at theta, and its gradient.

The loss as a function of one flat vector, for whoever walks on it: Hessian products, steps of
different sizes, interpolations. BatchNorm normalises each mini-batch by itself, as in training, so
that value and gradient are those of one function.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from replicate.training.weights import load_flat


class Surface:
    """Cross-entropy in nats over mini-batches that never change; the model is the surface's to fill.

    >>> batch = (torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]))
    >>> surface = Surface(nn.Linear(1, 2, bias=False), [batch])
    >>> round(surface.loss(torch.zeros(2)), 4)
    0.6931
    >>> surface.gradient(torch.zeros(2))
    tensor([-0.5000,  0.5000])
    """

    def __init__(self, model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]):
        """batches: (images, labels), of any sizes; each counts by its labels. Raises ValueError
        without one.
        """
        if not batches:
            raise ValueError("batches must hold at least one mini-batch, got none")
        self.model = model.train()
        self.batches = list(batches)
        self._count = sum(len(labels) for _, labels in self.batches)

    @torch.no_grad()
    def loss(self, weights: Tensor) -> float:
        """L at weights (d,)."""
        load_flat(self.model, weights)
        return (
            sum(float(self._sum(images, labels)) for images, labels in self.batches) / self._count
        )

    def gradient(self, weights: Tensor) -> Tensor:
        """grad L at weights (d,), (d,)."""
        load_flat(self.model, weights)
        self.model.zero_grad()
        for images, labels in self.batches:
            (self._sum(images, labels) / self._count).backward()
        return _join(parameter.grad for parameter in self.model.parameters())

    def product(self, weights: Tensor, direction: Tensor) -> Tensor:
        """H v at weights (d,) in a direction v (d,), by a double backward pass: (d,)."""
        load_flat(self.model, weights)
        parameters = list(self.model.parameters())
        product = torch.zeros_like(direction)
        for images, labels in self.batches:
            loss = self._sum(images, labels) / self._count
            gradient = _join(torch.autograd.grad(loss, parameters, create_graph=True))
            product += _join(torch.autograd.grad(gradient @ direction, parameters))
        return product

    def _sum(self, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.model(images).float(), labels, reduction="sum")


def _join(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
