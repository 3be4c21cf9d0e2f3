"""Goal C1: a Lookahead cycle of five steps against a plain one over a list of tensors.

The plain version is a loop over the parameters around torch's SGD as it comes. Ours around the same
SGD is there too, so that what the fused inner step gains is not taken for a gain of the wrapper.
Passes over an array of the weights in a cycle: plain loop 48, ours 29, 25 of them the fused inner
steps themselves, without which nothing works.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks import harness, peers
from benchmarks.inputs import flatten, join, make_parameters
from replicate.optim import SGD, Lookahead

K = 5
ALPHA = 0.5
SETTINGS = {"lr": 0.05, "momentum": 0.9}
PLAIN = "plain loop on SGD"
OURS = "Lookahead on fused SGD, one vector"


@dataclass(frozen=True)
class Size:
    """network: whose weights are stepped."""

    network: str = "resnet18"
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size("resnet8", rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """Every version of the cycle, in turns."""
    versions = make_versions(size.network)
    jobs = {name: make_cycle(optimizer) for name, (optimizer, _) in versions.items()}
    title = f"Lookahead, a cycle of {K} steps, {size.network}"
    yield harness.compare(
        harness.Comparison(
            title,
            jobs,
            lambda: step_twice(versions),
            (1e-5, 1e-7),
            {"C1": (PLAIN, OURS)},
            size.rounds,
            is_stated=size == FULL,
        )
    )


def make_versions(network: str) -> dict[str, tuple[object, list[Tensor]]]:
    """name -> (optimizer, its parameters); the last one is ours at its best."""
    vector = lambda: join(make_parameters(network))  # noqa: E731
    tensors = lambda: make_parameters(network)  # noqa: E731
    plans = {name: (tensors, False, wrap) for name, wrap in find_peers().items()}
    plans |= {
        "SGD alone": (tensors, False, lambda inner, _: inner),
        PLAIN: (tensors, False, lambda inner, p: peers.Lookahead(inner, p, K, ALPHA)),
        "Lookahead on SGD": (tensors, False, lambda inner, _: Lookahead(inner, K, ALPHA)),
        "Lookahead on fused SGD": (tensors, True, lambda inner, _: Lookahead(inner, K, ALPHA)),
        "fused SGD alone, one vector": (vector, True, lambda inner, _: inner),
        OURS: (vector, True, lambda inner, _: Lookahead(inner, K, ALPHA)),
    }
    versions = {}
    for name, (shape, fused, wrap) in plans.items():
        parameters = shape()
        versions[name] = (wrap(SGD(parameters, fused=fused, **SETTINGS), parameters), parameters)
    return versions


def find_peers() -> dict[str, Callable]:
    """name -> wrapper of (inner, parameters): what is installed, and the authors' file."""
    wrappers = {}
    if importlib.util.find_spec("pytorch_optimizer"):
        from pytorch_optimizer import Lookahead as Packaged

        wrappers["pytorch_optimizer on SGD"] = lambda inner, _: Packaged(inner, k=K, alpha=ALPHA)
    authors = peers.load_authors("lookahead_pytorch")
    if authors is not None:
        wrappers["the authors' file on SGD"] = lambda inner, _: authors.Lookahead(
            inner, la_steps=K, la_alpha=ALPHA
        )
    return wrappers


def step_twice(versions: dict) -> dict[str, np.ndarray]:
    """Weights after two cycles of every version that looks ahead."""
    for optimizer, _ in versions.values():
        make_cycle(optimizer)()
        make_cycle(optimizer)()
    return {
        name: flatten(parameters).numpy()
        for name, (_, parameters) in versions.items()
        if "alone" not in name
    }


def make_cycle(optimizer) -> harness.Job:
    """A job: K steps with the gradients that are there."""
    return lambda: [optimizer.step() for _ in range(K)]
