"""Training on mini-batches by runs that know what they have spent, looked at where a budget ends.

    forward-equivalents = 3 gradients + checks        seconds: the loop's own, of the processor

At a point of a budget counts the newest step that it pays for. All runs of a plan have the same
budgets, mini-batches and start, and take turns of equal seconds in one process, so that what a
machine does to one it does to all. A walk checks on the mini-batch of its gradient. A run that
diverges has NaN from there on, and its step in `lost`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from replicate import datasets, optim, training
from replicate.errors import Diverged
from replicate.numerics import stopwatch
from replicate.sources import images as kit
from replicate.sources.images import MAIN
from replicate.sources.warmerdam2020descent._images import ImageTask

BUDGET_AXES = ("gradients", "forward-equivalents", "seconds")
OF_A_GRADIENT = 3  # forward-equivalents: forward, and a backward pass of twice the work
IMAGES_OF_NORM = 256
CALIBRATION = 20  # steps of SGD, whose median second is the price of a step


@dataclass(frozen=True)
class Method:
    """make: parameters and a rate -> optimizer. walks: whether its step takes a closure and the
    loss. factor: of the grid's rates.
    """

    make: Callable
    walks: bool = False
    factor: float = 1.0


def _step(variant: str) -> Callable:
    return lambda weights, lr: optim.KeepStepping(
        weights, lr, max_steps=50, scale_i=2.0, variant=variant
    )


def _vault(variant: str) -> Callable:
    return lambda weights, lr: optim.KeepVaulting(weights, lr, max_steps=50, variant=variant)


SAME_AGAIN = "SGD again"  # the same work: whether the clock gives it the same time
BY_NAME = {
    "SGD": Method(lambda weights, lr: optim.SGD(weights, lr=lr)),
    SAME_AGAIN: Method(lambda weights, lr: optim.SGD(weights, lr=lr)),
    "ADAM": Method(lambda weights, lr: optim.Adam(weights, lr=lr), factor=0.01),
    "KS_50_2 corrected": Method(_step("corrected"), walks=True, factor=0.03),
    "KS_50_2 published": Method(_step("published"), walks=True),
    "KV_50 corrected": Method(_vault("corrected"), walks=True, factor=0.1),
    "KV_50 published": Method(_vault("published"), walks=True, factor=0.1),
}


@dataclass(frozen=True, eq=False)
class Data:
    """Mini-batches to train on, and the sets that weights are judged on after BatchNorm is
    re-estimated on `norm`.
    """

    images: datasets.Images
    batches: datasets.Batches
    sets: Mapping[str, tuple]
    norm: list

    @classmethod
    def load(cls, settings: ImageTask, device: str, test: bool) -> Data:
        """The last share `validation` of the training images is held out in every run. test: whether
        weights are judged on test images, too.
        """
        images = datasets.load(settings.dataset)
        count = round(len(images.train_x) * (1 - settings.validation))
        trained = replace(images, train_x=images.train_x[:count], train_y=images.train_y[:count])
        batches = kit.batches(settings, trained, settings.batch, device)
        first = slice(settings.curve_images)
        sets = {
            "train": batches.plain(trained.train_x[first], trained.train_y[first]),
            "valid": batches.plain(images.train_x[count:][first], images.train_y[count:][first]),
        }
        if test:
            few = slice(settings.test_images)
            sets["test"] = batches.plain(images.test_x[few], images.test_y[few])
        has_norm = settings.model != "mlp"
        norm = kit.norm_batches(batches, min(IMAGES_OF_NORM, count), settings.norm_batches)
        return cls(images, batches, sets, norm if has_norm else [])


class Run:
    """An arm at one rate on the mini-batches of a seed: what it has spent, by BUDGET_AXES, and what it had
    spent, with which weights, before its newest step.
    """

    def __init__(
        self, settings: ImageTask, data: Data, arm: str, lr: float, seed: int, device: str
    ):
        self.model = kit.network(settings, seed, data.images, device)
        self.method = BY_NAME[arm]
        self.optimizer = self.method.make(self.model.parameters(), lr)
        self.look = kit.evaluator(self.model, data.sets, data.norm)
        self.batches = data.batches
        self.seed = seed
        self.device = device
        self.step = 0
        self.lost = math.nan
        self.spent = dict.fromkeys(BUDGET_AXES, 0.0)
        self.spent_before = self.spent
        self.weights_before = None

    def warm_up(self) -> None:
        """A gradient of the next mini-batch that nobody times: others had the caches, and another
        epoch its tables.
        """
        x, y = self.batches.batch(self.seed, MAIN, self.step)
        self.batches.loss(self.model(x), y).backward()

    def advance(self) -> None:
        """A step on the next mini-batch, timed as a loop's: batch, gradient, step, and its loss read."""
        self.weights_before = training.flat_weights(self.model)
        self.spent_before = self.spent
        elapsed = stopwatch(self.device)
        x, y = self.batches.batch(self.seed, MAIN, self.step)
        checks = self._move(lambda: self.batches.loss(self.model(x), y))
        seconds = elapsed()
        self.step += 1
        work = {"gradients": 1, "forward-equivalents": OF_A_GRADIENT + checks, "seconds": seconds}
        self.spent = {axis: self.spent[axis] + work[axis] for axis in BUDGET_AXES}

    def _move(self, loss_of: Callable) -> int:
        """The step itself; how many checks it took."""
        self.optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        try:
            if not self.method.walks:
                self.optimizer.step()
            else:
                self.optimizer.step(loss_of, loss.detach())
        except Diverged:
            self.lost = self.step
        if not math.isfinite(loss.item()):
            self.lost = self.step
        return self.optimizer.forwards if self.method.walks else 0


