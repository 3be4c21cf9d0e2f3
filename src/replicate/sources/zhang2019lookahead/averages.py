"""Related work of the slides: Polyak's average on a convex problem, and nonlinear acceleration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.problems import accelerate, acceleration_weights, second_moments
from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.zhang2019lookahead.presets import ALGEBRA
from replicate.sources.zhang2019lookahead.settings import Settings

CONVEX = 1 / np.arange(1, 51)  # of the convex problem; noise of variance a^2, inside the loss
RUN_LENGTHS = (100, 300, 1000, 3000)
# gamma; the upper end is SGD's largest stable rate, and what falls to 0 may begin above.
TUNING_GRID = np.geomspace(0.02, 10.0, 45)
TAIL = 0.5  # of the run, over which the tail average goes
CONDITION = 1000.0  # of the quadratic for nonlinear acceleration
QUADRATIC_SIZE = 30
WINDOWS = (5, 10, 20)  # K, iterates that are combined
SPENT = 200
REGULARISATION = 1e-8  # Scieur et al. 2016 search it; this is the middle of their grid
SMALLEST = 1e-14  # regularisation where residuals cancel exactly
EVERYTHING = (2, 3, 4)  # dimensions of quadratics of which all iterates are combined


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "decayed", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def averages(settings: Settings) -> pd.DataFrame:
    """Averages and acceleration: claim, case, value, decayed, control, what, arm, steps.

    what: "claim", a row to judge; "loss", the expected loss of SGD and of its averages at the best
    rate, by steps; "path", the loss by gradients on a quadratic without noise.
    """
    losses = {steps: _losses(steps) for steps in RUN_LENGTHS}
    claims = [*_polyak(losses), *_systems(), *_speeds()]
    rows = [(*row, "claim", "", 0) for row in claims]
    rows += [
        ("", "", loss, np.nan, np.nan, "loss", arm, steps)
        for steps, arms in losses.items()
        for arm, loss in arms.items()
    ]
    for arm, path in _paths().items():
        rows += [("", "", v, np.nan, np.nan, "path", arm, t) for t, v in enumerate(path)]
    names = ["claim", "case", "value", "decayed", "control", "what", "arm", "steps"]
    return pd.DataFrame(rows, columns=names)


def _losses(steps: int) -> dict[str, float]:
    """Expected loss after some steps from theta = 1, each arm at its own best rate."""
    t = np.arange(1, steps + 1)
    tail = np.where(t > (1 - TAIL) * steps, 1 / np.maximum(t - (1 - TAIL) * steps, 1), 1.0)
    constant = np.ones(steps)
    linear = 1 - (t - 1) / steps
    return {
        "SGD": _find_best(constant, None, "theta"),
        "mean of all": _find_best(constant, 1 / t, "mean"),
        "mean of the last half": _find_best(constant, tail, "mean"),
        "SGD, linear decay": _find_best(linear, None, "theta"),
    }


def _find_best(schedule: np.ndarray, weights: np.ndarray | None, shown: str) -> float:
    rates = schedule[:, None, None] * TUNING_GRID[:, None]
    path = second_moments(CONVEX, CONVEX**2, rates, weights=weights)[shown]
    return float(np.nanmin(0.5 * path[-1] @ CONVEX))


def _polyak(losses: dict[int, dict[str, float]]) -> Iterator[tuple]:
    """LOOK-03a: loss of an average over that of the last iterate, both at their best rate."""
    for steps, arms in losses.items():
        decayed = arms["SGD, linear decay"] / arms["SGD"]
        for arm in ("mean of all", "mean of the last half"):
            yield "LOOK-03a", f"{arm} T={steps}", arms[arm] / arms["SGD"], decayed, np.nan


def _systems() -> Iterator[tuple]:
    """LOOK-03c, LOOK-31.memory, LOOK-31.zero: what the method solves, keeps and finds."""
    for k in WINDOWS:
        iterates = _descend(_spectrum(QUADRATIC_SIZE), np.ones(QUADRATIC_SIZE), k)
        weights = acceleration_weights(np.diff(iterates, axis=0), REGULARISATION)
        yield "LOOK-03c", f"k={k}", len(weights) / k, np.nan, np.nan
        yield "LOOK-31.memory", f"k={k}", iterates.size / (k * QUADRATIC_SIZE), np.nan, np.nan
    for dimensions in EVERYTHING:
        curvatures = np.linspace(0.1, 0.9, dimensions)
        iterates = _descend(curvatures, np.ones(dimensions), dimensions + 1)
        found = np.linalg.norm(curvatures * accelerate(iterates, SMALLEST))
        last = np.linalg.norm(curvatures * iterates[-1])
        yield "LOOK-31.zero", f"d={dimensions}", float(found / last), np.nan, np.nan


def _speeds() -> Iterator[tuple]:
    """LOOK-31.faster: loss over gradient descent's after as many gradients; control: heavy ball's."""
    ends = {arm: path[-1] for arm, path in _paths().items()}
    for k in WINDOWS:
        ratio = ends[f"acceleration, K = {k}"] / ends["gradient descent"]
        yield (
            "LOOK-31.faster",
            f"K={k}",
            ratio,
            np.nan,
            ends["heavy ball"] / ends["gradient descent"],
        )


def _paths() -> dict[str, np.ndarray]:
    """Loss after each gradient, all from theta = 1: (SPENT + 1,)."""
    curvatures, start = _spectrum(QUADRATIC_SIZE), np.ones(QUADRATIC_SIZE)
    paths = {"gradient descent": _descend(curvatures, start, SPENT)}
    for k in WINDOWS:
        path = [start]
        while len(path) <= SPENT:
            cycle = _descend(curvatures, path[-1], k)
            path += [*cycle[1:-1], accelerate(cycle, REGULARISATION)]
        paths[f"acceleration, K = {k}"] = np.array(path[: SPENT + 1])
    root = np.sqrt(CONDITION)
    beta = ((root - 1) / (root + 1)) ** 2
    paths["heavy ball"] = _descend(curvatures, start, SPENT, (2 / (1 + 1 / root)) ** 2, beta)
    return {arm: 0.5 * path**2 @ curvatures for arm, path in paths.items()}


def _spectrum(dimensions: int) -> np.ndarray:
    return np.geomspace(1 / CONDITION, 1.0, dimensions)


def _descend(curvatures, start, steps: int, rate: float = 1.0, beta: float = 0.0) -> np.ndarray:
    """theta_0 .. theta_steps of heavy ball without noise, (steps + 1, d)."""
    from replicate.problems import heavy_ball

    noise = np.zeros((steps, len(start)))
    rates = np.full(steps, rate)
    return heavy_ball(noise, rates, beta, start, np.zeros(len(start)), curvatures)
