"""Goal C4: many small networks side by side against a loop over them; 20 inputs, five hidden layers of 10.

Compiled needs a C++ compiler and takes half a minute once; the eager lanes need neither.
"""

import shutil
import sys

import numpy as np
import torch
from _interleaved import ratios, table
from torch import nn
from torch.nn import functional

from replicate.models import mlp
from replicate.optim import SGD
from replicate.training import Flat, Lanes, flat_weights

ABOUT = {"lr": 0.01, "momentum": 0.9}
JOBS = {"64 networks, batch 128": (64, 128, 6, 18), "256 networks, batch 32": (256, 32, 20, 50)}


def network(seed: int) -> nn.Module:
    """One of the networks; its last layer has two outputs, the fewest a classifier has."""
    return mlp(20, (10,) * 5, 2, seed)


def loop(x, y):
    """A step of every network, one after the other."""
    models = [network(seed) for seed in range(len(x))]
    optimizers = [SGD(model.parameters(), **ABOUT) for model in models]

    def step():
        for model, optimizer, images, labels in zip(models, optimizers, x, y, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return step, lambda: torch.stack([flat_weights(model) for model in models])


def side_by_side(x, y, compiled):
    """A step of all lanes."""
    lanes = Lanes(Flat(network(0)), torch.stack([flat_weights(network(seed)) for seed in range(len(x))]))
    optimizer = SGD(lanes.groups(), fused=True, **ABOUT)
    gradient = lanes.gradient(functional.cross_entropy, compiled)

    def step():
        gradient(x, y)
        optimizer.step()

    return step, lanes.rows


def main() -> int:
    """Equal weights first, then the ratios."""
    torch.set_num_threads(1)
    for title, (count, size, eager, goal) in JOBS.items():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(count, size, 20, generator=generator)
        y = torch.randint(0, 2, (count, size), generator=generator)
        made = {"a loop": loop(x, y)}
        if shutil.which("g++") or shutil.which("clang++"):
            made["compiled lanes"] = side_by_side(x, y, compiled=True)
        made["lanes"] = side_by_side(x, y, compiled=False)
        for step, _ in made.values():
            for _ in range(5):
                step()
        ends = [rows() for _, rows in made.values()]
        for end in ends[1:]:
            torch.testing.assert_close(end, ends[0], rtol=1e-4, atol=1e-6)
        found = ratios({name: step for name, (step, _) in made.items()})
        print(table(title, found))
        if "compiled lanes" in found:
            print(f"  the loop over compiled lanes: {np.median(found['a loop'] / found['compiled lanes']):.1f}x")
        print(f"  goal C4: the loop at least {eager}x eager lanes, {goal}x compiled ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
