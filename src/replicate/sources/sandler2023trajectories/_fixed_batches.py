"""Weights at stages of a main run, and losses on fixed mini-batches at any weights.

The paper does not say how BatchNorm normalises where it measures. Both ways are here: "batch", each
mini-batch by itself as in training, so that loss and gradient are those of one function; and
"re-estimated", evaluation mode with the statistics of other mini-batches at the same weights. A
gradient is a training step's either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, runs, training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories._batch_settings import BatchSettings
from replicate.sources.sandler2023trajectories._step_curves import find_minimiser

NORMALISED = ("batch", "re-estimated")
FIXED_STREAM = DRAWS + 2  # stream of the fixed mini-batches; nobody trains on it
STAGES = "stages.ckpt"
Losses = Callable[[object], tuple[float, np.ndarray]]  # weights -> own loss, losses held out


def run_stages(settings: BatchSettings) -> runs.Runs:
    """A run a seed that leaves the weights at every stage, of main runs that `figure_5` shares."""
    grid = [{"seed": seed} for seed in settings.seeds]
    main = runs.each(_branches.main_run, settings.main_run, grid)
    return runs.each(leave_stages, settings, grid, after=main)


def leave_stages(
    settings: BatchSettings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One file of weights by stage, with those at the start and those of the run cooled down.

    Stages before the first branch point are trained once more; "late" and "later" are the last two
    branch points. "cooled" goes on from the latter for the longest window while the rate falls to 0.
    Returns stage and step.
    """
    main = _branches.Main.load(settings.main_run, point["seed"], device)
    state = main.state()
    weights = {"start": training.flat_weights(state.model)}
    for step in sorted(settings.early):
        state, _ = training.advance(state, main.data, main.rate, main.seed, MAIN, step)
        weights[f"step {step}"] = training.flat_weights(state.model)
    steps = [0, *sorted(settings.early), *settings.starts[-2:]]
    for name, branch in zip(("late", "later"), range(settings.branches)[-2:], strict=True):
        state = main.resume(parents[0] / f"branch-{branch}.ckpt")
        weights[name] = training.flat_weights(state.model)
    end = state.step + settings.longest
    to_zero = averaging.equivalent_schedule(main.rate, averaging.swa(settings.longest), state.step)
    cooled = training.branch(state, main.data, to_zero, main.seed, MAIN, end)
    weights["cooled"] = training.flat_weights(cooled.model)
    training.save_tensor_file(folder / STAGES, weights)
    return pd.DataFrame({"stage": list(weights), "step": [*steps, end]})


@dataclass(frozen=True, eq=False)
class Bench:
    """Where losses are measured: one seed's weights by stage, a network in single precision to put
    them into, and mini-batches that no run has trained on.

    images: those in reserve never meet those of a batch.
    """

    settings: BatchSettings
    main: _branches.Main
    images: datasets.HeldOut
    stages: dict

    @classmethod
    def load(cls, settings: BatchSettings, seed: int, folder: Path, device: str) -> Bench:
        """folder: of this seed's `leave_stages`. Raises Missing if the data set is not there."""
        main = _branches.Main.load(replace(settings.main_run, precision="float32"), seed, device)
        images = datasets.HeldOut(main.data, seed, FIXED_STREAM, settings.held_out)
        stages, _ = training.load_tensor_file(folder / STAGES)
        return cls(settings, main, images, {name: w.to(device) for name, w in stages.items()})

    @cached_property
    def network(self):
        """A network for whoever asks to put weights into."""
        return kit.network(self.main.settings, 0, self.main.images, self.main.device)

    def surface(self, batch: tuple) -> training.Surface:
        """Loss and gradient of a batch of any size: the mean over mini-batches of the size that the
        run trains with, each normalised by itself, as it is accumulated in training.
        """
        images, labels = batch
        size = self.settings.batch
        chunks = list(zip(images.split(size), labels.split(size), strict=True))
        return training.Surface(self.network, chunks)

    def find_step(self, surface: training.Surface, weights) -> tuple:
        """The gradient of a batch, (d,), and the size of the step along it that is best for its
        loss, each mini-batch normalised by itself.
        """
        gradient = surface.gradient(weights)
        # Momentum makes a step of the run this long, in the long run.
        guess = self.settings.lr / (1 - self.settings.momentum)
        start = surface.loss(weights)
        step = find_minimiser(lambda e: surface.loss(weights - e * gradient), start, guess)
        return gradient, step

    @cached_property
    def reserve(self) -> list[tuple]:
        """The held-out batches, the same for all weights of a seed."""
        size = self.settings.held_batch
        return [self.images.draw_reserved(size, j) for j in range(self.settings.held_batches)]

    def losses(self, norm: str, batch: tuple) -> Losses:
        """A function from weights to the loss of a batch, and those of every held-out batch."""
        return {NORMALISED[0]: self._normalise_each, NORMALISED[1]: self._re_estimate}[norm](batch)

    def _normalise_each(self, batch: tuple) -> Losses:
        surfaces = [self.surface(each) for each in (batch, *self.reserve)]

        def losses(weights):
            first, *rest = (surface.loss(weights) for surface in surfaces)
            return first, np.array(rest)

        return losses

    def _re_estimate(self, batch: tuple) -> Losses:
        sets = {str(place): each for place, each in enumerate((batch, *self.reserve))}
        data = self.main.data
        norm = kit.norm_batches(data, self.settings.batch, self.settings.estimate_batches)
        evaluator = kit.evaluator(self.network, sets, norm)

        def losses(weights):
            values = evaluator(weights)
            first, *rest = (values[f"{name}_loss"] for name in sets)
            return first, np.array(rest)

        return losses

    def norms(self, place: int) -> tuple[str, ...]:
        """How the draw at a place is looked at: re-estimated too among the first ones."""
        return NORMALISED if place < self.settings.estimated else NORMALISED[:1]


def count_stages(settings: BatchSettings) -> float:
    """Multiplications and additions of the early stages and the cool-down of one seed; the main run
    is that of `figure_5`.
    """
    return _branches.count_training(settings, max(settings.early) + settings.longest)


def count_looks(settings: BatchSettings, size: int, estimated: int) -> float:
    """Multiplications and additions of one look at a batch and the held-out ones, and of a share
    `estimated` of looks with BatchNorm re-estimated.
    """
    forward, _ = kit.operations_per_image(settings, settings.dataset)
    images = size + settings.held_batches * settings.held_batch
    return forward * (images + estimated * (images + settings.estimate_batches * settings.batch))
