"""Trips that leave the last branch point of a main run and are looked at on the way (Figures 6, 7).

The last one, since the paper leaves at step 75 000 of 100 000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from replicate import runs, training
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories.settings import Settings

TRIP_LOOKS = (10, 30, 100, 300, 1000)  # steps of a trip; the paper draws curves over 1000
MOST_SEEDS = 8  # ours; a firm word takes 5
PRODUCT_COST = 3  # gradients' work in a Hessian product, about


def first_seeds(settings: Settings) -> tuple[int, ...]:
    """The seeds of what is measured on few of them."""
    return settings.seeds[:MOST_SEEDS]


def count_seeds(settings: Settings) -> int:
    """How many these are."""
    return len(first_seeds(settings))


def looks(settings: Settings, longest: int) -> list[int]:
    """The steps at which a trip of at most `longest` steps is looked at, its end included."""
    end = min(longest, max(settings.two_point))
    return sorted({*(k for k in TRIP_LOOKS if k < end), end})


def run_main(settings: Settings) -> runs.Runs:
    """The main runs of the first seeds, which are those of `figure_5`."""
    return runs.each(_branches.main_run, settings, [{"seed": s} for s in first_seeds(settings)])


def run_each(run: Callable, settings: Settings, after: runs.Runs | None = None) -> runs.Runs:
    """A run for each of the first seeds."""
    return runs.each(run, settings, [{"seed": s} for s in first_seeds(settings)], after=after)


def load_last_branch(
    settings: Settings, seed: int, parents: list[Path], device: str
) -> tuple[_branches.Main, training.State, dict]:
    """The main run, its state at the last branch point, and its ends: raw weights and averages by
    name.
    """
    main = _branches.Main.load(settings, seed, device)
    name = f"branch-{settings.branches - 1}"
    ends, _ = training.load_tensor_file(parents[0] / f"{name}-ends.ckpt")
    return main, main.resume(parents[0] / f"{name}.ckpt"), ends


def walk(
    main: _branches.Main,
    start: training.State,
    rate: Callable[[int], float],
    stream: int,
    stops: Iterable[int],
) -> Iterator[tuple[int, object]]:
    """(k, weights after k steps, (parameters,)) of a trip under a schedule, for each of the stops.

    stops: ascending; 0 is the start itself, which stays as it was.
    """
    state = training.branch(start, main.data, rate, main.seed, stream, start.step)
    for k in stops:
        state, _ = training.advance(state, main.data, rate, main.seed, stream, start.step + k)
        yield k, training.flat_weights(state.model)
