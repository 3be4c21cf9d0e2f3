"""A recipe to begin from: torch's own transformer on the rows of handwritten digits.

file.py:function       takes a device, gives the arguments of `replicate.compare` as a dict
"""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

IMAGES_HELD_OUT = 297  # of 1797 images
WIDTH = 8  # pixels of a row, which is a token; an image has as many rows


def make_transformer(device: str) -> dict[str, object]:
    """Two layers of torch.nn.TransformerEncoder, SGD with momentum, batches of 32.

    Weights are those of torch's generator. Needs scikit-learn, which has the images.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    layer = nn.TransformerEncoderLayer(WIDTH, nhead=2, dim_feedforward=32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = nn.Sequential(encoder, nn.Flatten(), nn.Linear(WIDTH * WIDTH, 10)).to(device)
    return {
        "model": model,
        "loss": compute_loss,
        "batches": DataLoader(
            TensorDataset(x[:-IMAGES_HELD_OUT], y[:-IMAGES_HELD_OUT]), batch_size=32
        ),
        "held_out": [(x[-IMAGES_HELD_OUT:], y[-IMAGES_HELD_OUT:])],
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    }


def compute_loss(model: nn.Module, batch: tuple) -> torch.Tensor:
    """Cross-entropy in nats of (images, labels)."""
    images, labels = batch
    return functional.cross_entropy(model(images), labels)
