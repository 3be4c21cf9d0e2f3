"""Where the time goes, and whether the cost model that follows from it predicts what real loops gain by walking."""

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs
from replicate.models.chain import chain
from replicate.optim import SGD, KeepStepping
from replicate.sources.warmerdam2020descent.curves import printed, seconds_of_parts
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.training import full_batch as loops

WALKS = (2, 8, 32)  # mini-steps a gradient
STRETCH = 64  # mini-steps that each loop goes at least, all of them on the plateau


def shares(settings: Settings) -> pd.DataFrame:
    """Seconds of the parts of a training step. Columns: seed (a block of repeats), part, seconds (median of repeats).

    Parts: those of `loops.clock`; of the regression loss, gradient and step, as its printed loop calls them in jax.
    """
    grid = [{"block": b} for b in range(settings.blocks)]
    run = seconds_of_regression if settings.dataset == "regression" else seconds_of_parts
    return runs.each(run, settings, grid).table.rename(columns={"block": "seed"})


def break_even(settings: Settings) -> pd.DataFrame:
    """Process seconds a mini-step on the plateau, of SGD and of walks of some lengths, and what the cost model says.

    Columns: seed (a block), walk (mini-steps a gradient), measured and predicted (speed-up over SGD).
    """
    grid = [{"block": b} for b in range(settings.blocks)]
    return runs.each(timed_walks, settings, grid).table.rename(columns={"block": "seed"})


def seconds_of_regression(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The printed regression loop in jax: columns part, seconds (median of repeats)."""
    data = descent.regression(settings.rows, settings.columns, point["block"], dtype="float32")
    clock = descent.regression_seconds(data.x, data.y, settings.lr, settings.repeats, "float32")
    kept = {part: clock[part] for part in ("loss", "gradient", "step")}
    return pd.DataFrame([{"part": part, "seconds": float(np.median(values))} for part, values in kept.items()])


def timed_walks(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """Real torch loops from the same start, timed; r from the parts of a step, timed in between."""
    x, y, _ = printed(settings, point["block"])
    x, y = loops.tensors(x, y, device)
    begin = {"seconds": seconds_a_step(settings, x, y, device, 0, point["block"])}
    clock = loops.clock(_model(settings, point["block"], device), x, y, 9)
    parts = {name: float(np.median(seconds)) for name, seconds in clock.items()}
    whole = parts["forward"] + parts["backward"] + parts["step"]
    r = (parts["check"] + parts["step"]) / whole
    found = []
    for walk in WALKS:
        own = seconds_a_step(settings, x, y, device, walk, point["block"])
        begin["again"] = seconds_a_step(settings, x, y, device, 0, point["block"])
        plain = (begin["seconds"] + begin["again"]) / 2
        # The first mini-step's update is the SGD step's own, so one update less is paid than checks.
        found.append({"walk": walk, "measured": plain / own, "predicted": walk / (1 + r * walk), "r": r})
    return pd.DataFrame(found)


def seconds_a_step(settings: Settings, x, y, device: str, walk: int, seed: int) -> float:
    """Process seconds a mini-step of a walk of so many mini-steps a gradient; 0 for SGD."""
    model = _model(settings, seed, device)
    if walk:
        optimizer = KeepStepping(model.parameters(), lr=settings.lr, max_steps=walk)
    else:
        optimizer = SGD(model.parameters(), lr=settings.lr)
    outer = -(-STRETCH // max(walk, 1))
    _, seconds = loops.train(model, x, y, optimizer, outer + 1, walks=bool(walk))
    steps = optimizer.total_mini_steps * outer / (outer + 1) if walk else outer
    return float(seconds[-1] - seconds[0]) / steps  # the first step warms up


def _model(settings: Settings, seed: int, device: str):
    return chain(settings.dims, seed, settings.activation).to(device)
