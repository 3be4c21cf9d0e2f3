"""The optimizers that are compared: how each is made, and the weight vectors that a run of it gives.

Trials of all methods lie on one grid of (lr, weight_decay), in the units of SGD with momentum m,
which in the long run moves lr / (1 - m) times the gradient and shrinks the weights by lr / (1 - m)
weight_decay a step. A method without that momentum, or with another behind it, gets the rate that
moves as far, and AdamW ADAM_RATE times the rate with the decay that shrinks as much:

    schedule-free     lr / (1 - m)
    outer Nesterov    lr (1 - mu) / eta         mu, eta: momentum and rate outside
    AdamW             ADAM_RATE lr, weight_decay / (ADAM_RATE (1 - m)): 1e-4 to 3e-3 and 0.3 to 3 of
                      the paper's grid, as a replication reports it, for 0.01 to 0.3 and 3e-4 to 3e-3
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from replicate import averaging, optim
from replicate.sources.zhang2019lookahead.settings import Settings

ADAM_RATE = 0.01


def make_sgd(parameters: Iterable, settings: Settings, lr: float):
    """SGD with the settings' momentum and weight decay."""
    return optim.SGD(
        parameters,
        lr=lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def make_adamw(parameters: Iterable, settings: Settings, lr: float):
    """AdamW at the rate and the decay that stand for SGD's."""
    decay = settings.weight_decay / (ADAM_RATE * (1 - settings.momentum))
    return optim.AdamW(parameters, lr=ADAM_RATE * lr, weight_decay=decay, fused=True)


def make_lookahead(parameters: Iterable, settings: Settings, lr: float):
    """Lookahead around the settings' inner optimizer."""
    inner = IMAGE_METHODS[settings.inner].make(parameters, settings, lr)
    return optim.Lookahead(inner, settings.k, settings.alpha, settings.inner_state)


def make_nesterov(parameters: Iterable, settings: Settings, lr: float):
    """Nesterov's momentum on what a cycle of SGD moved."""
    scale = (1 - settings.outer_momentum) / settings.outer_rate
    inner = make_sgd(parameters, settings, lr * scale)
    return optim.OuterNesterov(inner, settings.k, settings.outer_rate, settings.outer_momentum)


def make_schedule_free(parameters: Iterable, settings: Settings, lr: float):
    """Schedule-free SGD, which has no momentum but its beta."""
    rate = lr / (1 - settings.momentum)
    return optim.ScheduleFreeSGD(parameters, lr=rate, weight_decay=settings.weight_decay)


def show_slow(optimizer) -> AbstractContextManager:
    """The slow weights in the model's place."""
    return optimizer.slow_weights()


def show_averaged(optimizer) -> AbstractContextManager:
    """The averaged weights of the schedule-free method in the model's place."""
    return optimizer.mean_weights()


def show_last(optimizer) -> AbstractContextManager:
    """The weights that the model has."""
    return nullcontext()


def average_iterates(settings: Settings) -> dict[str, np.ndarray]:
    """Means of all iterates: weights on theta_0, theta_1, ..., sum 1.

    ema, early: to the end and to the first drop; they forget in k steps what a pull leaves of the
    slow weights, 1 - alpha. tail: the mean from the share `tail` on.
    """
    steps = settings.steps
    delta = 1 - (1 - settings.alpha) ** (1 / settings.k)
    tail = _tail(steps, begin=min(round(settings.tail * steps), steps - 1), every=1)
    early = averaging.ema(first_drop(settings), delta)
    return {"ema": averaging.ema(steps, delta), "early": early, "tail": tail}


def average_pulls(settings: Settings) -> dict[str, np.ndarray]:
    """The same over the slow weights, one a cycle."""
    steps, k = settings.steps, settings.k
    begin = min(round(settings.tail * steps / k), steps // k - 1) * k
    return {
        "ema": _mean_of_slow(settings, steps),
        "early": _mean_of_slow(settings, first_drop(settings)),
        "tail": _tail(steps, begin, every=k),
    }


def average_nothing(settings: Settings) -> dict[str, np.ndarray]:
    """No mean is looked at."""
    return {}


def first_drop(settings: Settings) -> int:
    """The step at which the rate is first lowered where it is."""
    return round(settings.drops[0] * settings.steps)


def _tail(steps: int, begin: int, every: int) -> np.ndarray:
    """Equal weights on the iterates after `begin`, one in `every`."""
    weights = np.zeros(steps + 1)
    weights[begin + every :: every] = averaging.swa((steps - begin) // every)[1:]
    return weights


def _mean_of_slow(settings: Settings, steps: int) -> np.ndarray:
    """The kernel of the mean of slow weights up to the last pull within some steps; before the
    first pull it is the start.
    """
    count = steps // settings.k
    weights = np.zeros(max(1, count * settings.k) + 1)
    weights[0] = 1.0
    if count:
        weights[:: settings.k] = averaging.ema(count, settings.alpha)
    return weights


@dataclass(frozen=True)
class Method:
    """arms: arm -> the mean that it is, of those that `average` gives, or "" for the weights that
    the method itself is judged by, which `show` puts into the model.
    """

    arms: dict[str, str]
    make: Callable
    average: Callable[[Settings], dict[str, np.ndarray]] = average_nothing
    show: Callable[[object], AbstractContextManager] = show_last


IMAGE_METHODS = {
    "sgd": Method(
        {"sgd": "", "sgd-ema": "ema", "tail": "tail"}, make_sgd, average_iterates, show_last
    ),
    "lookahead": Method(
        {"lookahead": "", "lookahead-ema": "ema", "lookahead-tail": "tail"},
        make_lookahead, average_pulls, show_slow,
    ),
    "schedule-free": Method({"schedule-free": ""}, make_schedule_free, show=show_averaged),
    "outer-nesterov": Method({"outer-nesterov": ""}, make_nesterov, show=show_slow),
    "adamw": Method({"adamw": "", "adamw-ema": "ema"}, make_adamw, average_iterates),
}  # fmt: skip
