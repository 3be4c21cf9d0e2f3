"""f(x; P theta) = f(x; theta): hidden units in another order make the same function at other weights.

Between theta and P theta, which have the same loss everywhere, a straight line leaves the basin of
theta: what a barrier looks like on a net and a loss, without training a second net.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def reorder_units(model: nn.Module, rng: np.random.Generator) -> None:
    """Put the hidden units of a perceptron, or the channels inside each block of a ResNet, into an
    order that `rng` draws, in place; the function stays, up to rounding.

    What is added up over blocks keeps its order, as all blocks share it. Raises ValueError on a
    model in which nothing can be reordered.

    >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> before, x = net(torch.ones(1, 1)), torch.ones(1, 1)
    >>> reorder_units(net, np.random.Generator(np.random.Philox(0)))
    >>> torch.allclose(net(x), before)
    True
    """
    chains = list(_find_chains(model))
    if not chains:
        raise ValueError(f"model must have hidden units, got {type(model).__name__} with none")
    for maker, norm, reader in chains:
        order = torch.from_numpy(rng.permutation(len(maker.weight))).to(maker.weight.device)
        for tensor in _tensors_by_unit(maker, norm):
            tensor.copy_(tensor[order])
        reader.weight.copy_(reader.weight[:, order])


def _find_chains(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None, nn.Module]]:
    """(layer that makes units, their BatchNorm, layer that alone reads them)."""
    if isinstance(model, nn.Sequential):
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        yield from ((maker, None, reader) for maker, reader in pairwise(layers))
    for block in model.modules():
        if hasattr(block, "conv2"):
            yield block.conv1, block.bn1, block.conv2
        if hasattr(block, "conv3"):
            yield block.conv2, block.bn2, block.conv3


def _tensors_by_unit(maker: nn.Module, norm: nn.Module | None) -> Iterator[Tensor]:
    """Parameters and statistics with one row a unit."""
    for layer in (maker, norm):
        if layer is not None:
            yield from (tensor for tensor in (*layer.parameters(), *layer.buffers()) if tensor.ndim)
