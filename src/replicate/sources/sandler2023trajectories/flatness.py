"""Ours, on section 5.1: how flat the loss is where a run ends, where its average lies, and where the
average's side-trip ends.

    sharpness  the largest eigenvalue of the Hessian,      trace  the sum of all
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from replicate import averaging, curvature
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _hessian, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("start", "raw", "average", "side-trip")
PRODUCTS = 20  # of Lanczos; the largest eigenvalue is then right to less than a thousandth (tests)
PROBES = 20  # random vectors of the trace


def window(settings: Settings) -> int:
    """The longest window of SWA in Figure 5."""
    return max(k for k in settings.swa if k <= max(_trips.TRIP_LOOKS))


def operations(settings: Settings) -> float:
    """Multiplications and additions of the side-trip and of Hessian products."""
    if not settings.directions:
        return 0.0
    products = len(ARMS) * (PRODUCTS + PROBES) * settings.hessian_images * _trips.PRODUCT_COST
    steps = window(settings) + products / settings.batch
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


@experiment(
    fields={"arm": ARMS},
    metrics=("sharpness", "trace"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(38, "flatness before and after averaging")},
)
def flatness(settings: Settings) -> pd.DataFrame:
    """Sharpness and trace of the Hessian of the training loss at four points of the last window.

    Columns: seed, arm, sharpness, trace (nats over squared weights). Arms: start and raw (the
    window's two ends), average (SWA), side-trip (the end of the schedule for it). Empty without
    `directions`.
    """
    if not settings.directions:
        return pd.DataFrame()
    return _trips.run_each(measure_flatness, settings, after=_trips.run_main(settings)).table


def measure_flatness(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The four points of one seed."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    k = window(settings)
    trip = averaging.equivalent_schedule(main.rate, averaging.swa(k), start.step)
    ((_, side),) = _trips.walk(main, start, trip, MAIN, [k])
    ((_, origin),) = _trips.walk(main, start, main.rate, MAIN, [0])
    points = (origin, ends[f"raw k={k}"], ends[f"swa k={k}"], side)
    surface, rows = _hessian.make_surface(main), []
    for arm, weights in zip(ARMS, points, strict=True):
        weights = weights.to(device).float()
        spectrum: curvature.Spectrum = _hessian.find_directions(main, weights, PRODUCTS)
        product = partial(surface.product, weights)
        trace = _hessian.estimate_trace(product, weights, main.seed, PROBES)
        rows.append({"arm": arm, "sharpness": float(spectrum.values[0]), "trace": trace})
    return pd.DataFrame(rows)
