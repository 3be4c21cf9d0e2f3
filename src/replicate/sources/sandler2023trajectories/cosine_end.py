"""Figure 14's caption: how accurate a run is at the end of a cosine, beside runs at a constant rate.

The runs under the cosine are those of `figure_14`, the others those of `figure_5` up to their end.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from replicate import training
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.figure_14 import length, run_cosine
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("cosine", "constant")
METRICS = ("train_loss", "train_top1", "test_loss", "top1")


def operations(settings: Settings) -> float:
    """Multiplications and additions of both runs and the evaluation of their ends."""
    steps = _branches.count_training(settings, length(settings) + settings.steps)
    ends = _branches.count_evaluation(settings, len(ARMS))
    return _trips.count_seeds(settings) * (steps + ends)


@experiment(
    fields={"arm": ARMS},
    metrics=METRICS,
    datasets=("digits", "imagenet"),
    needs_data=True,
    operations=operations,
    units=_trips.count_seeds,
)
def cosine_end(settings: Settings) -> pd.DataFrame:
    """Losses (nats) and accuracies (fractions) where runs end (Fig. 14, caption).

    Columns: seed, arm, train_loss, train_top1, test_loss, top1. Arms: cosine, constant (the main
    run's end, which may be at another step).
    """
    falling = _trips.run_each(run_cosine, settings).table.assign(arm="cosine")
    main = _trips.run_main(settings)
    constant = _trips.run_each(see_end, settings, after=main).table.assign(arm="constant")
    return pd.concat([falling, constant], ignore_index=True)[["seed", "arm", *METRICS]]


def see_end(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The raw weights at the end of the last window of a main run."""
    main = _branches.Main.load(settings, point["seed"], device)
    ends, _ = training.load_tensor_file(parents[0] / f"branch-{settings.branches - 1}-ends.ckpt")
    return pd.DataFrame([main.evaluator()(ends[f"raw k={settings.longest}"].to(device))])
