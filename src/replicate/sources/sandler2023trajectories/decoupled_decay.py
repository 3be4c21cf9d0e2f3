"""Ours, on Table 1: averages and side-trips of AdamW, whose weight decay is no part of the gradient.

    theta_{t+1} = (1 - lambda_t d) theta_t - lambda_t u_t

The direction u_t does not depend on the rate, so that Table 1 would be as exact as for SGD; but the
decay shrinks a side-trip less, as its rate is smaller. `averaging.equivalent_schedule(decay=d)` is
the schedule that is exact where the u_t are known, which `frozen_updates` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from replicate import averaging, optim, training
from replicate.sources import images as kit
from replicate.sources.images import MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.figure_5 import METRICS
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.training import schedules

RATE = 1e-3  # Adam's default (Kingma and Ba 2015, algorithm 1)
DECAY = 0.1  # ours: large enough for a window of 1000 steps to feel it, lambda d k = 0.1
KERNELS_OF_ADAMW = ("two-point", "swa", "ema")
TRIPS_OF_ADAMW = ("side-trip", "table-1", "constant-rate")
ARMS = ("raw", "average", *TRIPS_OF_ADAMW)


def windows(settings: Settings) -> list[tuple[str, int]]:
    """(kernel, k) of every window but the shortest, of 10 steps, which is too short for the decay."""
    every = _branches.windows(settings)
    shortest = min(k for _, k in every)
    return [(name, k) for name, k in every if shortest < k <= max(_trips.TRIP_LOOKS)]


def ks(settings: Settings) -> set[int]:
    """The lengths of the windows."""
    return {k for _, k in windows(settings)}


def burn_in(settings: Settings) -> int:
    """Steps before the windows: half as many as before the first branch point of SGD."""
    return settings.first_branch // 2


def operations(settings: Settings) -> float:
    """Multiplications and additions of the run, of two trips for every window, of the control."""
    pairs, lengths = windows(settings), ks(settings)
    steps = burn_in(settings) + 2 * max(lengths) + 2 * sum(k for _, k in pairs)
    points = _branches.count_evaluation(settings, 3 * len(pairs) + 2 * len(lengths))
    return _trips.count_seeds(settings) * (_branches.count_training(settings, steps) + points)


@experiment(
    fields={"arm": ARMS, "kernel": KERNELS_OF_ADAMW, "k": ks},
    metrics=(*METRICS[:4], "to_average", "travelled"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(34, "Table 1 for AdamW")},
)
def decoupled_decay(settings: Settings) -> pd.DataFrame:
    """Averages and side-trips of AdamW at a constant rate, one branch point for each of the first
    seeds.

    Columns: seed, kernel, k, arm, to_average and travelled (Euclidean: |weights - average|,
    |average - start|), and the losses and accuracies of `figure_5`. Arms: raw, average, side-trip
    (the schedule that allows for the decay), table-1 (that of Table 1), constant-rate (the main
    schedule on other mini-batches); raw and constant-rate have no kernel.
    """
    return _trips.run_each(train_adamw, settings).table


def train_adamw(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The run of one seed, with every average and side-trip."""
    main = _branches.Main.load(settings, point["seed"], device)
    rate = schedules.warmup(schedules.constant(RATE), settings.warmup)
    start, _ = training.advance(_begin(main), main.data, rate, main.seed, MAIN, burn_in(settings))
    origin, metrics, rows = training.flat_weights(start.model), main.evaluator(), []
    averages, raw = _average_windows(main, start, rate)
    for arm, name, k, weights in _compare(main, start, rate, averages, raw):
        average = averages[f"{name} k={k}"] if name else origin
        apart = {
            "to_average": training.distance(weights, average),
            "travelled": training.distance(average, origin),
        }
        rows.append({"kernel": name, "k": k, "arm": arm, **metrics(weights), **apart})
    return pd.DataFrame(rows)


def _begin(main: _branches.Main) -> training.State:
    model = kit.network(main.settings, main.seed, main.images, main.device)
    return training.State(model, optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY))


def _average_windows(main: _branches.Main, start: training.State, rate: Callable):
    """The averages over every window, and the raw weights at the end of each, by k."""
    kernels = {f"{name} k={k}": _branches.kernel(name, k) for name, k in windows(main.settings)}
    averages = averaging.KernelAverages(kernels, training.flat_weights(start.model))
    state = training.branch(start, main.data, rate, main.seed, MAIN, start.step)
    state, raw = replace(state, averages=(averages,)), {}
    for k in sorted(ks(main.settings)):
        state, _ = training.advance(state, main.data, rate, main.seed, MAIN, start.step + k)
        raw[k] = training.flat_weights(state.model)
    return averages, raw


def _compare(
    main: _branches.Main, start: training.State, rate: Callable, averages, raw: dict
) -> Iterator[tuple]:
    """(arm, kernel, k, weights) of every row."""
    lengths = sorted(ks(main.settings))
    yield from (("raw", "", k, raw[k]) for k in lengths)
    for k, weights in _trips.walk(main, start, rate, OTHER, lengths):
        yield "constant-rate", "", k, weights
    for name, k in windows(main.settings):
        mu = _branches.kernel(name, k)
        yield "average", name, k, averages[f"{name} k={k}"].to(main.device)
        for arm, decay in (("side-trip", DECAY), ("table-1", 0.0)):
            trip = averaging.equivalent_schedule(rate, mu, start.step, decay=decay)
            ((_, weights),) = _trips.walk(main, start, trip, MAIN, [k])
            yield arm, name, k, weights
