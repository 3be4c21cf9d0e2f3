"""Reordered units make the same function at other weights, and a barrier in between."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate import models, training
from replicate.models import resnet
from replicate.models.initialise import initialise


def make_bottlenecks() -> nn.Module:
    """A ResNet-50's blocks, few and narrow."""
    with torch.device("meta"):
        layers = resnet._layers(resnet.Bottleneck, (1, 1), 4, 5, "cifar")
    return initialise(resnet.ResNet(layers), 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


NETS = {
    "mlp": lambda: models.mlp(12, (16, 8), 5, 1),
    "resnet8": lambda: models.resnet8(5, 1, width=4),
    "bottlenecks": lambda: make_bottlenecks(),
}
SHAPES = {"mlp": (3, 12)}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("train", [True, False])
def test_the_function_stays_and_the_weights_do_not(name, train):
    net = NETS[name]()
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():  # statistics and scales that differ from unit to unit
            tensor.data = tensor.data + 0.1 * torch.rand(tensor.shape)
    net = net.double().train(train)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
    x = torch.randn(SHAPES.get(name, (3, 3, 16, 16)), dtype=torch.float64)
    before, weights = net(x).detach(), training.flat_weights(net)
    models.reorder_units(net, generator())
    after = training.flat_weights(net)
    torch.testing.assert_close(net(x).detach(), before, rtol=1e-9, atol=1e-9)
    assert torch.equal(after.sort().values, weights.sort().values)
    moved = (after != weights).double().mean()
    assert moved > (0.1 if name == "mlp" else 0.5)


def test_every_hidden_layer_is_reordered():
    net = models.mlp(12, (16, 8), 5, 1)
    first, second = (net[i].bias.detach().clone() for i in (1, 3))
    models.reorder_units(net, generator())
    for layer, before in ((net[1], first), (net[3], second)):
        assert not torch.equal(layer.bias, before)
        assert torch.equal(layer.bias.sort().values, before.sort().values)


def test_a_model_without_hidden_units_is_refused():
    with pytest.raises(ValueError, match="model must have hidden units, got Linear with none"):
        models.reorder_units(nn.Linear(2, 2), generator())
