"""Sections 1 and 4 on a network: how far a run keeps from its average, by rate, along steep directions.

r = sqrt(sum_i Var(u_i . theta_t)) over a window,    r ~ lambda^s,    Lemma 1: s = 1/2
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import curvature, training
from replicate.sources.images import OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _hessian, _trips
from replicate.sources.sandler2023trajectories._fits import fit_power
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import rng

ARMS = ("steep", "random")
RATE_FACTORS = (0.25, 0.5, 1.0, 2.0)  # of the main run's rate; the claims file's


def window(settings: Settings) -> int:
    """Steps in which a run settles at its rate, and as many in which it is measured."""
    return min(max(_trips.TRIP_LOOKS), settings.longest)


def operations(settings: Settings) -> float:
    """Multiplications and additions of Hessian products and a run a rate."""
    if not settings.directions:
        return 0.0
    products = settings.directions * settings.hessian_images * _trips.PRODUCT_COST
    steps = products / settings.batch + 2 * window(settings) * len(RATE_FACTORS)
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged, of each seed and arm: slope, the exponent of the radius."""
    places = [name for name in table if name not in ("factor", "radius")]
    slopes = table.groupby(places, sort=False, dropna=False)[["factor", "radius"]].apply(
        lambda rows: fit_power(rows.factor.to_numpy(), rows.radius.to_numpy())
    )
    return slopes.rename("slope").reset_index()


@experiment(
    fields={"arm": ARMS},
    metrics=("slope",),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(32, "Lemma 1 on a network: the radius by rate")},
)
def radius_by_rate(settings: Settings) -> pd.DataFrame:
    """Distances of runs at four rates from their averages, after a window in which they settle.

    Columns: seed, factor (of the main run's rate), arm, radius (RMS distance within the directions).
    Arms: steep (the first third of Lanczos' directions at the average of the last window), random (as
    many orthonormal random directions, along which curvature is near 0). Empty without `directions`.
    """
    if not settings.directions:
        return pd.DataFrame()
    return _trips.run_each(follow_rates, settings, after=_trips.run_main(settings)).table


def follow_rates(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed, from the last branch point."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    middle, steps = ends[f"swa k={max(settings.swa)}"].to(device).float(), window(settings)
    spectrum = _hessian.find_directions(main, middle, settings.directions)
    count = max(1, len(spectrum) // 3)
    drawn = rng(main.seed, "eval", 0, _hessian.FIRST_VECTORS + 1)
    flat = np.linalg.qr(drawn.standard_normal((len(middle), count)))[0].T
    groups = dict(zip(ARMS, (spectrum.vectors[:count], middle.new_tensor(flat)), strict=True))
    rows = []
    for factor in RATE_FACTORS:
        rate, stop = scale(main.rate, factor), start.step + steps
        settled = training.branch(start, main.data, rate, main.seed, OTHER, stop)
        paths = {arm: curvature.Projection(vectors, middle) for arm, vectors in groups.items()}
        training.branch(settled, main.data, rate, main.seed, OTHER, stop + steps,
                        averages=tuple(paths.values()))  # fmt: skip
        rows += [{"factor": factor, "arm": arm, "radius": float(np.sqrt(each.path.var(0).sum()))}
                 for arm, each in paths.items()]  # fmt: skip
    return pd.DataFrame(rows)


def scale(rate: Callable[[int], float], factor: float) -> Callable[[int], float]:
    """A schedule times a factor."""
    return lambda step: factor * rate(step)
