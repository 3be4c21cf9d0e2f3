"""The table of optimizers that every test of ordinary life goes through: a method is a row."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from replicate.optim import (
    SGD,
    Adam,
    AdamW,
    KeepStepping,
    KeepVaulting,
    Lookahead,
    OuterNesterov,
    TaylorExtrapolation,
)

LR = 0.1


def sgd(parameters):
    return SGD(parameters, lr=LR)


def momentum(parameters):
    return SGD(parameters, lr=LR, momentum=0.9)


def adam(parameters):
    return Adam(parameters, lr=LR)


def adamw(parameters):
    return AdamW(parameters, lr=LR)


@dataclass(frozen=True)
class Row:
    """made(parameters): the optimizer; plain(parameters): the torch optimizer that it is held to.

    walks: whether its step takes a closure that computes the loss.
    """

    made: Callable
    plain: Callable
    walks: bool = False


ROWS = {
    "Lookahead of SGD": Row(lambda p: Lookahead(sgd(p)), sgd),
    "Lookahead of momentum": Row(lambda p: Lookahead(momentum(p), 3, 0.8, "interpolate"), momentum),
    "Lookahead of Adam": Row(lambda p: Lookahead(adam(p), inner_state="interpolate"), adam),
    "Lookahead of AdamW": Row(lambda p: Lookahead(adamw(p)), adamw),
    "OuterNesterov of SGD": Row(lambda p: OuterNesterov(sgd(p), 3, 0.7, 0.3), sgd),
    "TaylorExtrapolation of SGD": Row(lambda p: TaylorExtrapolation(sgd(p), dt=0.01), sgd),
    "TaylorExtrapolation of Adam": Row(lambda p: TaylorExtrapolation(adam(p), dt=0.01), adam),
    "KeepStepping": Row(lambda p: KeepStepping(p, lr=LR), sgd, walks=True),
    "KeepVaulting": Row(lambda p: KeepVaulting(p, lr=LR), sgd, walks=True),
}
WALKERS = tuple(name for name, row in ROWS.items() if row.walks)
WRAPPERS = tuple(name for name, row in ROWS.items() if not row.walks)


class Problem:
    """Noisy regression: 40 rows, 3 columns, and a loss that cannot fall below the noise's."""

    def __init__(self, net: nn.Module | None = None, dtype=torch.float64):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((40, 3))
        y = x @ np.array([[0.5], [-1.0], [0.25]]) + 0.3 * rng.standard_normal((40, 1))
        self.x = torch.from_numpy(x).to(dtype)
        self.y = torch.from_numpy(y).to(dtype)
        self.net = nn.Linear(3, 1) if net is None else net
        self.net.to(dtype)
        for i, p in enumerate(self.net.parameters()):
            values = np.random.default_rng(i).uniform(-0.5, 0.5, tuple(p.shape))
            p.data.copy_(torch.as_tensor(values))

    def loss(self) -> torch.Tensor:
        return ((self.net(self.x) - self.y) ** 2).mean()

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1).double() for p in self.net.parameters()])


def step(optimizer, loss: Callable[[], torch.Tensor]) -> None:
    """One step of an ordinary loop, with what a walker asks for beside it."""
    optimizer.zero_grad()
    value = loss()
    value.backward()
    if isinstance(optimizer, KeepStepping | KeepVaulting):
        optimizer.step(loss, value.detach())
    else:
        optimizer.step()


def snapshot(optimizer, *tensors: torch.Tensor):
    """Everything that a refusal may not change."""
    return copy.deepcopy((optimizer.state_dict(), [tensor.detach() for tensor in tensors]))


def is_same(a, b) -> bool:
    """Whether nested dicts and lists hold the same values, tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    return a == b
