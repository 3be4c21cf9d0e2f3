"""Beyond the source: the loss after a cool-down, foretold at any time of a run from the average that
runs along with it.

    avg_T    mean of theta_{T-k+1} .. theta_T, or an exponential moving average
    cooled   from theta_T over k steps, the rate falling to 0 in a straight line: Table 1's schedule
    L(cooled) ~ L(avg_T)        or, where the loss still falls, 2 L(avg_T) - L(avg_{T-k})

By Table 1 an average stands for a cool-down that begins with its window; here the cool-down begins
where the window ends, as whoever trains has to foretell it. The mean of k iterates lies k/2 steps
behind and a straight cool-down goes k/2 steps on, so what the loss falls in k steps is missing:
what it fell from the window before to this one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, training
from replicate.progress import progress
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("raw", "short average", "average", "moving average", "extrapolated", "cooled")
SHARES_OF_RUN = {
    "1/24": 1 / 24,
    "1/6": 1 / 6,
    "1/2": 1 / 2,
    "1": 1.0,
}  # ours; of the first branch point
LOSSES_AND_TOP1 = ("train_loss", "test_loss", "top1")


def plan(settings: Settings) -> dict[str, tuple[int, list[int]]]:
    """Time -> (its step T, windows k): of SWA in Figure 5 those of at most 1000 steps, as the paper's,
    that fit in twice before T.
    """
    looks, longest = {}, max(_trips.TRIP_LOOKS)
    for time, share in SHARES_OF_RUN.items():
        step = round(share * settings.first_branch)
        if fitting := sorted(k for k in settings.swa if k <= min(longest, step // 2)):
            looks[time] = step, fitting
    return looks


def operations(settings: Settings) -> float:
    """Multiplications and additions of the run, its cool-downs and what is evaluated at each time."""
    looks = plan(settings).values()
    steps = settings.first_branch + sum(k for _, windows in looks for k in windows)
    rows = sum(2 + 4 * len(windows) for _, windows in looks)
    each = _branches.count_training(settings, steps) + _branches.count_evaluation(settings, rows)
    return _trips.count_seeds(settings) * each


@experiment(
    unbounded=("top1",),  # twice an accuracy less another one may lie above 1
    fields={"arm": ARMS, "time": tuple(SHARES_OF_RUN), "k": lambda settings: set(settings.swa)},
    metrics=(*LOSSES_AND_TOP1, "error"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(46, "the loss after a cool-down, foretold by an average")},
)
def cooldowns(settings: Settings) -> pd.DataFrame:
    """What a run's averages foretell of its cool-downs, at several times and windows.

    Columns: seed, time (share of the run up to the first branch point), step, k (steps of window and
    cool-down), arm, train_loss and test_loss (nats), top1 (fraction), error (of training loss,
    nats, from the cool-down's). Arms: raw (the weights at that time), short average (of the shortest
    window), average (of the last k), moving average (exponential, delta = 5/k), extrapolated (twice the
    average's losses less those of the k before), cooled (after k more steps of a straight cool-down on
    the run's own next mini-batches).
    """
    return _trips.run_each(foretell_cooldowns, settings).table


def foretell_cooldowns(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The run of one seed, looked at and cooled down at every time."""
    main = _branches.Main.load(settings, point["seed"], device)
    looks = plan(settings)
    begins = {time: step - 2 * max(windows) for time, (step, windows) in looks.items()}
    stops = sorted({*begins.values(), *(step for step, _ in looks.values())})
    state, metrics, along, tables = main.state(), main.evaluator(), {}, []
    for stop in progress(stops, "cool-downs"):
        state = replace(state, averages=tuple(along.values()))
        state, _ = training.advance(state, main.data, main.rate, main.seed, MAIN, stop)
        for time, (step, windows) in looks.items():
            if begins[time] == stop:
                kernels = list_kernels(windows)
                along[time] = averaging.KernelAverages(kernels, training.flat_weights(state.model))
            if step == stop:
                rows = _look(main, state, metrics, along.pop(time), windows)
                tables.append(rows.assign(time=time, step=step))
    return pd.concat(tables, ignore_index=True)


def list_kernels(windows: list[int]) -> dict[str, np.ndarray]:
    """Kernels by name and k, all over twice the longest window, at whose end each of them ends."""
    whole = 2 * max(windows)
    kernels = {}
    for k in windows:
        early = np.zeros(whole - 2 * k)
        kernels[f"average k={k}"] = np.concatenate([early, np.zeros(k), averaging.swa(k)])
        kernels[f"before k={k}"] = np.concatenate([early, averaging.swa(k), np.zeros(k)])
        kernels[f"moving average k={k}"] = averaging.ema(whole, min(1.0, 5 / k))
    return kernels


def _look(
    main: _branches.Main,
    state: training.State,
    metrics: training.Evaluator,
    averages: averaging.KernelAverages,
    windows: list[int],
) -> pd.DataFrame:
    """The rows of one time."""

    def measure(weights) -> pd.Series:
        return pd.Series(metrics(weights.to(main.device)))[list(LOSSES_AND_TOP1)]

    raw, tables = measure(training.flat_weights(state.model)), []
    short = measure(averages[f"average k={windows[0]}"])
    for k in windows:
        average, before, moving = (
            measure(averages[f"{name} k={k}"]) for name in ("average", "before", "moving average")
        )
        falling = averaging.equivalent_schedule(main.rate, averaging.swa(k), state.step)
        end = training.branch(state, main.data, falling, main.seed, MAIN, state.step + k)
        cooled = measure(training.flat_weights(end.model))
        points = (raw, short, average, moving, 2 * average - before, cooled)
        rows = pd.DataFrame(points, index=pd.Index(ARMS, name="arm")).reset_index().assign(k=k)
        tables.append(rows.assign(error=(rows.train_loss - cooled.train_loss).abs()))
    return pd.concat(tables)
