"""The methods that are compared, by the names of the post's legend, and what a run of one costs.

    forward-equivalents = 3 gradients + checks
    seconds = gradients (t_forward + t_backward) + checks t_check + updates t_update

A check of the published code builds a graph, so it costs t_forward.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from replicate import descent
from replicate.descent import Adam, Armijo, ExactSearch, Sgd, Stepping, Vaulting

PASSES = 3  # forward-equivalents of a gradient: forward, and a backward pass of twice the work
CHUNK = 50  # outer steps a call of a walk; between calls it is seen whether the budget is spent
MARGIN = 1.15  # forward-equivalents in budgets that a run goes on for, so that seconds are covered too
VARIANTS = ("published", "corrected")
METHODS = {
    "SGD": Sgd(),
    "ADAM": Adam(),
    **{f"KS_{m}_{s} {v}": Stepping(m, float(s), v) for m in (50, 10) for s in (0, 2) for v in VARIANTS},
    **{f"KV_{m} {v}": Vaulting(m, v) for m in (10, 50) for v in VARIANTS},
    "KS_50_2 rollback": Stepping(50, 2.0, "corrected", rollback=True),
    "ARMIJO": Armijo(),
    "LBFGS": None,  # scipy's; it has no rate
}
AT_ONCE = ("ADAM", "ARMIJO")  # they remember something between steps, so they run in one call


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


def exact_search(maps: int) -> ExactSearch:
    """The exact minimum along -g: the loss of `maps` linear maps is a polynomial of twice that degree along a line."""
    return ExactSearch(2 * maps)


def trace(arm: str, method, task: Task, lr: float, steps: int, gradients: int = 0) -> Trace:
    """Run an arm until MARGIN times the cost of `steps` gradients, and at least `gradients` of them, are spent.

    method: as METHODS or `exact_search` gives it. A run that diverges ends there, with its last loss not finite.
    """
    if method is None:
        return lbfgs(task, steps)
    parts, weights, spent = [], task.start, np.zeros(2)
    while True:
        chunk = steps if arm in AT_ONCE else CHUNK
        run = descent.train(method, task.loss, task.data, weights, lr, chunk, dtype=task.dtype)
        parts.append(run)
        weights = run.weights
        spent += run.gradients[-1], run.forwards[-1]
        paid = PASSES * spent[0] + spent[1] >= MARGIN * PASSES * steps and spent[0] >= gradients
        if paid or arm in AT_ONCE or not np.isfinite(run.losses[-1]):
            return _joined(parts)


def lbfgs(task: Task, steps: int) -> Trace:
    """scipy's L-BFGS with ten pairs; every evaluation is a gradient, and a loss is recorded an iteration."""
    found, count = [], 0

    def evaluated(weights):
        nonlocal count
        count += 1
        value = float(descent.value(task.loss, task.data, weights, dtype=task.dtype))
        return value, np.asarray(descent.gradient(task.loss, task.data, weights, dtype=task.dtype), dtype=np.float64)

    def note(intermediate_result):
        found.append((float(intermediate_result.fun), count))

    first = float(descent.value(task.loss, task.data, task.start, dtype=task.dtype))
    options = {"maxfun": steps, "maxiter": steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 10}
    minimize(evaluated, task.start, jac=True, method="L-BFGS-B", callback=note, options=options)
    losses, gradients = (np.array(column) for column in zip((first, 0), *found, strict=True))
    return Trace(losses, gradients, np.zeros_like(gradients), gradients)


def forward_equivalents(one: Trace) -> np.ndarray:
    """What was spent before each loss, in forward passes."""
    return PASSES * one.gradients + one.checks


def seconds(arm: str, one: Trace, clock: Mapping[str, float]) -> np.ndarray:
    """What was spent before each loss, in seconds. clock: seconds of each part, as `loops.clock` names them."""
    check = clock["forward" if arm.endswith("published") else "check"]
    update = clock["adam" if arm in ("ADAM", "LBFGS") else "step"]
    return one.gradients * (clock["forward"] + clock["backward"]) + one.checks * check + one.updates * update


def _joined(parts: list) -> Trace:
    """Runs that went on where the one before ended, as one; their first loss is the last of the one before."""

    def together(columns) -> np.ndarray:
        total, found = 0, []
        for column in columns:
            found.append(total + column[:-1])
            total += column[-1]
        return np.append(np.concatenate(found), total)

    losses = np.append(np.concatenate([run.losses[:-1] for run in parts]), parts[-1].losses[-1])
    updates = [np.concatenate([[0], np.cumsum(run.mini_steps)]) for run in parts]
    return Trace(losses, *(together(c) for c in ([r.gradients for r in parts], [r.forwards for r in parts], updates)))
