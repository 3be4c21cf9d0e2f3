"""Whether a check is worth its price: what walking gains, by a cost model and in real loops.

gain of J mini-steps per gradient = J / (1 + r J),    r = (check + update) / (forward + backward + update)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import models, optim, runs, training
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _tasks
from replicate.sources.warmerdam2020descent.settings import Settings

WALKS = (2, 8, 32)  # mini-steps per gradient
STRETCH = 64  # mini-steps that each loop goes at least, all of them on the plateau


@experiment(
    fields={"walk": WALKS},
    metrics=("measured", "predicted", "r", "plain", "plain again"),
    datasets=("figure9",),
    units=lambda settings: settings.blocks,
    clocked=dict.fromkeys(("measured", "predicted", "r", "plain", "plain again")),
)
def break_even(settings: Settings) -> pd.DataFrame:
    """Speed-up per mini-step on the plateau of walks of some lengths, measured and by the cost
    model.

    Columns: seed (a block), walk (mini-steps per gradient), measured and predicted (speed-up over
    SGD, in process seconds), r, plain and plain again (seconds of a step of SGD, on either side of
    the walk).
    """
    grid = [{"block": b} for b in range(settings.blocks)]
    return runs.each(time_walks, settings, grid).table.rename(columns={"block": "seed"})


def time_walks(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Real torch loops from the same start, timed; r from the parts of a step, timed in between."""
    x, y, _ = _tasks.make_torch_task(settings, point["block"])
    x, y = training.full_batch.tensors(x, y, device)
    clock = training.full_batch.clock(
        _model(settings, point["block"], device), x, y, settings.repeats
    )
    price = {name: float(np.median(seconds)) for name, seconds in clock.items()}
    r = share_of_check(price)
    rows = []
    for walk in WALKS:
        before = seconds_per_step(settings, x, y, device, 0, point["block"])
        walking = seconds_per_step(settings, x, y, device, walk, point["block"])
        after = seconds_per_step(settings, x, y, device, 0, point["block"])
        # The first mini-step's update is the SGD step's own, so one update less is paid than
        # checks.
        row = {"walk": walk, "predicted": predict_gain(walk, r), "r": r}
        row |= {"plain": before, "plain again": after}
        rows.append(row | {"measured": (before + after) / 2 / walking})
    return pd.DataFrame(rows)


def share_of_check(price: Mapping[str, float]) -> float:
    """r = (check + update) / (forward + backward + update). price: seconds by the names of the
    clock.
    """
    whole = price["forward"] + price["backward"] + price["step"]
    return (price["check"] + price["step"]) / whole


def predict_gain(walk: int, r: float) -> float:
    """J / (1 + r J) of a walk of J mini-steps."""
    return walk / (1 + r * walk)


def seconds_per_step(settings: Settings, x, y, device: str, walk: int, seed: int) -> float:
    """Process seconds per mini-step of a walk of so many mini-steps per gradient; SGD's if there
    are none.
    """
    model = _model(settings, seed, device)
    if walk:
        optimizer = optim.KeepStepping(model.parameters(), lr=settings.lr, max_steps=walk)
    else:
        optimizer = optim.SGD(model.parameters(), lr=settings.lr)
    outer = -(-STRETCH // max(walk, 1))
    _, seconds = training.full_batch.train(model, x, y, optimizer, outer + 1, walks=bool(walk))
    steps = optimizer.total_mini_steps * outer / (outer + 1) if walk else outer
    return float(seconds[-1] - seconds[0]) / steps  # the first step warms up


def _model(settings: Settings, seed: int, device: str):
    return models.chain(settings.dims, seed, settings.activation).to(device)
