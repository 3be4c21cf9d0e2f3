"""Adam on three functions of two numbers, its raw gradients extrapolated, and controls.

    d = |x - x*|^2        x* the global minimum; the post's figures call it loss

Arms: "adam"; after each of its steps "GD+", the published class, or "gradient", a plain gradient
step of size dt, or "weights", the corrected class, which extrapolates what Adam moved; "rate", Adam
at its rate plus dt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from replicate import optim
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation.settings import Settings

ARMS = ("adam", "GD+", "gradient", "weights", "rate")
FROM = (
    3  # the published class extrapolates from its fourth call on, and so does the control beside it
)


def optimizers(arm: str, lanes: Sequence[tuple[float, float]]) -> tuple[Callable, list[int]]:
    """What moves one parameter per lane (rate, dt), and the step from which each does, for
    `minimise`.
    """

    def make(theta):
        rates = [rate + dt * (arm == "rate") for rate, dt in lanes]
        groups = [{"params": [p], "lr": rate} for p, rate in zip(theta, rates, strict=True)]
        if arm in ("adam", "rate"):
            return [optim.Adam(groups, fused=True)]
        if arm == "gradient":
            plain = [{"params": [p], "lr": dt} for p, (_, dt) in zip(theta, lanes, strict=True)]
            return [optim.Adam(groups, fused=True), optim.SGD(plain, lr=1.0, fused=True)]
        # The post puts its class beside Adam; around it, it sees the same gradients and rates.
        variant = "published" if arm == "GD+" else "corrected"
        return [
            optim.TaylorExtrapolation(optim.Adam([group], fused=True), dt, variant=variant)
            for group, (_, dt) in zip(groups, lanes, strict=True)
        ]

    count = {"adam": 1, "rate": 1, "gradient": 2}.get(arm, len(lanes))
    return make, [0, FROM] if arm == "gradient" else [0] * count


def run(
    settings: Settings, arm: str, lanes: list, starts: np.ndarray, every: int = 1
) -> np.ndarray:
    """The path of every lane from its start, as `minimise` gives it; numbers that are not finite
    stay.
    """
    from replicate.problems import minimise

    made, begins = optimizers(arm, lanes)
    with np.errstate(over="ignore", invalid="ignore"):
        return minimise(
            PROBLEMS[settings.dataset].f, starts, made, settings.steps, every, begins=begins
        )


def squared_distance(path: np.ndarray, problem) -> np.ndarray:
    """d at every place of a path."""
    with np.errstate(over="ignore", invalid="ignore"):
        return ((path - np.array(problem.minimum)) ** 2).sum(-1)
