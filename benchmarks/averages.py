"""Goal C3: 8 and 32 running averages against a loop over tensors and against AveragedModel.

Ours are exponential averages too, as kernels, in a ring with one product every 16 steps. All see
the same iterates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import harness, peers
from benchmarks.inputs import CLASSES
from replicate import models
from replicate.averaging import KernelAverages, ema
from replicate.training import Flat, flat_weights

STEPS = 16  # of a round
LOOP = "a loop over tensors"
MODELS = "AveragedModel, one each"
OURS = "ring and product"
LOOP_GOALS = {8: "C3 8 averages", 32: "C3 32 averages"}


@dataclass(frozen=True)
class Size:
    """network: whose weights are averaged."""

    network: str = "resnet18"
    rounds: int = 5


FULL = Size()
TINY = Size("resnet8", rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """Eight averages, then 32."""
    for count in LOOP_GOALS:
        versions = make_versions(size, count)
        goals = {LOOP_GOALS[count]: (LOOP, OURS)}
        if MODELS in versions:
            goals["C3 8 averaged models"] = (MODELS, OURS)
        yield harness.compare(
            harness.Comparison(
                f"{count} averages, {STEPS} steps, {size.network}",
                {name: make_job(averages) for name, averages in versions.items()},
                lambda count=count: average_moving_weights(size, count),
                (1e-5, 1e-6),
                goals,
                size.rounds,
                is_stated=size == FULL,
            )
        )


class Ring:
    """Ours: a window of as many steps as the benchmark makes, so that it never ends."""

    def __init__(self, model: Flat, deltas: list[float], steps: int):
        self.live = model.weights.detach()
        kernels = {str(i): ema(steps, delta) for i, delta in enumerate(deltas)}
        self.averages = KernelAverages(kernels, self.live)

    def update(self) -> None:
        """Take in the weights as they are."""
        self.averages.update(self.live)


def list_deltas(count: int) -> list[float]:
    """What each average takes of a new iterate."""
    return [0.5 / (1 + i) for i in range(count)]


def make_versions(size: Size, count: int) -> dict[str, object]:
    """name -> averages of weights that stand still; the last one is ours."""
    deltas = list_deltas(count)
    build = getattr(models, size.network)
    versions = {LOOP: peers.LoopAverages(build(CLASSES, 0), deltas)}
    if count == 8:
        versions[MODELS] = peers.ModelAverages(build(CLASSES, 0), deltas)
    versions[OURS] = Ring(Flat(build(CLASSES, 0)), deltas, STEPS * (size.rounds + 2))
    return versions


def average_moving_weights(size: Size, count: int) -> dict[str, np.ndarray]:
    """The averages of every version after STEPS iterates that move; torch's for the first two."""
    model = getattr(models, size.network)(CLASSES, seed=0)
    flat = Flat(getattr(models, size.network)(CLASSES, seed=0))
    deltas = list_deltas(count)
    loop = peers.LoopAverages(model, deltas)
    averaged = peers.ModelAverages(model, deltas[:2])
    ring = Ring(flat, deltas, STEPS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        move(model, flat, 1e-3 * torch.randn(len(flat.weights), generator=generator))
        for version in (loop, averaged, ring):
            version.update()
    of_loop = [torch.cat([mean.reshape(-1) for mean in means]) for _, means in loop.averages]
    of_ring = [ring.averages[str(i)].float() for i in range(count)]
    of_models = [flat_weights(average.module) for average in averaged.averages] + of_ring[2:]
    lists = {LOOP: of_loop, MODELS: of_models, OURS: of_ring}
    return {name: torch.stack(vectors).numpy() for name, vectors in lists.items()}


@torch.no_grad()
def move(model: torch.nn.Module, flat: Flat, step: torch.Tensor) -> None:
    """Add the same step to the weights of both."""
    flat.weights.add_(step)
    parameters = list(model.parameters())
    for p, of_tensor in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
        p.add_(of_tensor.view(p.shape))


def make_job(averages) -> harness.Job:
    """A job: STEPS updates."""
    return lambda: [averages.update() for _ in range(STEPS)]
