"""Goal C8: the mean squares of a noisy quadratic, exact, against the mean of drawn paths.

Gradient descent, w <- w - x w + e in every dimension. The exact recursion is the mean over
infinitely many paths; the drawn one must lie within its sampling error.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks import harness, peers
from replicate.problems.moments import mean_squares

NOISE = 0.01
PLAIN = "10 drawn paths"
OURS = "mean_squares"
REPEATS = 10


@dataclass(frozen=True)
class Size:
    """dimensions: with rates x from 0.001 to 1."""

    dimensions: int = 1000
    steps: int = 200
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size(50, 20, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """Drawn and exact."""
    x = np.geomspace(1e-3, 1.0, size.dimensions)
    jobs = {
        PLAIN: lambda: peers.draw_mean_squares(x, size.steps, REPEATS, NOISE),
        OURS: lambda: mean_squares((0.0,), x, size.steps, q=NOISE**2),
    }
    yield harness.compare(
        harness.Comparison(
            f"mean squares of {size.dimensions} dimensions, {size.steps} steps",
            jobs,
            # Over all dimensions, so that ten paths are enough.
            lambda: {name: job().mean(axis=1) for name, job in jobs.items()},
            (0.05, 0.0),
            {"C8": (PLAIN, OURS)},
            size.rounds,
            is_stated=size == FULL,
        )
    )
