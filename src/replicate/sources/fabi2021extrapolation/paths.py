"""The published post's figures: Adam on three functions of two numbers, GD+, and controls, step by
step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import _toys
from replicate.sources.fabi2021extrapolation.presets import TOYS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment

EVERY = 200  # first steps of a path, which are all in the table; after them every SPARSE-th is
SPARSE = 10
REPOSITORY_STEP = 40  # of the repository's default run
REPOSITORY_DT = 1e-5
EARLY = 100  # steps
# End values read off the post's figures, two digits.
READ = {
    "rosenbrock": {"adam in the figure": 1.7e-5, "GD+ in the figure": 2.1e-6},
    "beale": {"adam in the figure": 2.6e-3, "GD+ in the figure": 5.7e-6},
    "goldstein-price": {"adam in the figure": 9e-7},
}


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per path: d at its end and at two steps, its shape; one row per value read off the
    figure.
    """
    (name,) = table.dataset.unique()
    read = pd.DataFrame(READ[name].items(), columns=["arm", "distance"])
    rows = [{"arm": arm, "dt": dt if dt else np.nan, **_measures(path, PROBLEMS[name].minima)}
            for (arm, dt), path in table.groupby(["arm", "dt"], sort=False)]  # fmt: skip
    return pd.concat([pd.DataFrame(rows), read], ignore_index=True)


def _measures(path: pd.DataFrame, minima: tuple) -> dict[str, float]:
    places = path[["x", "y"]].to_numpy()
    local = np.array(minima[1]) if len(minima) > 1 else np.nan
    d = path.set_index("step").distance
    early = d.iloc[:EARLY].to_numpy()
    norm = np.linalg.norm
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "distance": d.iloc[-1],
            "value": path.value.iloc[-1],
            "distance at 100": d.get(EARLY, np.nan),
            "distance at 40": d.get(REPOSITORY_STEP, np.nan),
            "maxima": ((early[1:-1] > early[:-2]) & (early[1:-1] > early[2:])).sum(),
            "variation": np.abs(np.diff(np.sqrt(early))).sum(),
            "detour": norm(np.diff(places, axis=0), axis=1).sum() / norm(places[-1] - places[0]),
            "to local minimum": norm(places[-1] - local),
        }


@experiment(
    fields={
        "arm": (*_toys.ARMS, *READ["beale"]),
        "dt": lambda settings: (settings.dt, *settings.strides, REPOSITORY_DT),
    },
    metrics=("distance", "value", "distance at 100", "distance at 40", "maxima", "variation", "detour",
             "to local minimum"),
    datasets=tuple(TOYS),
    derive=derive,
    unbounded=("distance", "value"),  # of a path that diverges
)  # fmt: skip
def paths(settings: Settings) -> pd.DataFrame:
    """The figures: columns arm, dt, step, x, y, distance (squared), value (of the function).

    Every step of the first 200, then every tenth. dt: that of the table, the strides, and that of
    the repository's run.
    """
    return runs.each(path_run, settings, [{"arm": arm} for arm in settings.arms]).table


def path_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """All paths of one arm from the figure's start, side by side."""
    problem = PROBLEMS[settings.dataset]
    arm = point["arm"]
    dts = [0.0] if arm == "adam" else sorted({settings.dt, *settings.strides, REPOSITORY_DT})
    starts = np.tile(settings.start, (len(dts), 1))
    path = _toys.run(settings, arm, [(settings.lr, dt) for dt in dts], starts)
    steps = [t for t in range(settings.steps + 1) if t <= EVERY or t % SPARSE == 0]
    tables = []
    for lane, dt in enumerate(dts):
        places = path[steps, lane]
        distance = _toys.squared_distance(places, problem)
        table = {
            "dt": dt,
            "step": steps,
            "x": places[:, 0],
            "y": places[:, 1],
            "distance": distance,
        }
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a path that diverges is drawn as far as it goes
            tables.append(pd.DataFrame(table | {"value": problem.f(places)}))
    return pd.concat(tables, ignore_index=True)


def landscapes(table: pd.DataFrame, points: int = 90) -> pd.DataFrame:
    """The functions that the paths of `table` move on, around them: columns dataset, x, y, value."""
    tables = []
    for dataset, paths_of in table.groupby("dataset", sort=False):
        problem = PROBLEMS[dataset]
        places = np.vstack(
            [paths_of[paths_of.arm == "adam"][["x", "y"]].to_numpy(), [problem.minimum]]
        )
        room = 0.2 * np.ptp(places, axis=0) + 0.2
        corners = zip(places.min(0) - room, places.max(0) + room, strict=True)
        x, y = (
            axis.ravel() for axis in np.meshgrid(*(np.linspace(*ends, points) for ends in corners))
        )
        value = problem.f(np.stack([x, y], axis=-1))
        tables.append(pd.DataFrame({"dataset": dataset, "x": x, "y": y, "value": value}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
