"""The methods that are compared, by the names of the post's legend, and what a run of each costs.

    forward-equivalents = 3 gradients + checks
    modelled seconds = gradients (t_forward + t_backward) + checks t_check + updates t_update

A check of the published code builds a graph beside that of the one before, so its price is that of
the clock's "printed check". No run is timed as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from replicate import descent

PASSES = 3  # forward-equivalents of a gradient: forward, and a backward pass of twice the work
CHUNK = (
    50  # outer steps of one call of a walk; between calls it is seen whether the budget is spent
)
MARGIN = (
    1.15  # forward-equivalents in budgets that a run goes on for, so that seconds are covered too
)
GRAPH = {
    "published": "printed check",
    "corrected": "check",
}  # variant -> the clock's name of what a check costs


@dataclass(frozen=True)
class Arm:
    """A method of `replicate.descent` with its options, and what its checks and updates cost.

    method: a class there; "" is scipy's L-BFGS, which has no rate. variant: of the post's code, ""
    where there is one only. check, update: names of the clock, as `full_batch.clock` has them.
    remembers: whether it carries something from step to step, so that it runs in one call. rated:
    whether its rate is to be tuned; a line search finds its own.
    """

    method: str
    options: tuple = ()
    variant: str = ""
    check: str = "check"
    update: str = "step"
    remembers: bool = False
    rated: bool = True


def _variants(name: str, method: str, *options: object) -> dict[str, Arm]:
    return {f"{name} {v}": Arm(method, (*options, v), v, check=check) for v, check in GRAPH.items()}


ARMS: dict[str, Arm] = {
    "SGD": Arm("Sgd"),
    "ADAM": Arm("Adam", update="adam", remembers=True),
    **_variants("KS_50_0", "Stepping", 50, 0.0),
    **_variants("KS_50_2", "Stepping", 50, 2.0),
    **_variants("KS_10_0", "Stepping", 10, 0.0),
    **_variants("KS_10_2", "Stepping", 10, 2.0),
    **_variants("KV_10", "Vaulting", 10),
    **_variants("KV_50", "Vaulting", 50),
    "KS_50_2 rollback": Arm("Stepping", (50, 2.0, "corrected", True), "rollback"),
    "ARMIJO": Arm("Armijo", remembers=True, rated=False),
    "LBFGS": Arm("", update="adam", rated=False),
    "EXACT": Arm("ExactSearch", rated=False),
}


@dataclass(frozen=True)
class Trace:
    """One run: losses (t,) and what was spent before each of them, (t,) each."""

    losses: np.ndarray
    gradients: np.ndarray
    checks: np.ndarray
    updates: np.ndarray


@dataclass(frozen=True)
class Task:
    """A loss, its data and the starting weights, and in what precision they are run."""

    loss: Callable
    data: object
    start: np.ndarray
    dtype: str = "float64"


def method_of(name: str, maps: int):
    """The method of an arm for a net of so many linear maps: along a line the loss has twice that
    degree.
    """
    arm = ARMS[name]
    options = (2 * maps,) if arm.method == "ExactSearch" else arm.options
    return getattr(descent, arm.method)(*options)


def trace(name: str, maps: int, task: Task, lr: float, steps: int, gradients: int = 0) -> Trace:
    """Run an arm until MARGIN times the cost of `steps` gradients, and `gradients` of them, are
    spent.

    A run that diverges ends there, with its last loss not finite.
    """
    arm = ARMS[name]
    if not arm.method:
        return trace_lbfgs(task, steps)
    method = method_of(name, maps)
    runs = []
    weights = task.start
    spent = np.zeros(2)
    while True:
        chunk = steps if arm.remembers else CHUNK
        run = descent.train(method, task.loss, task.data, weights, lr, chunk, dtype=task.dtype)
        runs.append(run)
        weights = run.weights
        spent += run.gradients[-1], run.forwards[-1]
        paid = PASSES * spent[0] + spent[1] >= MARGIN * PASSES * steps and spent[0] >= gradients
        if paid or arm.remembers or not np.isfinite(run.losses[-1]):
            return _join(runs)


def trace_lbfgs(task: Task, steps: int) -> Trace:
    """scipy's L-BFGS with ten pairs; every evaluation is a gradient, and a loss is recorded per
    iteration.
    """
    from scipy.optimize import minimize

    iterations = []
    count = 0

    def evaluate(weights):
        nonlocal count
        count += 1
        value = float(descent.value(task.loss, task.data, weights, dtype=task.dtype))
        gradient = descent.gradient(task.loss, task.data, weights, dtype=task.dtype)
        return value, np.asarray(gradient, dtype=np.float64)

    def note(intermediate_result):
        iterations.append((float(intermediate_result.fun), count))

    first = float(descent.value(task.loss, task.data, task.start, dtype=task.dtype))
    options = {"maxfun": steps, "maxiter": steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 10}
    minimize(evaluate, task.start, jac=True, method="L-BFGS-B", callback=note, options=options)
    losses, gradients = (np.array(column) for column in zip((first, 0), *iterations, strict=True))
    return Trace(losses, gradients, np.zeros_like(gradients), gradients)


def forward_equivalents(run: Trace) -> np.ndarray:
    """What was spent before each loss, in forward passes."""
    return PASSES * run.gradients + run.checks


def seconds(name: str, run: Trace, clock: Mapping[str, float]) -> np.ndarray:
    """What an arm spent before each loss, in modelled seconds. clock: seconds by the names of
    `full_batch.clock`.
    """
    arm = ARMS[name]
    per_gradient = clock["forward"] + clock["backward"]
    return (
        run.gradients * per_gradient
        + run.checks * clock[arm.check]
        + run.updates * clock[arm.update]
    )


def _join(runs: list) -> Trace:
    """Runs that went on where the one before ended, as one run; their first loss is the last of it."""

    def join(columns) -> np.ndarray:
        total = 0
        pieces = []
        for column in columns:
            pieces.append(total + column[:-1])
            total += column[-1]
        return np.append(np.concatenate(pieces), total)

    losses = np.append(np.concatenate([run.losses[:-1] for run in runs]), runs[-1].losses[-1])
    updates = [np.concatenate([[0], np.cumsum(run.mini_steps)]) for run in runs]
    counts = ([run.gradients for run in runs], [run.forwards for run in runs], updates)
    return Trace(losses, *(join(columns) for columns in counts))
