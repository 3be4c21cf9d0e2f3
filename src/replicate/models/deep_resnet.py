"""ResNet-152, apart from the smaller ones: what they computed stays code of today."""

from replicate.models import resnet
from replicate.models.resnet import Bottleneck, ResNet


def resnet152(classes: int, seed: int, stem: str = "imagenet", bfloat16: bool = False) -> ResNet:
    """Bottlenecks (3, 8, 36, 3), otherwise as `resnet50`; He et al. 2016, table 1.

    Its images are ImageNet's, hence the default stem. Raises ValueError as `resnet18` does.
    """
    return resnet._large(Bottleneck, (3, 8, 36, 3), classes, seed, stem, bfloat16)
