"""y = gamma (x - mean) / sqrt(var + eps) + beta, mean and var over a group of channels and the pixels of
one image: nothing of it depends on other images, and nothing is remembered.

Wu, He 2018, Group Normalization (arXiv:1803.08494), equations 1, 2 and 7.
"""

from torch import nn

CHANNELS = 16  # of a group; the paper's second setting, which narrow networks allow


def use_group_norm(model: nn.Module) -> nn.Module:
    """The same model with every BatchNorm2d replaced by GroupNorm at the same weight and bias.

    So parameters, their order and their values are as before, and no layer has running statistics.
    A group has CHANNELS channels, or a layer is one group where it has fewer or they do not divide.

    >>> from replicate.models import resnet8
    >>> model = use_group_norm(resnet8(classes=10, seed=0, width=4))
    >>> len(list(model.buffers())), model.bn1.num_groups
    (0, 1)
    """
    for name, layer in list(model.named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            setattr(model, name, _of_groups(layer))
        else:
            use_group_norm(layer)
    return model


def _of_groups(layer: nn.BatchNorm2d) -> nn.GroupNorm:
    channels = layer.num_features
    groups = channels // CHANNELS if channels % CHANNELS == 0 else 1
    replaced = nn.GroupNorm(groups, channels, layer.eps)
    replaced.weight, replaced.bias = layer.weight, layer.bias
    return replaced
