"""Multiplications and additions of a network, counted layer by layer: seconds >= operations / rate
on any device.
"""

import torch
from torch import nn

from replicate.numerics import modes_restored


def count_operations(model: nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
    """(forward, forward and backward) multiplications and additions of one example, of convolutions
    and matrices.

    shape: one example, without the batch. The backward pass makes the gradient of a layer's weights
    and of its input, each as much work as the layer itself; the first layer's input needs none. The
    model is one on the CPU.
    """
    counts = []

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        inner = layer.weight[0].numel()  # products that one number of the output is the sum of
        counts.append(2.0 * output.numel() * inner)

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad(), modes_restored(model):
            model.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts), 3 * sum(counts) - counts[0]
