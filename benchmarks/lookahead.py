"""Goal C1: a Lookahead cycle of five steps against a plain one over a list of tensors, on ResNet-18's parameters.

The plain version is a loop over the parameters around torch's SGD as it comes. Ours around the same SGD is there too,
so that what the fused inner step gains is not taken for a gain of the wrapper. Passes over an array of the weights
in a cycle: plain loop 48, ours 29, 25 of them the fused inner steps themselves, without which nothing works.
"""

import importlib.util
import os
import sys
from pathlib import Path

import torch
from _interleaved import ratios, table
from torch import nn

from replicate.models import resnet18
from replicate.optim import SGD, Lookahead

K, ALPHA, GOAL = 5, 0.5, 2.3


class Plain:
    """Lookahead as one writes it first: slow copies in a list, and a loop at every k-th step."""

    def __init__(self, inner, parameters):
        self.inner, self.fast, self.slow, self.steps = inner, parameters, [p.detach().clone() for p in parameters], 0

    @torch.no_grad()
    def step(self):
        """One inner step, and the pull after every K-th."""
        self.inner.step()
        self.steps += 1
        if self.steps % K == 0:
            for fast, slow in zip(self.fast, self.slow, strict=True):
                slow.add_(fast - slow, alpha=ALPHA)
                fast.copy_(slow)


def parameters() -> list[torch.Tensor]:
    """The 62 tensors of ResNet-18 with gradients that are the same for every version."""
    found = list(resnet18(10, seed=0).parameters())
    generator = torch.Generator().manual_seed(0)
    for one in found:
        # In the parameter's layout, as autograd gives it: fused SGD pairs the two by their place in memory.
        one.grad = torch.empty_like(one).normal_(std=1e-3, generator=generator)
    return found


def one_vector(listed: list[torch.Tensor]) -> nn.Parameter:
    """The same weights and gradients in one tensor."""
    vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in listed]))
    vector.grad = torch.cat([p.grad.reshape(-1) for p in listed])
    return vector


def peers() -> dict:
    """name -> wrapper of an inner optimizer: what is installed, and the authors' file in the folder REPLICATE_PEERS."""
    found = {}
    if importlib.util.find_spec("pytorch_optimizer"):
        from pytorch_optimizer import Lookahead as Packaged

        found["pytorch_optimizer on SGD"] = lambda inner: Packaged(inner, k=K, alpha=ALPHA)
    file = Path(os.environ.get("REPLICATE_PEERS", "")) / "lookahead_pytorch.py"
    if "REPLICATE_PEERS" in os.environ and file.exists():
        spec = importlib.util.spec_from_file_location("lookahead_pytorch", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found["the authors' own on SGD"] = lambda inner: module.Lookahead(inner, la_steps=K, la_alpha=ALPHA)
    return found


def versions() -> dict:
    """name -> (optimizer, its parameters); the last one is what the others are compared with."""
    lists = [parameters() for _ in range(4)]
    lists += [[one_vector(lists[0])], [one_vector(lists[0])]]
    about = {"lr": 0.05, "momentum": 0.9}
    made = {
        "SGD alone": SGD(lists[0], **about),
        "plain loop on SGD": Plain(SGD(lists[1], **about), lists[1]),
        "Lookahead on SGD": Lookahead(SGD(lists[2], **about), K, ALPHA),
        "Lookahead on fused SGD": Lookahead(SGD(lists[3], fused=True, **about), K, ALPHA),
        "fused SGD alone, one vector": SGD(lists[4], fused=True, **about),
        "Lookahead on fused SGD, one vector": Lookahead(SGD(lists[5], fused=True, **about), K, ALPHA),
    }
    for name, wrap in peers().items():
        own = parameters()
        made = {name: wrap(SGD(own, **about))} | made
        lists.insert(0, own)
    return {name: (one, own) for (name, one), own in zip(made.items(), lists, strict=True)}


def cycle(optimizer) -> None:
    """K steps with the gradients that are there."""
    for _ in range(K):
        optimizer.step()


def main() -> int:
    """Equal results first, then the ratios; 1 if results differ."""
    made = versions()
    for optimizer, _ in made.values():
        cycle(optimizer)
        cycle(optimizer)
    reference = made["plain loop on SGD"][1]
    for own in (own for name, (_, own) in made.items() if "alone" not in name):
        whole = [torch.cat([p.detach().reshape(-1) for p in one]) for one in (reference, own)]
        torch.testing.assert_close(*whole, rtol=1e-5, atol=1e-7)
    found = ratios({name: lambda one=one: cycle(one) for name, (one, _) in made.items()})
    print(table("Lookahead, a cycle of 5 steps, ResNet-18's 62 tensors", found))
    print(f"  goal C1: plain loop at least {GOAL}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
