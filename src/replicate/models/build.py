"""(specification, shape of an image, classes, seed) -> network, for what a run's settings say."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from replicate.errors import unknown
from replicate.models.mlp import mlp
from replicate.models.resnet import resnet8, resnet18, resnet20, resnet34, resnet50


@dataclass(frozen=True)
class Specification:
    """Which network: its family and size, without images or seed.

    >>> Specification("resnet8", width=16, stem="stride2")
    Specification(name='resnet8', width=16, stem='stride2', half=False)
    """

    name: str  # of NETWORKS
    # Channels of the first stage, or units of each of two hidden layers. ResNet-18 and larger ones
    # have He et al.'s 64 (2016, table 1), whatever is said here.
    width: int = 64
    stem: str = "cifar"  # of the ResNets
    half: bool = False  # whether a ResNet's forward pass is in bfloat16; an MLP's is in float32


def build(
    specification: Specification, shape: tuple[int, ...], classes: int, seed: int
) -> nn.Module:
    """The network on the CPU, at the weights of a seed, for images of this shape (channels, height,
    width).

    Raises ValueError if the name is unknown, or for what the network itself refuses.

    >>> network = build(Specification("mlp", width=8), (1, 8, 8), classes=10, seed=0)
    >>> [tuple(parameter.shape) for parameter in network.parameters()]
    [(8, 64), (8,), (8, 8), (8,), (10, 8), (10,)]
    """
    if specification.name not in NETWORKS:
        raise unknown("network", specification.name, NETWORKS)
    return NETWORKS[specification.name](specification, shape, classes, seed)


def _mlp(
    specification: Specification, shape: tuple[int, ...], classes: int, seed: int
) -> nn.Module:
    return mlp(math.prod(shape), (specification.width, specification.width), classes, seed)


def _small(network: Callable) -> Callable:
    """A CIFAR ResNet, whose width is the specification's."""

    def build_small(
        specification: Specification, shape: tuple[int, ...], classes: int, seed: int
    ) -> nn.Module:
        return network(classes, seed, specification.width, specification.stem, specification.half)

    return build_small


def _large(network: Callable) -> Callable:
    """A ResNet of He et al. 2016, table 1, whose widths are the paper's."""

    def build_large(
        specification: Specification, shape: tuple[int, ...], classes: int, seed: int
    ) -> nn.Module:
        return network(classes, seed, specification.stem, specification.half)

    return build_large


NETWORKS: dict[str, Callable] = {
    "mlp": _mlp,
    "resnet8": _small(resnet8),
    "resnet20": _small(resnet20),
    "resnet18": _large(resnet18),
    "resnet34": _large(resnet34),
    "resnet50": _large(resnet50),
}
