"""Figures 9 and 11a: the loss of a system with a fast and a slow direction, at two rates and averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.sandler2023trajectories._two_scales import (
    AVERAGING_TIME,
    draw_runs,
    follow_losses,
    settle_losses,
    tabulate_expected,
)
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

# Of the paper's curves only the picture exists; these are the levels that section 5.1's numbers
# lead to, computed for the claims file before this code.
FLOORS = {"large rate": 0.02533, "small rate": 0.01005, "EMA": 0.00988}
NAMES_OF_FLOORS = {"large rate": "raw", "small rate": "small-rate", "EMA": "ema"}


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def figure_9(settings: Settings) -> pd.DataFrame:
    """Columns claim, case, value, control, what, arm, step, loss, run.

    what: "claim", a row to judge; "expected", exact mean losses by step; "drawn", losses of one
    run each seed.
    """
    claims = pd.DataFrame([*_floors(), *_times()], columns=["claim", "case", "value", "control"])
    curves = pd.concat([tabulate_expected(), draw_runs(settings.seeds)])
    both = curves.groupby(["what", "arm", "step", "run"], dropna=False, as_index=False).loss.sum()
    return pd.concat([claims.assign(what="claim"), both])


def _floors() -> Iterator[tuple]:
    """TRAJ-43: stationary losses, and which reading of "450 steps" fits."""
    floors = {arm: loss.sum() for arm, loss in settle_losses().items()}
    for arm, name in NAMES_OF_FLOORS.items():
        yield f"TRAJ-43.{name}", "", floors[arm] / FLOORS[arm], np.nan
    yield "TRAJ-43.drop", "", floors["EMA"] / floors["large rate"], np.nan
    half_life = settle_losses(1 - 2 ** (-1 / AVERAGING_TIME))["EMA"].sum()
    apart = [abs(np.log(each / floors["small rate"])) for each in (floors["EMA"], half_life)]
    yield "TRAJ-43.decay", "", apart[0] - apart[1], np.nan


def _times() -> Iterator[tuple]:
    """TRAJ-45: steps until the mean loss is below twice the floor of the large rate."""
    target = 2 * settle_losses()["large rate"].sum()
    losses = {arm: path.sum(1) for arm, path in follow_losses().items()}
    times = {arm: int(np.argmax(loss < target)) for arm, loss in losses.items()}
    ratios = {arm: times[arm] / times["large rate"] for arm in times}
    yield "TRAJ-45.ema", "", ratios["EMA"], ratios["small rate"]
    yield "TRAJ-45.small-rate", "", ratios["small rate"], ratios["EMA"]
