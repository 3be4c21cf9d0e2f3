"""Figure 6: how far the midpoint of a run and the run at half the rate come apart, and how far two
runs at one rate.

    theta_t, theta'_t     from theta_0 at rate lambda, on the same and on other mini-batches
    (theta_0 + theta_t)/2 the midpoint
    theta^_t              from theta_0 at rate lambda / 2, on the same mini-batches

    |(theta_0 + theta_t)/2 - theta^_t|      against      |theta_t - theta'_t|
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from replicate import averaging, training
from replicate.sources.images import MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.figure_5 import METRICS
from replicate.sources.sandler2023trajectories.settings import Settings

ENDS_COMPARED = ("raw", "midpoint", "half-rate", "other-batches", "other half-rate")
MEANS = tuple(f"{arm} all along" for arm in ENDS_COMPARED)  # over the looks; what `derive` adds
RATES_AND_STREAMS = {  # arm -> the factor of the rate, the stream of mini-batches
    "raw": (1.0, MAIN),
    "half-rate": (0.5, MAIN),
    "other-batches": (1.0, OTHER),
    "other half-rate": (0.5, OTHER),
}
COUNTERPARTS = {
    "raw": "other-batches",
    "other-batches": "raw",
    "midpoint": "half-rate",
    "half-rate": "midpoint",
    "other half-rate": "midpoint",
}


def looks(settings: Settings) -> list[int]:
    """The steps of the trips at which weights are compared."""
    return _trips.looks(settings, max(_trips.TRIP_LOOKS))


def operations(settings: Settings) -> float:
    """Multiplications and additions of four trips and the evaluation of five points a look."""
    stops = looks(settings)
    trips = _branches.count_training(settings, len(RATES_AND_STREAMS) * max(stops))
    points = _branches.count_evaluation(settings, len(ENDS_COMPARED) * len(stops))
    return _trips.count_seeds(settings) * (trips + points)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged: each arm once more, its losses averaged over the looks."""
    origin = [name for name in ("dataset", "seed", "commit", "device", "setting") if name in table]
    means = table.groupby([*origin, "arm"], as_index=False, sort=False).mean(numeric_only=True)
    means = means.assign(arm=means.arm + " all along", k=float("nan"))
    return pd.concat([table, means], ignore_index=True)


@experiment(
    fields={"arm": (*ENDS_COMPARED, *MEANS), "k": looks},
    metrics=(*METRICS[:4], "apart", "travelled"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(48, "Figure 6: midpoint and half-rate run come apart")},
)
def figure_6(settings: Settings) -> pd.DataFrame:
    """Distances and losses along trips from the last branch point of each of the first seeds (Fig.
    6).

    Columns: seed, arm, k (steps), apart (Euclidean distance to its counterpart: of raw and
    other-batches to each other, of both half-rate runs to the midpoint), travelled (from the
    start), and the losses and accuracies of `figure_5`. Arms: raw and half-rate on the main run's
    mini-batches, other-batches and other half-rate on others.
    """
    return _trips.run_each(follow_trips, settings, after=_trips.run_main(settings)).table


def follow_trips(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The four trips of one seed, and all that is measured where they are looked at."""
    main, start, _ = _trips.load_last_branch(settings, point["seed"], parents, device)
    origin, metrics = training.flat_weights(start.model), main.evaluator()
    paths = {
        arm: dict(_trips.walk(main, start, _scale(main.rate, factor), stream, looks(settings)))
        for arm, (factor, stream) in RATES_AND_STREAMS.items()
    }
    mu = averaging.two_point(1)  # of every length the same two weights
    rows = []
    for k in looks(settings):
        points = {arm: path[k] for arm, path in paths.items()}
        points["midpoint"] = float(mu[0]) * origin.double() + float(mu[-1]) * points["raw"].double()
        for arm in ENDS_COMPARED:
            distances = {
                "apart": training.distance(points[arm], points[COUNTERPARTS[arm]]),
                "travelled": training.distance(points[arm], origin),
            }
            rows.append({"arm": arm, "k": k, **metrics(points[arm]), **distances})
    return pd.DataFrame(rows)


def _scale(rate: Callable[[int], float], factor: float) -> Callable[[int], float]:
    return lambda step: factor * rate(step)
