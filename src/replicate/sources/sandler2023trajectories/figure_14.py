"""Figure 14, bottom: averages and side-trips where the main run follows a cosine.

    lambda(i) = lambda_max (1 + cos(pi i / T)) / 2,   side-trip: lambda(i) w_{i - start}

w: tail sums of the kernel of SWA. Its top row, a constant rate, is in `figure_5`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from replicate import averaging, runs, training
from replicate.progress import pieces
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.figure_5 import METRICS
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.training import schedules

PEAK = 4  # times the constant rate: 0.2 where that is 0.05, linear scaling of 0.1 for batches of 256; the paper is silent
LEAVES = (1 / 2, 3 / 4)  # of the run, where side-trips leave; Fig. 14 shows several
ARMS = ("raw", "average", "side-trip", "half-rate")


def length(settings: Settings) -> int:
    """Steps of the run, T: it leaves its first branch point half way, as do the main runs at a
    constant rate, about.
    """
    return 2 * settings.first_branch


def windows(settings: Settings) -> list[int]:
    """The windows of SWA that fit between two side-trips."""
    room = round(length(settings) * (LEAVES[1] - LEAVES[0]))
    return [k for k in settings.swa if k <= min(room, max(_trips.TRIP_LOOKS))]


def operations(settings: Settings) -> float:
    """Multiplications and additions of the run, the side-trips and what is evaluated."""
    ks = windows(settings)
    steps = 2 * max(ks) + sum(ks)  # the run once more, half the rate, and a trip a window
    points = _branches.count_evaluation(settings, len(ARMS) * len(ks))
    trips = len(LEAVES) * (_branches.count_training(settings, steps) + points)
    run = _branches.count_training(settings, length(settings))
    return _trips.count_seeds(settings) * (run + trips)


@experiment(
    fields={"arm": ARMS, "k": windows},
    metrics=(*METRICS[:4], "apart"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(44, "Figure 14, bottom: the main run follows a cosine")},
)
def figure_14(settings: Settings) -> pd.DataFrame:
    """SWA and its side-trips from a run whose rate follows a cosine (Fig. 14, bottom).

    Columns: seed, branch, start (step), kernel, k, arm, rate (the main run's at the start), apart
    (Euclidean distance to the average), and the losses and accuracies of `figure_5`. Arms: raw (the
    window's end), average, side-trip, half-rate (the schedule of another row of Table 1).
    """
    main = _trips.run_each(run_cosine, settings)
    seeds = _trips.first_seeds(settings)
    grid = [{"seed": seed, "branch": branch} for seed in seeds for branch in range(len(LEAVES))]
    return runs.each(leave_cosine, settings, grid, after=main).table


def run_cosine(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Train once at the cosine, and leave the states from which side-trips set out.

    Returns the losses and accuracies at the end. A run that was stopped goes on from its newest
    checkpoint.
    """
    main, rate = _branches.Main.load(settings, point["seed"], device), cosine(settings)
    name = f"{folder.parent.name} {folder.name}"
    checkpoints = training.Checkpoints(folder / "checkpoints", name)
    state, newest = main.state(), checkpoints.newest()
    if newest is not None:
        state = checkpoints.load(newest, state)
    for stop in pieces(_stops(settings, state.step), lambda: checkpoints.save(state, {})):
        state, _ = training.advance(state, main.data, rate, main.seed, MAIN, stop)
        if stop in _starts(settings):
            training.save_state(folder / f"step-{stop}.ckpt", state)
    return pd.DataFrame([main.evaluator()(training.flat_weights(state.model))])


def cosine(settings: Settings) -> Callable[[int], float]:
    """The main run's schedule, with the warm-up of the constant one."""
    falling = schedules.cosine(PEAK * settings.lr, length(settings))
    return schedules.warmup(falling, settings.warmup)


def _starts(settings: Settings) -> list[int]:
    return [round(share * length(settings)) for share in LEAVES]


def _stops(settings: Settings, begun: int) -> list[int]:
    """The steps after `begun` at which the run saves something, or may."""
    every = range(0, length(settings), _branches.LOG_EVERY)
    return sorted(stop for stop in {*every, *_starts(settings), length(settings)} if stop > begun)


def leave_cosine(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The side-trips from one of the points, and the averages over the same windows."""
    main, rate = _branches.Main.load(settings, point["seed"], device), cosine(settings)
    start = main.resume(parents[0] / f"step-{_starts(settings)[point['branch']]}.ckpt")
    ks, metrics = windows(settings), main.evaluator()
    kernels = {f"swa k={k}": averaging.swa(k) for k in ks}
    averages = averaging.KernelAverages(kernels, training.flat_weights(start.model))
    told = replace(start, averages=(averages,))
    raw = dict(_walk_told(main, told, rate, ks))
    half = dict(_trips.walk(main, start, lambda step: rate(step) / 2, MAIN, ks))
    rows = []
    for k in ks:
        trip = averaging.equivalent_schedule(rate, kernels[f"swa k={k}"], start.step)
        ((_, side),) = _trips.walk(main, start, trip, MAIN, [k])
        average = averages[f"swa k={k}"].to(device)
        for arm, weights in zip(ARMS, (raw[k], average, side, half[k]), strict=True):
            apart = {"apart": training.distance(weights, average)}
            rows.append({"k": k, "arm": arm, **metrics(weights), **apart})
    return pd.DataFrame(rows).assign(kernel="swa", start=start.step, rate=rate(start.step))


def _walk_told(main: _branches.Main, start: training.State, rate, ks: list[int]):
    """As `_trips.walk`, with the state's averages told of every iterate."""
    state = training.branch(
        start, main.data, rate, main.seed, MAIN, start.step, averages=start.averages
    )
    for k in ks:
        state, _ = training.advance(state, main.data, rate, main.seed, MAIN, start.step + k)
        yield k, training.flat_weights(state.model)
