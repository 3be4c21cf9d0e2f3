"""A model whose every run can be written out: a quadratic in float64 with gradient noise."""

import numpy as np
import torch
from torch import nn

from replicate import compare
from replicate.averaging import swa
from replicate.streams import rng

KAPPA = np.array([0.02, 0.1, 0.5, 2.0, 8.0])
NOISE = np.array([1.0, 2.0, 0.5, 1.0, 3.0])  # variances
RATE, MOMENTUM = 0.05, 0.9


class Quadratic(nn.Module):
    """1/2 sum_i kappa_i w_i^2, one number a direction."""

    def __init__(self, kappa=KAPPA):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(kappa), dtype=torch.float64))
        self.register_buffer("kappa", torch.tensor(kappa))


def loss(model, noise):
    """The quadratic with a slope; its gradient is kappa w + noise."""
    return 0.5 * (model.kappa * model.w**2).sum() + (noise * model.w).sum()


def draw(stream: int, step: int) -> torch.Tensor:
    """A mini-batch: the slope."""
    return torch.from_numpy(slope(stream, step))


def slope(stream: int, step: int) -> np.ndarray:
    return rng(0, "noise", step, stream).standard_normal(len(NOISE)) * np.sqrt(NOISE)


def compare_quadratic(kappa=KAPPA, momentum=MOMENTUM, window=20, steps=120, **changes):
    """A comparison of a fresh one, judged without noise."""
    model = Quadratic(kappa)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=momentum)
    still = [torch.zeros(len(kappa), dtype=torch.float64)]
    given = {"kernel": swa, "branches": 2, "runs": 2, "held_out": still, **changes}
    return compare(model, loss, draw, optimizer, window=window, steps=steps, **given)


def walk(w, v, rates, stream, start, momentum=MOMENTUM, kappa=KAPPA):
    """Heavy ball written out: the iterates after `start`, and the last buffer."""
    path = []
    for i, rate in enumerate(rates):
        v = momentum * v + kappa * w + slope(stream, start + i)
        w = w - rate * v
        path.append(w)
    return np.array(path).reshape(-1, len(w)), v
