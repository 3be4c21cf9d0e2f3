"""Goal C2: a step of weight extrapolation against the source's class; no compiler is used.

The plain version is the class as it stands in the post: it clones the gradient and makes a pass for
each of three terms, 41 reads or writes of all weights. Ours are 7, a copy of the gradient and one
product, so that by bytes 5.9x can be had. In the first table the inner optimizer stands still, so
that only the extrapolation is compared; in the second SGD moves, as it comes under the plain class,
fused under ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness, peers
from benchmarks.inputs import flatten, join, make_parameters
from replicate.optim import SGD, TaylorExtrapolation

LR = 0.02
DT = 0.002
STEPS = 5  # of a round
PLAIN = "plain class"
OURS = "ours, history of gradients"


@dataclass(frozen=True)
class Size:
    """network: whose weights are extrapolated."""

    network: str = "resnet18"
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size("resnet8", rounds=1)


class Still(SGD):
    """Plain SGD that does not move."""

    def step(self, closure=None) -> None:
        """Nothing."""


def measure(size: Size) -> Iterator[harness.Table]:
    """Extrapolation alone, then with its step of SGD."""
    fused = lambda parameters, lr: SGD(parameters, lr=lr, fused=True)  # noqa: E731
    plans = {"extrapolation alone": (Still, Still), "with its step of SGD": (SGD, fused)}
    for number, (title, inners) in enumerate(plans.items()):
        versions = make_versions(size.network, *inners)
        jobs = {name: make_job(optimizer) for name, (optimizer, _) in versions.items()}
        yield harness.compare(
            harness.Comparison(
                f"{title}, {size.network}",
                jobs,
                lambda: step_in_double(size.network),
                (1e-14, 1e-14),
                {} if number else {"C2": (PLAIN, OURS)},
                size.rounds,
                is_stated=size == FULL,
                warm=2,  # nothing is extrapolated before three gradients are known
            )
        )


def make_versions(
    network: str, inner: Callable, faster: Callable, dtype: torch.dtype = torch.float32
) -> dict[str, tuple[object, list[Tensor]]]:
    """name -> (optimizer, its parameters); the last one is ours. faster: the inner under ours."""
    versions = {}
    for name, wrap in find_peers().items():
        parameters = make_parameters(network, dtype)
        versions[name] = (wrap(inner(parameters, lr=LR), parameters), parameters)
    for name, settings, shape in (
        ("ours, history of weights", {}, list),
        ("ours, history of gradients, one vector", {"history": "gradient"}, join),
        ("ours, published", {"variant": "published"}, list),
        (OURS, {"history": "gradient"}, list),
    ):
        parameters = shape(make_parameters(network, dtype))
        extrapolated = TaylorExtrapolation(faster(parameters, lr=LR), DT, **settings)
        versions[name] = (extrapolated, parameters)
    return versions


def find_peers() -> dict[str, Callable]:
    """name -> wrapper of (inner, parameters): the plain class, and the authors' file."""
    wrappers = {PLAIN: lambda inner, parameters: peers.Extrapolation(inner, parameters, LR, DT)}
    authors = peers.load_authors("extrapolator")
    if authors is not None:
        wrappers["the authors' file"] = lambda inner, parameters: peers.AfterStep(
            inner, authors.Extrapolator(parameters, eta=LR, h=LR, dt=DT)
        )
    return wrappers


def step_in_double(network: str) -> dict[str, np.ndarray]:
    """Weights after eight steps in float64, over the largest of them."""
    versions = make_versions(network, SGD, SGD, torch.float64)
    for step in range(8):
        for optimizer, parameters in versions.values():
            for p in parameters:
                p.grad.mul_(-0.9)
            if isinstance(optimizer, TaylorExtrapolation):
                # From the fourth step on, as the plain class.
                optimizer.every = 1 if step >= 3 else None
            optimizer.step()
    ends = {name: flatten(parameters).numpy() for name, (_, parameters) in versions.items()}
    largest = np.abs(ends[PLAIN]).max()
    return {name: end / largest for name, end in ends.items()}


def make_job(optimizer) -> harness.Job:
    """A job: STEPS steps with the gradients that are there."""
    return lambda: [optimizer.step() for _ in range(STEPS)]
