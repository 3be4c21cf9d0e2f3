"""Input pipelines and a network as one writes them first: what the goals compare with."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

PAD, CUTOUT, SIDE = 4, 16, 32


def per_image(x: np.ndarray, tables: dict, mean: np.ndarray, deviation: np.ndarray, rows: slice) -> torch.Tensor:
    """Crop, mirror, standardise and cut out one image after the other, as a map-style data set does it."""
    images = []
    for row in range(rows.start, rows.stop):
        image = np.pad(x[tables["order"][row]], ((PAD, PAD), (PAD, PAD), (0, 0)))
        top, left = tables["top"][row], tables["left"][row]
        image = image[top : top + SIDE, left : left + SIDE]
        image = image[:, ::-1] if tables["mirrored"][row] else image
        pixels = torch.from_numpy(((image - mean) / deviation).astype(np.float32).transpose(2, 0, 1).copy())
        if "middle_row" in tables:
            down, right = tables["middle_row"][row], tables["middle_column"][row]
            half = CUTOUT // 2
            pixels[:, max(0, down - half) : down + half, max(0, right - half) : right + half] = 0
        images.append(pixels)
    return torch.stack(images)


def per_epoch(x: torch.Tensor, tables: dict) -> torch.Tensor:
    """Mask and copy: every image of the epoch at once, in its own order. x: standardised and padded, (n, 3, 40, 40)."""
    order = tables["order"]
    own = {name: torch.empty_like(table).index_copy_(0, order, table) for name, table in tables.items()}
    images = x.new_empty(len(x), 3, SIDE, SIDE)
    for top in range(2 * PAD + 1):
        for left in range(2 * PAD + 1):
            chosen = (own["top"] == top) & (own["left"] == left)
            images[chosen] = x[chosen, :, top : top + SIDE, left : left + SIDE]
    images = torch.where(own["mirrored"][:, None, None, None], images.flip(-1), images)
    where = torch.arange(SIDE)
    down, right = where - own["middle_row"][:, None], where - own["middle_column"][:, None]
    inside = [(one >= -CUTOUT // 2) & (one < CUTOUT // 2) for one in (down, right)]
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        """relu(F(x) + shortcut(x))."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class Plain8(nn.Module):
    """ResNet-8 in the memory format torch starts with; its parameters come in the order of `models.resnet8`."""

    def __init__(self, classes, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        sizes = [(width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        self.blocks = nn.Sequential(*(Block(*one) for one in sizes))
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x):
        """Logits."""
        return self.linear(self.blocks(functional.relu(self.bn(self.conv(x)))).mean((2, 3)))
