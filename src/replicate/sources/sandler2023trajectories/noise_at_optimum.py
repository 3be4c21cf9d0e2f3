"""Section 4, after equation 7, on a network: whether a batch's gradient at the optimum is orthogonal to
where the run stands.

    cos(theta_t - theta*, b_x),    theta* the average of a window around t, b_x = grad L_x(theta*)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from replicate import training
from replicate.sources import images as kit
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("fresh batches", "recent batches")
FRESH_BATCHES = 500  # the claims file's
RECENT_BATCHES = 10  # the same
FRESH_STREAM = 300  # of mini-batches that nobody trains on


def half_window(settings: Settings) -> int:
    """Steps from the last branch point to t."""
    return max(settings.swa) // 2


def operations(settings: Settings) -> float:
    """Multiplications and additions of half a window and the gradients."""
    steps = half_window(settings) + FRESH_BATCHES + RECENT_BATCHES
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


@experiment(
    fields={"arm": ARMS},
    metrics=("cosine",),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(31, "section 4: noise is orthogonal to the displacement")},
)
def noise_at_optimum(settings: Settings) -> pd.DataFrame:
    """Mean cosines between the displacement from the optimum and gradients of batches there.

    Columns: seed, arm, cosine. Arms: fresh batches (of a stream that nobody trains on), recent
    batches (the last that the run has taken before t).
    """
    return _trips.run_each(compare_noise, settings, after=_trips.run_main(settings)).table


def compare_noise(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed, in the middle of the last window."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    optimum, half = ends[f"swa k={max(settings.swa)}"].to(device), half_window(settings)
    ((_, weights),) = _trips.walk(main, start, main.rate, MAIN, [half])
    away, stop = weights.double() - optimum.double(), start.step + half
    batches = {
        ARMS[0]: [(FRESH_STREAM, step) for step in range(FRESH_BATCHES)],
        ARMS[1]: [(MAIN, step) for step in range(max(0, stop - RECENT_BATCHES), stop)],
    }
    rows = [{"arm": arm, "cosine": _mean_cosine(main, optimum.float(), away, places)}
            for arm, places in batches.items()]  # fmt: skip
    return pd.DataFrame(rows)


def _mean_cosine(main: _branches.Main, optimum, away, places: Iterable[tuple[int, int]]) -> float:
    """Over mini-batches, each of a stream and step."""
    model = kit.network(main.settings, 0, main.images, main.device)
    cosines = []
    for stream, step in places:
        surface = training.Surface(model, [main.data.batch(main.seed, stream, step)])
        gradient = surface.gradient(optimum).double()
        cosines.append(float(gradient @ away / gradient.norm() / away.norm()))
    return sum(cosines) / len(cosines)
