"""Section 5.1 on a network: what an exponential moving average leaves of a run's variance, by
direction of the Hessian.

    r_i = Var(u_i . e_t) / Var(u_i . theta_t),   u_i by curvature, the largest first
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import curvature, training
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _hessian, _trips
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import rng

ARMS = ("steep", "flat", "random", "other random")
THIRDS = 3  # steep: the first third of the directions, flat: the last


def window(settings: Settings) -> int:
    """Steps of the moving average: of SWA's the longest of Figure 5, or a third of the path."""
    return min(max(_trips.TRIP_LOOKS), settings.longest // 3)


def operations(settings: Settings) -> float:
    """Multiplications and additions of Hessian products and of the path along the directions."""
    products = settings.directions * settings.hessian_images * _trips.PRODUCT_COST
    steps = settings.longest + products / settings.batch
    each = _branches.count_training(settings, steps) if settings.directions else 0.0
    return _trips.count_seeds(settings) * each


@experiment(
    fields={"arm": ARMS},
    metrics=("share", "curvature"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(37, "averaging takes more of steep directions")},
)
def steep_directions(settings: Settings) -> pd.DataFrame:
    """The share of the variance of a run that its moving average leaves, along directions of the
    Hessian (section 5.1).

    Columns: seed, arm, share (mean over the directions), curvature (the same). Arms: steep and flat
    (the first and the last third of Lanczos' directions), random and other random (as many random
    directions each). Empty without `directions`.
    """
    if not settings.directions:
        return pd.DataFrame()
    return _trips.run_each(follow_directions, settings, after=_trips.run_main(settings)).table


def follow_directions(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed: the path over the longest window after the last branch point."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    middle = ends[f"swa k={max(settings.swa)}"].to(device).float()
    spectrum = _hessian.find_directions(main, middle, settings.directions)
    count = max(1, len(spectrum) // THIRDS)
    groups = (
        spectrum.vectors[:count],
        spectrum.vectors[-count:],
        *_draw_directions(main.seed, middle, count),
    )
    curvatures = [spectrum.values[:count].mean(), spectrum.values[-count:].mean(), np.nan, np.nan]
    paths = tuple(curvature.Projection(vectors, middle) for vectors in groups)
    stop = start.step + settings.longest
    training.branch(start, main.data, main.rate, main.seed, MAIN, stop, averages=paths)
    shares = [float(_find_shares(each.path, window(settings)).mean()) for each in paths]
    return pd.DataFrame({"arm": ARMS, "share": shares, "curvature": curvatures})


def _draw_directions(seed: int, weights, count: int):
    """Two groups of orthonormal random rows, (count, parameters) each."""
    drawn = rng(seed, "eval", 0, _hessian.FIRST_VECTORS + 1).standard_normal(
        (len(weights), 2 * count)
    )
    rows = weights.new_tensor(np.linalg.qr(drawn)[0].T)
    return rows[:count], rows[count:]


def _find_shares(path: np.ndarray, steps: int) -> np.ndarray:
    """Variance of the moving average of a path, (steps, m), over the variance of the path itself,
    after one window of it; delta = 5 / window as in Figure 5.
    """
    delta, averaged, values = 5 / steps, np.empty_like(path), path[0]
    for t, point in enumerate(path):
        values = values + delta * (point - values)
        averaged[t] = values
    return averaged[steps:].var(0) / path[steps:].var(0)
