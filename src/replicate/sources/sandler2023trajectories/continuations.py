"""Section 1: whether independent continuations of one run end as if spread over a sphere.

    theta_i   the end of continuation i, i = 1..n, each on mini-batches of its own
    D_ij = |theta_i - theta_j|,   cos_ij = cos(theta_i - m, theta_j - m),   m = mean of theta_i

On a sphere around m, in directions that have nothing to do with each other, all D_ij are equal and
all cos_ij are -1/(n - 1).
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import training
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import rng

COUNT = 8  # continuations; the claims file's
ENDS_STREAM = 100  # streams of mini-batches from here on, one a continuation
ARMS = ("continuations", "gaussian points", "one continuation")


def length(settings: Settings) -> int:
    """Steps of a continuation: the longest trip of Figures 6 and 7."""
    return max(_trips.looks(settings, max(_trips.TRIP_LOOKS)))


def operations(settings: Settings) -> float:
    """Multiplications and additions of the continuations, and of one of them once more."""
    steps = (COUNT + 1) * length(settings)
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


@experiment(
    fields={"arm": ARMS},
    metrics=("spread", "largest_cosine"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(40, "section 1: ends as on a sphere")},
)
def continuations(settings: Settings) -> pd.DataFrame:
    """How evenly the ends of COUNT continuations from the last branch point are spread (section 1).

    Columns: seed, arm, spread (standard deviation over mean of the distances of all pairs),
    largest_cosine (largest |cos_ij + 1/(n - 1)|), radius (RMS distance from the mean). Arms: the
    continuations; Gaussian points in as many dimensions with the same radius; one continuation: COUNT
    points of it, as many steps apart.
    """
    return _trips.run_each(continue_run, settings, after=_trips.run_main(settings)).table


def continue_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The continuations of one seed."""
    main, start, _ = _trips.load_last_branch(settings, point["seed"], parents, device)
    last = length(settings)
    ends = np.concatenate([_walk(main, start, ENDS_STREAM + i, [last]) for i in range(COUNT)])
    along = _walk(main, start, ENDS_STREAM, [last * (i + 1) // COUNT for i in range(COUNT)])
    drawn = rng(main.seed, "eval", 0, ENDS_STREAM).standard_normal(ends.shape)
    drawn *= _radius(ends) / _radius(drawn)
    rows = [_describe(points) for points in (ends, drawn, along)]
    return pd.DataFrame(rows).assign(arm=ARMS)


def _walk(main: _branches.Main, start: training.State, stream: int, stops: list[int]) -> np.ndarray:
    """The weights after each of so many steps on the mini-batches of a stream, (stops, parameters)
    float64.
    """
    points = _trips.walk(main, start, main.rate, stream, stops)
    return np.stack([weights.double().cpu().numpy() for _, weights in points])


def _describe(points: np.ndarray) -> dict[str, float]:
    """The metrics of points, (n, d)."""
    pairs = list(combinations(range(len(points)), 2))
    distances = np.array([np.linalg.norm(points[i] - points[j]) for i, j in pairs])
    centred = points - points.mean(0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = np.array([units[i] @ units[j] for i, j in pairs])
    return {
        "spread": float(distances.std(ddof=1) / distances.mean()),
        "largest_cosine": float(np.abs(cosines + 1 / (len(points) - 1)).max()),
        "radius": _radius(points),
    }


def _radius(points: np.ndarray) -> float:
    """RMS distance from their mean."""
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))
