"""The method's real merit: how many rates are good enough."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from replicate import runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _tasks
from replicate.sources.warmerdam2020descent.settings import Settings

GOOD = 1.0  # above an arm's least mean log loss, a factor of 10, up to which a rate is good
SPACING = 0.5  # decades between rates of the sweep


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and arm of the sweep: decades of good rates."""
    heights = table[table.use == "sweep"].pivot(
        index=["seed", "arm"], columns="lr", values="height"
    )
    good = heights.le(heights.min(axis=1) + GOOD, axis=0).sum(axis=1)
    return (good * SPACING).rename("decades of good rates").reset_index()


@experiment(
    fields={"arm": lambda settings: settings.sweep_arms},
    metrics=("decades of good rates",),
    datasets=("figure9", "figure13"),
    derive=derive,
    units=lambda settings: len(settings.sweep_seeds),
)
def rates(settings: Settings) -> pd.DataFrame:
    """Mean log loss against the rate, over six decades, and the tuning runs.

    Columns: seed, arm, lr, use ("sweep" or "tuning"), height (mean log loss over the budget in
    forward-equivalents).
    """
    tuning = _curves.run_tuning(settings, settings.tuned).table.drop(columns="method")
    swept = runs.each(sweep_rates, settings, [{"seed": s} for s in settings.sweep_seeds]).table
    return pd.concat([swept.assign(use="sweep"), tuning.assign(use="tuning")], ignore_index=True)


def sweep_rates(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Some arms at many rates on one seed: columns arm, lr, height."""
    task = _tasks.make_task(settings, point["seed"])
    rows = []
    for arm in settings.sweep_arms:
        heights = [_curves.run_to_mean_log_loss(arm, task, lr, settings) for lr in settings.sweep]
        rows += [
            {"arm": arm, "lr": lr, "height": h}
            for lr, h in zip(settings.sweep, heights, strict=True)
        ]
    return pd.DataFrame(rows)
