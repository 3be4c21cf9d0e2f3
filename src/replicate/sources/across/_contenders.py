"""The methods that are trained on one task, each at the rates that give it SGD's pace, and what is
looked at beside them.

Those that are filters are the ones of the filter view, and their pace is the filter's. Adam and the
walks have none: the grid of their rates is SGD's times a factor, set so that their lowest held-out
losses at seed 100, which is judged nowhere, lie inside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from replicate import averaging, optim
from replicate.sources.across._methods import list_optimizers, show_last
from replicate.sources.across._task import Task

RATE_OF_ADAM, RATE_OF_STEPPING, RATE_OF_VAULTING = 0.01, 0.003, 0.1  # over SGD's
FALLING_RATE = "SGD, falling rate"
TAIL_MEANS = {"swa": averaging.swa, "ema": averaging.ema}  # name -> k -> mu, of Table 1
MEAN_ARMS = {"SGD": "average, {}", "momentum": "momentum, average, {}"}  # method -> its means' arms


@dataclass(frozen=True)
class Contender:
    """make: parameters -> optimizer, whose rate is set at every step; factor: of SGD's rates; walks:
    whether its step takes a closure and the loss; show: what puts the weights that it is judged by
    into the model; falls: whether its rate falls to 0 over the tail of a run; update: the method whose
    update it has, where that is another's.
    """

    make: Callable[[Iterable], object]
    factor: float = 1.0
    walks: bool = False
    show: Callable[[object], AbstractContextManager] = show_last
    falls: bool = False
    update: str = ""


def list_contenders(task: Task) -> dict[str, Contender]:
    """Every method by its name in tables, plain SGD first."""
    methods = list_optimizers(task)
    contenders = {
        name: Contender(method.make, 1 / method.filter.pace, show=method.show)
        for name, method in methods.items()
    }
    walk = {"lr": 1.0, "max_steps": task.checks}
    return contenders | {
        FALLING_RATE: Contender(methods["SGD"].make, falls=True, update="SGD"),
        "schedule-free": Contender(
            lambda weights: optim.ScheduleFreeSGD(weights, lr=1.0),
            show=lambda optimizer: optimizer.mean_weights(),
        ),
        "Adam": Contender(lambda weights: optim.Adam(weights, lr=1.0), RATE_OF_ADAM),
        "KeepStepping": Contender(
            lambda weights: optim.KeepStepping(weights, **walk, scale_i=task.impatience),
            RATE_OF_STEPPING,
            walks=True,
        ),
        "KeepVaulting": Contender(
            lambda weights: optim.KeepVaulting(weights, **walk), RATE_OF_VAULTING, walks=True
        ),
    }


def list_arms(task: Task) -> tuple[str, ...]:
    """What is judged: every method by its own weights, and the means of some."""
    means = [arm for method in MEAN_ARMS for arm in means_of(method).values()]
    return (*list_contenders(task), *means)


def means_of(method: str) -> dict[str, str]:
    """Kernel -> the arm that is the mean of this method's iterates by it; empty for most."""
    name = MEAN_ARMS.get(method)
    return {} if name is None else {kernel: name.format(kernel) for kernel in TAIL_MEANS}


def count_tail(task: Task, steps: int) -> int:
    """The last steps of a run that are averaged, or over which a rate falls."""
    return max(1, round(task.tail * steps))


def schedule(task: Task, contender: Contender, lr: float, steps: int) -> Callable[[int], float]:
    """The rate of every step: constant, or falling over the tail as `averaging.swa` leaves it."""
    if not contender.falls:
        return lambda step: lr
    k = count_tail(task, steps)
    falling = averaging.KernelSchedule(lr, averaging.swa(k), steps - k)
    return lambda step: falling(step)


def list_rates(task: Task, contender: Contender) -> np.ndarray:
    """The rate of every trial, (paces,)."""
    return np.array(task.paces) * contender.factor
