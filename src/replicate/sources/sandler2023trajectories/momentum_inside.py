"""Ours, on Table 1: side-trips where the rate multiplies inside the momentum buffer, as in Keras.

    outside, torch:  v_t = beta v_{t-1} + g_t              theta_{t+1} = theta_t - lambda_t v_t
    inside, Keras:   u_t = beta u_{t-1} - lambda_t g_t     theta_{t+1} = theta_t + u_t

At a constant rate both are the same run, u = -lambda v, so one main run serves both. The exact case
is in `table_1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, training
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.figure_5 import METRICS
from replicate.sources.sandler2023trajectories.settings import Settings

KERNELS_HERE = ("two-point", "swa")  # the two with windows of 10, 100 and 1000 steps in Fig. 5
TRIPS_HERE = ("outside", "inside", "inside, corrected", "inside, buffer as it was")
ARMS = ("raw", "average", *TRIPS_HERE)


def windows(settings: Settings) -> list[tuple[str, int]]:
    """(kernel, k) of every window."""
    every = _branches.windows(settings)
    return [(name, k) for name, k in every if name in KERNELS_HERE and k <= max(_trips.TRIP_LOOKS)]


def ks(settings: Settings) -> set[int]:
    """The lengths of the windows."""
    return {k for _, k in windows(settings)}


def operations(settings: Settings) -> float:
    """Multiplications and additions of a trip for every arm and window, and of what is evaluated."""
    pairs = windows(settings)
    steps = len(TRIPS_HERE) * sum(k for _, k in pairs)
    points = _branches.count_evaluation(settings, len(ARMS) * len(pairs))
    each = _branches.count_training(settings, steps) + points
    return _trips.count_seeds(settings) * each


@experiment(
    fields={"arm": ARMS, "kernel": KERNELS_HERE, "k": ks},
    metrics=(*METRICS[:4], "to_average", "travelled"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(36, "Table 1 with the rate inside the momentum buffer")},
)
def momentum_inside(settings: Settings) -> pd.DataFrame:
    """Ends of side-trips under both conventions, from the last branch point of each of the first
    seeds.

    Columns: seed, kernel, k, arm, to_average and travelled (Euclidean: |weights - average|,
    |average - start|), and the losses and accuracies of `figure_5`. Arms: raw, average, outside and
    inside (Table 1's schedule, buffer inherited as it is), inside, corrected (the schedule and the
    buffer's factor of `averaging.inside_weights`), inside, buffer as it was (that schedule alone).
    """
    return _trips.run_each(trip_inside, settings, after=_trips.run_main(settings)).table


def trip_inside(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every side-trip of one seed."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    origin, metrics, rows = training.flat_weights(start.model), main.evaluator(), []
    for name, k in windows(settings):
        average = ends[f"{name} k={k}"].to(device)
        points = {"raw": ends[f"raw k={k}"].to(device), "average": average}
        points |= dict(_take_trips(main, start, _branches.kernel(name, k)))
        for arm in ARMS:
            apart = {
                "to_average": training.distance(points[arm], average),
                "travelled": training.distance(average, origin),
            }
            rows.append({"kernel": name, "k": k, "arm": arm, **metrics(points[arm]), **apart})
    return pd.DataFrame(rows)


def _take_trips(
    main: _branches.Main, start: training.State, mu: np.ndarray
) -> Iterator[tuple[str, object]]:
    """(arm, weights at its end) of every side-trip of a kernel."""
    k, beta = len(mu) - 1, main.settings.momentum
    table_1 = averaging.equivalent_schedule(main.rate, mu, start.step)
    ((_, outside),) = _trips.walk(main, start, table_1, MAIN, [k])
    yield TRIPS_HERE[0], outside
    corrected = averaging.equivalent_schedule(main.rate, mu, start.step, beta, "keras")
    factor = averaging.buffer_factor(mu, beta, "keras")
    for arm, rate, inherited in (
        (TRIPS_HERE[1], table_1, 1.0),
        (TRIPS_HERE[2], corrected, factor),
        (TRIPS_HERE[3], corrected, 1.0),
    ):
        yield arm, _walk_inside(main, start, rate, k, inherited)


def _walk_inside(
    main: _branches.Main,
    start: training.State,
    rate: Callable[[int], float],
    k: int,
    inherited: float,
):
    """The weights after k steps inside; `inherited`: the factor on the buffer u at the start.

    u_t = -lambda_t v'_t with v'_t = beta (lambda_{t-1} / lambda_t) v'_{t-1} + g_t: torch's step,
    after the buffer was scaled by the ratio of two rates.
    """
    state = training.branch(start, main.data, main.rate, main.seed, MAIN, start.step)
    before = main.rate(start.step - 1) * inherited
    for step in range(start.step, start.step + k):
        _scale_buffers(state.optimizer, before / rate(step))
        before = rate(step)
        state, _ = training.advance(state, main.data, rate, main.seed, MAIN, step + 1)
    return training.flat_weights(state.model)


def _scale_buffers(optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"].mul_(factor)
