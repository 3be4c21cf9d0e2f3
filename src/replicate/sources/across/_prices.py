"""What the parts of training cost, and what a run costs by them:

    modelled seconds = gradients t_gradient + checks t_check + updates t_update + averaged t_average

updates: of a walk none, since its mini-steps are in the price of its checks; averaged: iterates that
a mean was told. No run is timed as a whole. Every part is timed twice in turn, so that it is seen
what the clock is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from replicate import averaging, numerics, optim, training
from replicate.sources import images as kit
from replicate.sources.across._contenders import MEANS, Contender, list_contenders
from replicate.sources.across._data import Data
from replicate.sources.across._task import Task
from replicate.sources.images import MAIN
from replicate.training.gradient import gradient_of

GRADIENT, CHECK, AVERAGE = "gradient", "check", "average"  # parts, beside the update of a method
LISTS = ("price", "price again")
WARM = 1  # rounds that are not counted
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
        first, again = (dict(zip(table.part, table[turn], strict=True)) for turn in LISTS)
        return cls(first, updates, cls(again, updates))

    def of(self, method: str, gradients: int, checks: int, averaged: int) -> float:
        """Modelled seconds of so many of each."""
        price = self.seconds
        parts = gradients * price[GRADIENT] + checks * price[CHECK] + averaged * price[AVERAGE]
        return parts + (gradients * price[self.updates[method]] if method in self.updates else 0.0)


def list_prices(
    settings: Task, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Seconds of every part on one seed's network: columns part (GRADIENT, CHECK, AVERAGE or the
    name of a method: its update) and LISTS, medians.
    """
    data = Data.load(settings, device)
    jobs = _list_jobs(settings, data, point["seed"], device)
    twice = {(part, turn): job for turn in LISTS for part, (job, _) in jobs.items()}
    seconds = numerics.clock(twice, settings.repeats, device, WARM)
    rows = [
        {"part": part} | {turn: np.median(seconds[part, turn]) / count for turn in LISTS}
        for part, (_, count) in jobs.items()
    ]
    return pd.DataFrame(rows)


def _list_jobs(settings: Task, data: Data, seed: int, device: str) -> dict[str, tuple]:
    """Part -> what does it some times, and how many times."""
    model = kit.network(settings, seed, data.images, device)
    gradient = gradient_of(model, data.batches)
    x, y = data.batches.batch(seed, MAIN, 0)
    sgd = optim.SGD(model.parameters(), lr=UNMOVED)
    told = len(LISTS) * (settings.repeats + WARM) * averaging.KernelAverages.BLOCK
    kernels = {name: make(told) for name, make in MEANS.items()}
    mean = averaging.KernelAverages(kernels, training.flat_weights(model))

    @torch.no_grad()
    def check() -> None:
        sgd.step()
        data.batches.loss(model(x), y).item()

    gradient(seed, MAIN, 0)
    jobs = {
        GRADIENT: (lambda: gradient(seed, MAIN, 1), 1),
        CHECK: (check, 1),
        AVERAGE: (
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
