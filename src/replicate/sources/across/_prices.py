"""What the parts of training cost, and what a run costs by them:

    modelled seconds = gradients t_gradient + checks t_check + updates t_update + averaged t_average

updates: of a walk none, since a check is timed with its mini-step; averaged: iterates that
a mean was told. No run is timed as a whole. Every part is timed twice in turn, so that it is seen
what the clock is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, numerics, optim, training
from replicate.sources import images as kit
from replicate.sources.across._contenders import TAIL_MEANS, Contender, list_contenders
from replicate.sources.across._data import Data
from replicate.sources.across._task import Task
from replicate.sources.images import MAIN
from replicate.training.gradient import gradient_of

GRADIENT_PART, CHECK_PART, AVERAGE_PART = (
    "gradient",
    "check",
    "average",
)  # parts, beside the update of a method
PRICE_LISTS = ("price", "price again")
WARM_ROUNDS = 1  # rounds that are not counted
UNMOVED = 1e-12  # a rate at which the weights stay where they are


@dataclass(frozen=True)
class PriceList:
    """seconds: part -> seconds; again: the same by the other turn of the clock, None of the other.

    updates: method -> the part that is its update, none for a walk.
    """

    seconds: Mapping[str, float]
    updates: Mapping[str, str]
    again: PriceList | None = None

    @classmethod
    def read(cls, task: Task, table: pd.DataFrame) -> PriceList:
        """From what `list_prices` gives."""
        updates = {
            name: contender.update or name
            for name, contender in list_contenders(task).items()
            if not contender.walks
        }
        first, again = (dict(zip(table.part, table[turn], strict=True)) for turn in PRICE_LISTS)
        return cls(first, updates, cls(again, updates))

    def of(self, method: str, gradients: int, checks: int, averaged: int) -> float:
        """Modelled seconds of so many of each."""
        price = self.seconds
        parts = (
            gradients * price[GRADIENT_PART]
            + checks * price[CHECK_PART]
            + averaged * price[AVERAGE_PART]
        )
        return parts + (gradients * price[self.updates[method]] if method in self.updates else 0.0)


def list_prices(
    settings: Task, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Seconds of every part on one seed's network: columns part (GRADIENT_PART, CHECK_PART, AVERAGE_PART or the
    name of a method: its update) and PRICE_LISTS, medians.
    """
    data = Data.load(settings, device)
    jobs = _list_jobs(settings, data, point["seed"], device)
    twice = {(part, turn): job for turn in PRICE_LISTS for part, (job, _) in jobs.items()}
    seconds = numerics.clock(twice, settings.repeats, device, WARM_ROUNDS)
    rows = [
        {"part": part} | {turn: np.median(seconds[part, turn]) / count for turn in PRICE_LISTS}
        for part, (_, count) in jobs.items()
    ]
    return pd.DataFrame(rows)


def _list_jobs(settings: Task, data: Data, seed: int, device: str) -> dict[str, tuple]:
    """Part -> what does it some times, and how many times."""
    model = kit.network(settings, seed, data.images, device)
    gradient = gradient_of(model, data.batches)
    x, y = data.batches.batch(seed, MAIN, 0)
    walk = optim.KeepStepping(model.parameters(), UNMOVED, max_steps=1)
    told = len(PRICE_LISTS) * (settings.repeats + WARM_ROUNDS) * averaging.KernelAverages.BLOCK
    kernels = {name: make(told) for name, make in TAIL_MEANS.items()}
    mean = averaging.KernelAverages(kernels, training.flat_weights(model))

    loss = gradient(seed, MAIN, 0)
    jobs = {
        GRADIENT_PART: (lambda: gradient(seed, MAIN, 1), 1),
        CHECK_PART: (lambda: walk.step(lambda: data.batches.loss(model(x), y), loss), 1),
        AVERAGE_PART: (
            _repeat(lambda: mean.update(training.flat_weights(model)), mean.BLOCK),
            mean.BLOCK,
        ),
    }
    for name, contender in list_contenders(settings).items():
        if not contender.walks and not contender.update:
            step = _update(settings, data, seed, device, contender)
            jobs[name] = (_repeat(step, settings.k), settings.k)
    return jobs


def _update(settings: Task, data: Data, seed: int, device: str, contender: Contender) -> Callable:
    """An update of a network of its own, along the gradient of one mini-batch."""
    model = kit.network(settings, seed, data.images, device)
    gradient_of(model, data.batches)(seed, MAIN, 0)
    optimizer = contender.make(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = UNMOVED
    return optimizer.step


def _repeat(job: Callable, count: int) -> Callable:
    """Several times, as many as a cycle has."""

    def run() -> None:
        for _ in range(count):
            job()

    return run
