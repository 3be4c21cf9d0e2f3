"""What Lookahead adds to the seconds of a step, and how the time of nonlinear acceleration grows with the
number of iterates that it combines.

per_doubling = slope of log2 seconds on log2 K
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import numerics, runs
from replicate.problems import acceleration_weights
from replicate.sources.protocol import experiment
from replicate.sources.zhang2019lookahead import _networks
from replicate.sources.zhang2019lookahead.settings import Settings

# Ways to train, timed in turn; a pull at every step is what a cost that one sees looks like.
STEPPING = {
    "sgd": {"method": "sgd"},
    "sgd again": {"method": "sgd"},
    "lookahead": {"method": "lookahead"},
    "lookahead, k = 1": {"method": "lookahead", "k": 1},
}
# What is done with K residuals: the weights of their combination, twice, and one product with each.
ACCELERATING = ("weights", "weights again", "one product")
TURNS_OF_STEPS = 21  # ours; of which the median is taken
ITERATE_COUNTS = (16, 32, 64, 128)  # K, ours
DIMENSION = 100_000  # d, ours; of residuals that depend on nothing
TURNS_OF_WEIGHTS = 5  # ours; rounds of a job of tens of milliseconds


@experiment(
    fields={"arm": (*STEPPING, *ACCELERATING)},
    metrics=("seconds", "per_doubling"),
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
)
def costs(settings: Settings) -> pd.DataFrame:
    """Medians of seconds: columns seed, arm, seconds (of a step of training, or at the largest K) and
    per_doubling (of what has a K, else NaN). A seed has a network, residuals and a clock of its own.
    """
    return runs.each(time_run, settings, [{"seed": seed} for seed in settings.seeds]).table


def time_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one seed, each job in turn with the others."""
    return pd.DataFrame([*_time_steps(settings, point, device), *_time_weights(point["seed"])])


def _time_steps(settings: Settings, point: dict, device: str) -> Iterator[dict]:
    jobs = {arm: _cycle(settings, point | about, device) for arm, about in STEPPING.items()}
    for arm, seconds in numerics.clock(jobs, TURNS_OF_STEPS, device).items():
        yield {"arm": arm, "seconds": np.median(seconds) / settings.k, "per_doubling": math.nan}


def _cycle(settings: Settings, point: dict, device: str) -> Callable:
    """As many steps as a cycle has, of a network of its own."""
    run = _networks.Run(settings, {"schedule": "constant", "lr": settings.lr} | point, device)
    return lambda: run.advance(run.step + settings.k)


def _time_weights(seed: int) -> Iterator[dict]:
    residuals = np.random.default_rng(seed).standard_normal((max(ITERATE_COUNTS), DIMENSION))
    work = dict(
        zip(ACCELERATING, (acceleration_weights, acceleration_weights, _multiply), strict=True)
    )
    jobs = {
        (arm, count): lambda do=do, count=count: do(residuals[:count])
        for arm, do in work.items()
        for count in ITERATE_COUNTS
    }
    seconds = {
        job: np.median(taken) for job, taken in numerics.clock(jobs, TURNS_OF_WEIGHTS).items()
    }
    for arm in work:
        times = [seconds[arm, count] for count in ITERATE_COUNTS]
        (slope, _) = np.polyfit(np.log2(ITERATE_COUNTS), np.log2(times), 1)
        yield {"arm": arm, "seconds": times[-1], "per_doubling": slope}


def _multiply(residuals: np.ndarray) -> np.ndarray:
    """K d multiplications."""
    return residuals @ residuals[0]
