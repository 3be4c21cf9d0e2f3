"""Figure 5: averages over windows of a main run, and the side-trips whose schedules should lead to
the same loss.

Windows are anchored at their start, the branch point: a side-trip of k steps and the average over
the main run's next k steps begin at the same weights and momentum. Every weight vector is evaluated
on the same images, after BatchNorm was re-estimated on the same batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from replicate import averaging, runs, training
from replicate.progress import pieces
from replicate.sources.images import MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories._branches import kernel, windows
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("start", "raw", "average", "side-trip", "other-batches", "constant-rate")
KERNELS = ("two-point", "swa", "ema")
METRICS = ("train_loss", "train_top1", "test_loss", "top1", "to_average", "travelled")


def operations(settings: Settings) -> float:
    """Multiplications and additions of main runs, side-trips, controls, and the evaluation of every
    weight vector.
    """
    every = windows(settings)
    controlled = [(name, k) for name, k in every if k in settings.controls]
    marks = {1, *(k for _, k in every)}
    rows = 2 + len(marks) + 2 * len(every) + len(controlled) + len(settings.controls)
    steps = _trip_steps(every) + _trip_steps(controlled) + max(settings.controls, default=0)
    main = _branches.count_training(settings, settings.steps)
    per_branch = _branches.count_training(settings, steps) + _branches.count_evaluation(
        settings, rows
    )
    return len(settings.seeds) * (main + settings.branches * per_branch)


def _trip_steps(windows: list[tuple[str, int]]) -> int:
    """The windows of two points are prefixes of one trip; each of the others is a trip of its own."""
    longest = max((k for name, k in windows if name == "two-point"), default=0)
    return longest + sum(k for name, k in windows if name != "two-point")


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged: the start of a window is the same for every window."""
    return table.assign(k=table.k.where(table.arm != "start"))


def ks(settings: Settings) -> set[int]:
    """The lengths of the windows."""
    return {1, *(k for _, k in windows(settings))}


@experiment(
    fields={"arm": ARMS, "kernel": KERNELS, "k": ks},
    metrics=METRICS,
    datasets=("digits", "cifar10", "cifar10-1000", "cifar10-resnet34", "cifar100", "imagenet"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={
        "cifar10": Evidence(80, "Figure 5: all kernels and controls, ResNet-18"),
        "cifar10-resnet34": Evidence(30, "Figure 5, ResNet-34"),
        "cifar100": Evidence(20, "Figure 10's other half"),
    },
    night={
        "cifar10": Evidence(90, "Figure 5 up to 300 steps, ResNet-8"),
        "cifar10-1000": Evidence(84, "Figure 5 over 1000 steps; its runs are the spectrum's too"),
        "cifar100": Evidence(50, "Figure 10's other half, ResNet-8"),
    },
)
def figure_5(settings: Settings) -> pd.DataFrame:
    """Losses of raw, averaged and side-trip weights at every window of every branch point (Figs. 1
    and 5, Table 1).

    Columns: seed, branch, start (step), kernel, k, arm, train_loss and test_loss (nats), train_top1
    and top1 (fractions), to_average and travelled (Euclidean: |weights - average|, |average -
    start|). Arms: start, raw (the window's end), average, side-trip, other-batches (the side-trip
    on other mini-batches), constant-rate (the main schedule on other mini-batches).
    """
    main = runs.each(_branches.main_run, settings, [{"seed": s} for s in settings.seeds])
    grid = [{"seed": s, "branch": b} for s in settings.seeds for b in range(settings.branches)]
    return runs.each(side_trips, settings, grid, after=main).table


def side_trips(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every side-trip from one branch point: metrics of its end and of all that it is compared
    with.

    A run that was paused goes on with the first row that it does not have.
    """
    main, branch = _branches.Main.load(settings, point["seed"], device), point["branch"]
    start = main.resume(parents[0] / f"branch-{branch}.ckpt")
    ends, _ = training.load_tensor_file(parents[0] / f"branch-{branch}-ends.ckpt")
    origin, metrics = training.flat_weights(start.model), main.evaluator()
    plan, rows = _plan(_Trips(main, start), ends), runs.kept_rows(folder)
    for arm, name, k, weights_of in pieces(plan[len(rows) :], lambda: runs.keep_rows(folder, rows)):
        weights, average = weights_of().to(device), ends.get(f"{name} k={k}", origin).to(device)
        apart = {
            "to_average": training.distance(weights, average),
            "travelled": training.distance(average, origin),
        }
        rows.append(
            {"start": start.step, "kernel": name, "k": k, "arm": arm, **metrics(weights), **apart}
        )
    return pd.DataFrame(rows)


class _Trips:
    """Side-trips from one branch point."""

    def __init__(self, main: _branches.Main, start: training.State):
        self.main = main
        self.start = start
        self.reached: dict = {}

    def end(self, name: str, stream: int, k: int):
        """The weights after k steps under the schedule of a kernel, or under the main run's for no
        kernel.
        """
        rate = self.main.rate
        if name:
            rate = averaging.equivalent_schedule(rate, kernel(name, k), self.start.step)
        # Two points and a constant rate have one rate for every window, so each trip goes on from
        # the one before.
        one_rate = name in ("two-point", "")
        origin = self.reached.get((name, stream), self.start) if one_rate else self.start
        end = training.branch(
            origin, self.main.data, rate, self.main.seed, stream, self.start.step + k
        )
        self.reached[name, stream] = end
        return training.flat_weights(end.model)


def _plan(trips: _Trips, ends: dict) -> list[tuple[str, str, int, Callable]]:
    """(arm, kernel, k, what gives the weights) of every row of one branch point, in the order of
    the rows.
    """
    settings = trips.main.settings
    plan = [("start", "", 0, lambda: training.flat_weights(trips.start.model))]
    plan += [("raw", "", k, partial(ends.get, f"raw k={k}")) for k in sorted(ks(settings))]
    averages = [("two-point", 1), *windows(settings)]
    plan += [("average", name, k, partial(ends.get, f"{name} k={k}")) for name, k in averages]
    plan += [
        ("side-trip", name, k, partial(trips.end, name, MAIN, k)) for name, k in windows(settings)
    ]
    controlled = [(name, k) for name, k in windows(settings) if k in settings.controls]
    plan += [
        ("other-batches", name, k, partial(trips.end, name, OTHER, k)) for name, k in controlled
    ]
    return plan + [
        ("constant-rate", "", k, partial(trips.end, "", OTHER, k))
        for k in sorted(settings.controls)
    ]
