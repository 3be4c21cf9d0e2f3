""" "About 80 % is the gradient": where the time of a training step goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import descent, runs, training
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.warmerdam2020descent import _curves
from replicate.sources.warmerdam2020descent.settings import Settings

PRINTED_LOOP = ("loss", "gradient", "step")  # parts of the printed loop of the regression
TURNS = ("", training.full_batch.AGAIN)  # after a part's name: the second is the same work again


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed: seconds of each part, of the gradient and of a whole loop, with SGD and
    with Adam.
    """
    seconds = table.pivot(index="seed", columns="part", values="seconds")
    if "forward" not in seconds:
        return seconds.assign(loop=seconds[list(PRINTED_LOOP)].sum(axis=1)).reset_index()
    gradients = {
        f"gradient{turn}": seconds[f"forward{turn}"] + seconds[f"backward{turn}"] for turn in TURNS
    }
    gradient = gradients["gradient"]
    loops = {"loop": gradient + seconds["step"], "loop with Adam": gradient + seconds.adam}
    return seconds.assign(**gradients, **loops).reset_index()


TIMED = ("loss", "forward", "check", "printed check", "backward", "gradient", "step", "adam")


@experiment(
    metrics=(*(part + turn for turn in TURNS for part in TIMED), "loop", "loop with Adam"),
    datasets=("regression", "figure9", "figure11", "figure12", "figure13", "resnet18"),
    evidence={"resnet18": Evidence(60, "what a walk saves on a ResNet-18")},
    derive=derive,
    units=lambda settings: settings.blocks,
    clocked={"seconds": None},
)
def shares(settings: Settings) -> pd.DataFrame:
    """Seconds of the parts of a training step.

    Columns: seed (a block of repeats), part, seconds (median of repeats). Parts: those of
    `full_batch.clock`; of the regression loss, gradient and step, as its printed loop calls them in
    jax, and each of them again.
    """
    grid = [{"block": b} for b in range(settings.blocks)]
    run = time_regression if settings.dataset == "regression" else _curves.time_parts
    return runs.each(run, settings, grid).table.rename(columns={"block": "seed"})


def time_regression(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The printed regression loop in jax: columns part, seconds (median of repeats)."""
    data = descent.regression(settings.rows, settings.columns, point["block"], dtype="float32")
    clock = descent.regression_seconds(
        data.x, data.y, settings.lr, settings.repeats, "float32", only=PRINTED_LOOP
    )
    parts = [part + turn for turn in TURNS for part in PRINTED_LOOP]
    return pd.DataFrame(
        [{"part": part, "seconds": float(np.median(clock[part]))} for part in parts]
    )
