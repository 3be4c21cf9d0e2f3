"""A row of a speed table, and the goals that rows are held against."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from replicate import floors

# (goal, beginning of the row's name) -> (least, most) that was wanted before anything had run on a GPU.
GOALS = {
    ("G1", "resnet18 b128"): (4.0, None),
    ("G2", "resnet18 b128: eager float32"): (2.5, None),
    ("G2", "resnet18 b128: eager bfloat16"): (1.8, None),
    ("G3", "resnet18 b128"): (0.22, None),
    ("G3", "resnet18 b512"): (0.30, None),
    ("G3", "resnet34 b512"): (0.30, None),
    ("G4", "resnet18 b128"): (1.5, None),
    ("G4", "resnet18 b1024"): (1.0, None),
    ("G5", "Lookahead"): (None, 0.01),
    ("G6", "extrapolation"): (None, 0.04),
    ("G7", "64 averages of a step"): (None, 0.08),
    ("G7", "64 averages: one by one"): (12.0, None),
    ("G8", "4 resnet18"): (1.15, None),
    ("G8", "16 resnet8"): (4.0, None),
    ("G9", ""): (None, 0.0),
    ("host", ""): (None, 0.05),
    ("G12", ""): (None, 90.0),
}


@dataclass(frozen=True)
class Row:
    """One thing that was measured. values: of every round."""

    goal: str
    what: str
    unit: str
    values: Sequence[float]


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """A line a row: median of the rounds with the smallest and largest, the goal's bounds (NaN where open), and `met`.

    `met` is "yes" only if every round meets the goal, "no" if none does, "in part" otherwise, "" without a goal.
    """
    lines = []
    for row in rows:
        values = np.asarray(row.values, dtype=float)
        least, most = next(
            (b for (g, start), b in GOALS.items() if g == row.goal and row.what.startswith(start)), (None,) * 2
        )
        low, high = -np.inf if least is None else least, np.inf if most is None else most
        inside = (low <= values) & (values <= high)
        met = "" if least is None and most is None else "yes" if inside.all() else "in part" if inside.any() else "no"
        numbers = {"value": np.median(values), "low": values.min(), "high": values.max(), "rounds": len(values)}
        bounds = {"at_least": np.nan if least is None else least, "at_most": np.nan if most is None else most}
        lines.append({"goal": row.goal, "what": row.what, "unit": row.unit, **numbers, **bounds, "met": met})
    return pd.DataFrame(lines)


def turns(
    jobs: Mapping[str, Callable[[int], None]], steps: int, rounds: int, device: str, wall: bool = False
) -> dict[str, np.ndarray]:
    """Seconds a step of every job in every round, (rounds,) each; the jobs take turns. wall: time that passes."""
    taken = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            (device_seconds,) = floors.seconds(lambda job=job: job(steps), device, 1)
            # The round that warms up is as long as the one that counts.
            taken[name].append((time.perf_counter() - start) / 2 if wall else device_seconds)
    return {name: np.array(seconds) / steps for name, seconds in taken.items()}
