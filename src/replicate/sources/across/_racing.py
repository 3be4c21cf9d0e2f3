"""One method on one seed at one rate: where it is when each of three budgets is spent.

    gradients            `steps` of mini-batches, of a walk as well
    forward passes       a gradient counts as PASSES_OF_A_GRADIENT, a check as one
    modelled seconds     by `_prices`; as many as SGD spends on its gradients

At the end of a budget counts the newest step that it pays for. All runs of a seed have the same
start and the same mini-batches in the same order; a walk checks on the mini-batch of its gradient.
BatchNorm is re-estimated for every weight vector, means included. What is lost has NaN for its
metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from replicate import averaging, training
from replicate.errors import Diverged
from replicate.sources import images as kit
from replicate.sources.across import _contenders
from replicate.sources.across._contenders import TAIL_MEANS, Contender
from replicate.sources.across._data import Data
from replicate.sources.across._prices import PriceList
from replicate.sources.across._task import Task
from replicate.sources.images import MAIN
from replicate.training.gradient import gradient_of

BY_GRADIENTS, BY_PASSES, BY_SECONDS = RACE_AXES = (
    "gradients",
    "forward passes",
    "modelled seconds",
)
PASSES_OF_A_GRADIENT = 3  # forward passes: one, and a backward pass of twice the work
GRADIENTS_OF_A_COLUMN = 2  # gradients: a column of the Hessian, forward over reverse
RACE_METRICS = ("train_loss", "valid_loss", "valid_top1", "test_loss", "top1")
LOST_METRICS = dict.fromkeys(RACE_METRICS, math.nan)
BUDGET_ROUNDING = 1e-9  # of a budget


@dataclass(frozen=True)
class Work:
    """What a run has done so far. averaged: iterates that a mean was told."""

    gradients: int = 0
    checks: int = 0
    averaged: int = 0


class Race:
    """A method at one rate on the mini-batches of a seed."""

    def __init__(
        self, task: Task, data: Data, seed: int, prices: PriceList, method: str, lr: float, device
    ):
        self.task = task
        self.batches = data.batches
        self.seed = seed
        self.prices = prices
        self.method = method
        self.contender: Contender = _contenders.list_contenders(task)[method]
        self.lr = lr
        self.model = kit.network(task, seed, data.images, device)
        self.optimizer = self.contender.make(self.model.parameters())
        self.evaluate = kit.evaluator(self.model, data.sets, data.norm)
        self.budgets = charge(prices, "SGD", Work(task.steps))

    def run(self) -> list[dict]:
        """A row an arm and axis: arm, axis, what it has spent, RACE_METRICS."""
        return list(self._walk() if self.contender.walks else self._descend())

    def count_steps(self, averaged: bool) -> dict[str, int]:
        """Axis -> steps that its budget pays for, of a method without checks; averaged: with the
        price of a mean over their tail.
        """
        return {axis: self._count_paid(axis, averaged) for axis in RACE_AXES}

    def _count_paid(self, axis: str, averaged: bool) -> int:
        a_step = charge(self.prices, self.method, Work(1))[axis]
        steps = math.floor(self.budgets[axis] / a_step + BUDGET_ROUNDING)
        while averaged and self._charge_mean(steps)[axis] > self.budgets[axis] * (
            1 + BUDGET_ROUNDING
        ):
            steps -= 1
        return max(1, steps)

    def _charge_mean(self, steps: int) -> dict[str, float]:
        tail = _contenders.count_tail(self.task, steps)
        return charge(self.prices, self.method, Work(steps, averaged=tail))

    def _descend(self) -> Iterator[dict]:
        """The rows of a method without checks, and of its means."""
        means = _contenders.means_of(self.method)
        stops = self.count_steps(averaged=False)
        ends = self.count_steps(averaged=True) if means else {}
        begins = {end: end - _contenders.count_tail(self.task, end) for end in ends.values()}
        rate = _contenders.schedule(self.task, self.contender, self.lr, self.task.steps)
        marks = sorted({0, *stops.values(), *begins, *begins.values()})
        averages: dict[int, averaging.KernelAverages] = {}
        lost = False
        for start, stop in pairwise(marks):
            averages |= {end: self._begin(end - start) for end in begins if begins[end] == start}
            told = tuple(each for end, each in averages.items() if end >= stop)
            lost = lost or not self._advance(rate, start, stop, told)
            for arm, axis, work, weights in self._name_ends(stop, stops, ends, averages):
                metrics = LOST_METRICS if lost else self._look(weights)
                yield self._row(arm, axis, work, metrics)

    def _begin(self, k: int) -> averaging.KernelAverages:
        return averaging.KernelAverages(
            {name: make(k) for name, make in TAIL_MEANS.items()}, self.model
        )

    def _advance(self, rate, start: int, stop: int, told: tuple) -> bool:
        """Train to `stop`; whether every loss was finite."""
        steps = training.steps(
            self.model, self.batches, self.optimizer, rate, self.seed, MAIN, start, stop, told
        )
        try:
            for _ in steps:
                pass
        except Diverged:
            return False
        return True

    def _name_ends(self, stop: int, stops: Mapping, ends: Mapping, averages: Mapping) -> Iterator:
        """(arm, axis, work, averaging and its kernel or None) of what a budget ends at this step."""
        for axis in (axis for axis in RACE_AXES if stops[axis] == stop):
            yield self.method, axis, Work(stop), None
        tail = _contenders.count_tail(self.task, stop)
        for axis in (axis for axis, end in ends.items() if end == stop):
            for kernel, arm in _contenders.means_of(self.method).items():
                yield arm, axis, Work(stop, averaged=tail), (averages[stop], kernel)

    def _look(self, mean: tuple | None) -> dict[str, float]:
        """The metrics of a finished mean, or of the weights that the method is judged by."""
        if mean is not None:
            averages, kernel = mean
            return self.evaluate(averages[kernel])
        with self.contender.show(self.optimizer):
            return self.evaluate()

    def _walk(self) -> Iterator[dict]:
        """The rows of a method that checks the loss on its way."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        gradient = gradient_of(self.model, self.batches)
        left = list(RACE_AXES)
        work = Work()
        while left:
            before = training.flat_weights(self.model)
            paid, work = work, self._step(gradient, work)
            spent = charge(self.prices, self.method, work or paid)
            for axis in list(left):
                if work is None or spent[axis] >= self.budgets[axis] * (1 - BUDGET_ROUNDING):
                    left.remove(axis)
                    yield self._end(axis, spent[axis], paid, work, before)

    def _end(self, axis: str, spent: float, paid: Work, work: Work | None, before) -> dict:
        """The row of a budget that the newest step has spent, or had spent before it."""
        if work is None:
            return self._row(self.method, axis, paid, LOST_METRICS)
        fits = spent <= self.budgets[axis] * (1 + BUDGET_ROUNDING)
        metrics = self.evaluate(None if fits else before)
        return self._row(self.method, axis, work if fits else paid, metrics)

    def _step(self, gradient, work: Work) -> Work | None:
        """A step on the next mini-batch; what is done by then, None where it was lost."""
        loss = gradient(self.seed, MAIN, work.gradients)
        x, y = self.batches.batch(self.seed, MAIN, work.gradients)
        try:
            self.optimizer.step(lambda: self.batches.loss(self.model(x), y), loss)
        except Diverged:
            return None
        if not math.isfinite(loss.item()):
            return None
        return Work(work.gradients + 1, work.checks + self.optimizer.forwards)

    def _row(self, arm: str, axis: str, work: Work, metrics: Mapping[str, float]) -> dict:
        spent = charge(self.prices, self.method, work)
        counts = {"gradients": work.gradients, "checks": work.checks / max(work.gradients, 1)}
        again = charge(self.prices.again, self.method, work)[BY_SECONDS]
        of_newton = 1 + GRADIENTS_OF_A_COLUMN * sum(
            each.numel() for each in self.model.parameters()
        )
        return {"arm": arm, "axis": axis, **counts, "seconds": spent[BY_SECONDS], "seconds again": again,
                "newton_steps": self.budgets[BY_GRADIENTS] / of_newton,
                **{name: metrics[name] for name in RACE_METRICS}}  # fmt: skip


def charge(prices: PriceList, method: str, work: Work) -> dict[str, float]:
    """Axis -> what work of a method costs."""
    seconds = prices.of(method, work.gradients, work.checks, work.averaged)
    return {
        BY_GRADIENTS: float(work.gradients),
        BY_PASSES: float(PASSES_OF_A_GRADIENT * work.gradients + work.checks),
        BY_SECONDS: seconds,
    }
