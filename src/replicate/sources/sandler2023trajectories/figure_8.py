"""Figure 8: the distance from a run, along the way, to where an independent continuation ends.

    d_t = |theta_t - theta'_T|,   theta' leaves the run at T/2 with other mini-batches

Also section 1, where such ends lie as on a sphere: in `continuations`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import training
from replicate.sources.images import MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import SEED_LIMIT

ENDS_OF_OTHERS = ("continuation", "another initialisation")
ARMS = (*ENDS_OF_OTHERS, "before the branch")
LOOKS_A_HALF = 24  # ours; so many times before the branch point and after it
LAST_LOOKS = LOOKS_A_HALF // 3  # looks of the last third of a half


def operations(settings: Settings) -> float:
    """Multiplications and additions of the run, its continuation and the run of another
    initialisation.
    """
    steps = 4 * settings.first_branch
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged, of each seed and arm: falls, the share of looks up to the branch
    point at which the distance is less than at the look before; drift, how much the mean distance
    of the last sixth of the run is above that of the sixth before, over the mean of both.

    The arm "before the branch" has that drift for the looks just before the branch point.
    """
    origin = [
        name for name in table if name in ("dataset", "seed", "commit", "device", "setting", "diverged")
    ]  # fmt: skip
    rows = []
    for key, curve in table.groupby([*origin, "arm"], sort=False, dropna=False):
        distances = curve.sort_values("look").distance.to_numpy()
        row = dict(zip([*origin, "arm"], key, strict=True))
        before = distances[: LOOKS_A_HALF + 1]
        falls = float((np.diff(before) < 0).mean()) if len(distances) > 1 else np.nan
        rows.append({**row, "falls": falls, "drift": _drift(distances)})
        if row["arm"] == ENDS_OF_OTHERS[0]:
            rows.append({**row, "arm": ARMS[-1], "falls": np.nan, "drift": _drift(before)})
    return pd.DataFrame(rows)


def _drift(distances: np.ndarray) -> float:
    """Over the last LAST_LOOKS looks; NaN where there are fewer."""
    if len(distances) < LAST_LOOKS:
        return np.nan
    first, second = np.split(distances[-LAST_LOOKS:], 2)
    return float((second.mean() - first.mean()) / distances[-LAST_LOOKS:].mean())


@experiment(
    fields={"arm": ARMS},
    metrics=("falls", "drift"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(42, "Figure 8: the distance to an independent end")},
)
def figure_8(settings: Settings) -> pd.DataFrame:
    """Distances from a run at the constant rate, twice as long as the main run's first branch point,
    to the ends of other runs (Fig. 8).

    Columns: seed, arm, look (0 at the start, LOOKS_A_HALF at the branch point), step, distance
    (Euclidean). Arms: continuation, which leaves the run half way with other mini-batches and ends
    when it does; another initialisation, a run that shares nothing with it, as long as up to the
    branch point.
    """
    return _trips.run_each(follow_run, settings).table


def follow_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The run of one seed, and the distances to both ends."""
    main = _branches.Main.load(settings, point["seed"], device)
    half = settings.first_branch
    stops = [round(half * look / LOOKS_A_HALF) for look in range(2 * LOOKS_A_HALF + 1)]
    state, path = main.state(), {}
    for stop in stops:
        state, _ = training.advance(state, main.data, main.rate, main.seed, MAIN, stop)
        path[stop] = training.flat_weights(state.model)
        if stop == half:
            branched = training.branch(state, main.data, main.rate, main.seed, OTHER, 2 * half)
    ends = {ENDS_OF_OTHERS[0]: branched, ENDS_OF_OTHERS[1]: _train_another(main, half)}
    rows = [
        {"arm": arm, "look": look, "step": stop,
         "distance": training.distance(path[stop], training.flat_weights(end.model))}
        for arm, end in ends.items() for look, stop in enumerate(stops)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _train_another(main: _branches.Main, steps: int) -> training.State:
    """A run from the initial weights of a seed that nobody else has, on its mini-batches."""
    other = _branches.Main(
        main.settings, SEED_LIMIT - 1 - main.seed, main.device, main.images, main.data
    )
    state, _ = training.advance(other.state(), main.data, main.rate, other.seed, MAIN, steps)
    return state
