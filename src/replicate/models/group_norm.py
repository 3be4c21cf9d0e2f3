"""y = gamma (x - mean) / sqrt(var + eps) + beta, mean and var over a group of channels and the pixels of
one image: nothing of it depends on other images, and nothing is remembered.

Wu, He 2018, Group Normalization (arXiv:1803.08494), equations 1, 2 and 7.
"""

import math

from torch import nn

GROUPS = 8  # at most; the paper has 32 for networks that are 8 times as wide and more


def use_group_norm(model: nn.Module) -> nn.Module:
    """The same model with every BatchNorm2d replaced by GroupNorm at the same weight and bias.

    So parameters, their order and their values are as before, and no layer has running statistics.
    The groups are GROUPS, or the largest number that divides both it and the channels.

    >>> from replicate.models import resnet8
    >>> model = use_group_norm(resnet8(classes=10, seed=0, width=4))
    >>> len(list(model.buffers())), model.bn1.num_groups
    (0, 4)
    """
    for name, layer in list(model.named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            setattr(model, name, _of_groups(layer))
        else:
            use_group_norm(layer)
    return model


def _of_groups(layer: nn.BatchNorm2d) -> nn.GroupNorm:
    channels = layer.num_features
    replaced = nn.GroupNorm(math.gcd(GROUPS, channels), channels, layer.eps)
    replaced.weight, replaced.bias = layer.weight, layer.bias
    return replaced