def advance_in_turn(
    settings: ImageTask,
    plan: Sequence[tuple[str, float]],
    seed: int,
    count: int,
    device: str,
    test: bool,
) -> pd.DataFrame:
    """A run for each (arm, rate) of the plan to the end of every budget, looked at `count` times on
    the way.

    Columns: arm, lr, axis, share (of that axis's budget), BUDGET_AXES (spent by then), train_loss,
    valid_loss and, with `test`, test_loss (nats), valid_top1, top1 (fractions), lost.
    """
    data = Data.load(settings, device, test)
    budgets = {
        "gradients": float(settings.walk_gradients),
        "forward-equivalents": float(OF_A_GRADIENT * settings.steps),
        "seconds": settings.steps * _price_step(settings, data, seed, device),
    }
    paths = [
        _take_turns(Run(settings, data, arm, lr, seed, device), budgets, count) for arm, lr in plan
    ]
    rows: list[list[dict]] = [[] for _ in paths]
    for turn in range(count):
        for number in range(len(paths)):
            place = (number + turn) % len(paths)  # each time another one is first
            rows[place] += next(paths[place])
    return pd.DataFrame(
        {"arm": arm, "lr": lr} | row
        for (arm, lr), of_run in zip(plan, rows, strict=True)
        for row in of_run
    )


def _price_step(settings: ImageTask, data: Data, seed: int, device: str) -> float:
    """Seconds of a step of SGD, the median of some."""
    run = Run(settings, data, "SGD", settings.grid[0], seed, device)
    run.warm_up()
    seconds = []
    for _ in range(CALIBRATION):
        run.advance()
        seconds.append(run.spent["seconds"] - run.spent_before["seconds"])
    return float(np.median(seconds))


def _take_turns(run: Run, budgets: Mapping[str, float], count: int) -> Iterator[list[dict]]:
    """The rows of each of `count` turns of equal seconds; the last one ends with the last budget."""
    places = {
        axis: [k * budget / count for k in range(1, count + 1)] for axis, budget in budgets.items()
    }
    for turn in range(1, count + 1):
        rows: list[dict] = []
        if any(places.values()):
            run.warm_up()
        while any(places.values()) and (
            turn == count or run.spent["seconds"] < budgets["seconds"] * turn / count
        ):
            run.advance()
            rows += _look(run, places, budgets)
        yield rows


def _look(run: Run, places: Mapping[str, list[float]], budgets: Mapping[str, float]) -> list[dict]:
    """A row for each place that the newest step has passed, which then is none any more."""
    rows = []
    looks: dict[bool, dict] = {}
    for axis, ends in places.items():
        while ends and (run.spent[axis] >= ends[0] or run.lost >= 0):
            at_end = run.spent[axis] == ends[0]
            if at_end not in looks:
                looks[at_end] = _measure(run, at_end)
            rows.append({"axis": axis, "share": ends.pop(0) / budgets[axis]} | looks[at_end])
    return rows


def _measure(run: Run, at_end: bool) -> dict:
    """What was spent, and the metrics, after the newest step or before it."""
    spent = run.spent if at_end else run.spent_before
    metrics = run.look(None if at_end else run.weights_before)
    if not all(map(math.isfinite, metrics.values())) and not run.lost >= 0:
        run.lost = run.step
    if run.lost >= 0:
        metrics = dict.fromkeys(metrics, math.nan)
    return spent | {"lost": run.lost} | metrics
