"""A specification names a network, and the network is that family's function at those arguments."""

import doctest
import sys

import pytest
import torch

from replicate.models import (
    Specification,
    build,
    mlp,
    resnet8,
    resnet18,
    resnet20,
    resnet34,
    resnet50,
)

SHAPE = (3, 16, 16)
DIRECT = {
    Specification("mlp", width=8): lambda seed: mlp(768, (8, 8), 7, seed),
    Specification("resnet8", 4, "stride2", half=True): lambda seed: resnet8(
        7, seed, 4, "stride2", True
    ),
    Specification("resnet20", 4): lambda seed: resnet20(7, seed, 4, "cifar", False),
    Specification("resnet18", 4, "imagenet"): lambda seed: resnet18(7, seed, "imagenet", False),
    Specification("resnet34", half=True): lambda seed: resnet34(7, seed, "cifar", True),
    Specification("resnet50"): lambda seed: resnet50(7, seed, "cifar", False),
}


@pytest.mark.parametrize("spec", DIRECT, ids=lambda spec: spec.name)
def test_the_network_has_the_bits_and_the_precision_of_its_familys_function(spec):
    network, direct = build(spec, SHAPE, 7, 3), DIRECT[spec](3)
    weights, other = network.state_dict(), build(spec, SHAPE, 7, 4).state_dict()
    assert weights.keys() == direct.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in direct.state_dict().items())
    assert not torch.equal(
        *(torch.cat([v.flatten().float() for v in w.values()]) for w in (weights, other))
    )
    assert getattr(network, "autocast", False) == (spec.half and spec.name != "mlp")


@pytest.mark.parametrize("spec", DIRECT, ids=lambda spec: spec.name)
def test_it_takes_images_of_the_shape_and_gives_a_number_per_class(spec):
    assert build(spec, SHAPE, 7, 0).eval()(torch.zeros(2, *SHAPE)).shape == (2, 7)


def test_an_unknown_network_is_named_with_the_nearest_that_is_known():
    with pytest.raises(ValueError, match="unknown network 'resnet9'; did you mean 'resnet8'"):
        build(Specification("resnet9"), SHAPE, 7, 0)


def test_examples_give_what_they_say():
    found = doctest.testmod(sys.modules[build.__module__])
    assert found.attempted > 0 and found.failed == 0
