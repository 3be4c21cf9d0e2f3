"""What a network costs, counted layer by layer."""

import pytest
import torch

from replicate import models


def test_operations_are_counted_layer_by_layer():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1, bias=False),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), torch.nn.Flatten(), torch.nn.Linear(8 * 16, 5),
    )  # fmt: skip
    layers = [2 * 8 * 16 * 27, 2 * 8 * 16 * 18, 2 * 128 * 5]
    assert models.count_operations(model, (3, 8, 8)) == (sum(layers), 3 * sum(layers) - layers[0])
    assert model.training and next(model.parameters()).device.type == "cpu"


@pytest.mark.long
def test_operations_of_a_resnet_are_those_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    model = models.resnet8(10, 0, width=4)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 16, 16)).sum().backward()
    assert models.count_operations(model, (3, 16, 16))[1] == counter.get_total_flops()
