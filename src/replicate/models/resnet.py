"""y = relu(F(x) + shortcut(x)) is a block; a ResNet is a stem, stages of blocks, a mean over
pixels, a linear layer.

    basic        F = bn2 conv2 relu bn1 conv1                    3x3, 3x3 (the stride on the first)
    bottleneck   F = bn3 conv3 relu bn2 conv2 relu bn1 conv1     1x1, 3x3 (the stride), 1x1 to four times the channels
    shortcut     x, or bn(1x1 convolution of x) where the shape changes, called `downsample`

Stage i has `width` 2^i channels, and each stage but the first halves the image. No convolution has
a bias.

Sources: He et al. 2016, Deep Residual Learning for Image Recognition (arXiv:1512.03385), table 1
and section 4.2. The bottleneck strides on the 3x3 as torchvision's ("v1.5") does, where the paper
strides on the first 1x1; the CIFAR nets project where the paper's section 4.2 pads with zeros. The
names of parameters are torchvision's.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from replicate.errors import unknown
from replicate.models.initialise import initialise

STEMS = {  # the first convolution's kernel, stride and padding
    "cifar": (3, 1, 1),  # section 4.2
    "stride2": (4, 2, 1),  # ours, not the paper's: a quarter of the work at 32 pixels
    "imagenet": (7, 2, 3),  # table 1; a 3x3 max-pool of stride 2 follows
}
MOMENTUM = 0.1  # torch's default, torchvision's ResNet: running = 0.9 running + 0.1 batch


class ResNet(nn.Sequential):
    """Logits of images, (batch, 3, height, width) -> (batch, classes) float32.

    Either memory format goes in; inside, all is channels_last. With `autocast` the forward pass
    runs in bfloat16 where torch's autocast allows it; parameters and BatchNorm statistics stay
    float32.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], autocast: bool = False):
        super().__init__(layers)
        self.autocast = autocast  # not `bfloat16`, which is a method of every nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, 3, height, width)."""
        images = images.contiguous(memory_format=torch.channels_last)
        if not self.autocast:
            return super().forward(images)
        # Each weight is cast once a forward: the cache gains nothing, and inside an outer autocast
        # it would go stale.
        with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):
            return super().forward(images).float()


class BasicBlock(nn.Module):
    """y = relu(bn2 conv2 relu bn1 conv1 x + shortcut x).

    (batch, inputs, h, w) -> (batch, width, h / stride, w / stride), rounded up.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _convolution(inputs, width, 3, stride, 1), _batch_norm(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, 1, 1), _batch_norm(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, relu included."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """y = relu(bn3 conv3 relu bn2 conv2 relu bn1 conv1 x + shortcut x).

    (batch, inputs, h, w) -> (batch, 4 width, h / stride, w / stride), rounded up.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _convolution(inputs, width, 1, 1, 0), _batch_norm(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, stride, 1), _batch_norm(width)
        self.conv3, self.bn3 = _convolution(width, 4 * width, 1, 1, 0), _batch_norm(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, relu included."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + self.downsample(x))


def resnet8(
    classes: int, seed: int, width: int = 16, stem: str = "cifar", bfloat16: bool = False
) -> ResNet:
    """One basic block in each of three stages, `width`, 2 `width`, 4 `width` channels.

    The default width is He et al. 2016, section 4.2. `stem` is "cifar" (3x3, stride 1) or "stride2"
    (4x4, stride 2). Raises ValueError if `classes` is below 2, `width` below 1, the stem unknown or
    the seed outside [0, 2^32).
    """
    return _small((1, 1, 1), classes, seed, width, stem, bfloat16)


def resnet20(
    classes: int, seed: int, width: int = 16, stem: str = "cifar", bfloat16: bool = False
) -> ResNet:
    """Three basic blocks in each of three stages, otherwise as `resnet8`; n = 3 of He et al. 2016,
    section 4.2.
    """
    return _small((3, 3, 3), classes, seed, width, stem, bfloat16)


def resnet18(classes: int, seed: int, stem: str = "cifar", bfloat16: bool = False) -> ResNet:
    """Basic blocks (2, 2, 2, 2), 64 to 512 channels; He et al. 2016, table 1.

    `stem` is "cifar" (3x3, stride 1, no max-pool: what CIFAR papers call ResNet-18, hence the
    default) or "imagenet" (7x7, stride 2, then 3x3 max-pool, stride 2). Raises ValueError if
    `classes` is below 2, the stem unknown or the seed outside [0, 2^32).
    """
    return _large(BasicBlock, (2, 2, 2, 2), classes, seed, stem, bfloat16)


def resnet34(classes: int, seed: int, stem: str = "cifar", bfloat16: bool = False) -> ResNet:
    """Basic blocks (3, 4, 6, 3), otherwise as `resnet18`; He et al. 2016, table 1."""
    return _large(BasicBlock, (3, 4, 6, 3), classes, seed, stem, bfloat16)


def resnet50(classes: int, seed: int, stem: str = "cifar", bfloat16: bool = False) -> ResNet:
    """Bottlenecks (3, 4, 6, 3), 256 to 2048 channels, otherwise as `resnet18`; He et al. 2016,
    table 1.
    """
    return _large(Bottleneck, (3, 4, 6, 3), classes, seed, stem, bfloat16)


def _small(blocks, classes, seed, width, stem, bfloat16) -> ResNet:
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    _check(classes, stem, ("cifar", "stride2"))
    with torch.device("meta"):
        layers = _layers(BasicBlock, blocks, width, classes, stem)
    return _start(layers, seed, bfloat16)


def _large(block, blocks, classes, seed, stem, bfloat16) -> ResNet:
    _check(classes, stem, ("cifar", "imagenet"))
    with torch.device("meta"):
        layers = _layers(block, blocks, 64, classes, stem)  # table 1: conv2_x has 64 channels
    return _start(layers, seed, bfloat16)


def _check(classes: int, stem: str, stems: tuple[str, ...]) -> None:
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if stem not in stems:
        raise unknown("stem", stem, stems)


def _start(layers: OrderedDict[str, nn.Module], seed: int, bfloat16: bool) -> ResNet:
    return initialise(ResNet(layers, autocast=bfloat16), seed).to(memory_format=torch.channels_last)


def _layers(
    block, blocks: tuple[int, ...], width: int, classes: int, stem: str
) -> OrderedDict[str, nn.Module]:
    """All layers by torchvision's names, first to last."""
    layers = OrderedDict(
        conv1=_convolution(3, width, *STEMS[stem]), bn1=_batch_norm(width), relu=nn.ReLU()
    )
    if stem == "imagenet":
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    inputs = width
    for i, depth in enumerate(blocks):
        layers[f"layer{i + 1}"] = _stage(
            block, depth, inputs, width * 2**i, stride=1 if i == 0 else 2
        )
        inputs = width * 2**i * block.expansion
    layers.update(
        avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, classes)
    )
    return layers


def _stage(block, depth: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    first = block(inputs, width, stride)
    return nn.Sequential(
        first, *(block(width * block.expansion, width, 1) for _ in range(depth - 1))
    )


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(_convolution(inputs, outputs, 1, stride, 0), _batch_norm(outputs))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)
