"""The Hessian of the training loss on fixed draws, as Lanczos and a trace need it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from replicate import curvature, training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS
from replicate.sources.sandler2023trajectories import _branches
from replicate.streams import rng

TOGETHER = 512  # images of one forward pass, which BatchNorm normalises together
FIRST_VECTORS = DRAWS + 5  # stream of random directions


def make_surface(main: _branches.Main) -> training.Surface:
    """The loss on as many draws as the settings say, the same for every seed and weight vector."""
    images, labels = main.data.draws(0, DRAWS, main.settings.hessian_images)
    batches = list(zip(images.split(TOGETHER), labels.split(TOGETHER), strict=True))
    return training.Surface(kit.network(main.settings, 0, main.images, main.device), batches)


def find_directions(main: _branches.Main, weights, steps: int) -> curvature.Spectrum:
    """Lanczos' largest eigenvalues and their vectors at weights (parameters,)."""
    product = partial(make_surface(main).product, weights)
    return curvature.lanczos(product, weights.new_tensor(_draw(main.seed, 0, len(weights))), steps)


def estimate_trace(product: Callable, weights, seed: int, probes: int) -> float:
    """mean over random vectors z of z . H z, whose entries are -1 or 1 (Hutchinson 1990).

    The same vectors for every weight vector of a seed, so that what differs is the Hessian.
    """
    total = 0.0
    for probe in range(probes):
        z = weights.new_tensor(_draw(seed, probe + 1, len(weights))).sign()
        total += float((z.double() @ product(z).double()))
    return total / probes


def _draw(seed: int, index: int, count: int):
    return rng(seed, "eval", index, FIRST_VECTORS).standard_normal(count)
