"""Other weights in a model for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from replicate.training.weights import flat_weights, load_flat


@contextmanager
def lend(model: nn.Module, weights: Tensor) -> Iterator[None]:
    """A block in which the model has a vector of weights (parameters,), and its own afterwards.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> before = model.weight.item()
    >>> import torch
    >>> with lend(model, torch.tensor([7.0])):
    ...     model.weight.item()
    7.0
    >>> model.weight.item() == before
    True
    """
    before = flat_weights(model)
    load_flat(model, weights)
    try:
        yield
    finally:
        load_flat(model, before)
