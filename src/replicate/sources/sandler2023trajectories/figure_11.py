"""Figure 11b: what the average leaves of the loss that the fast and the slow direction hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.sandler2023trajectories._two_scales import (
    draw_runs,
    settle_losses,
    tabulate_expected,
)
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

SHARES_OF_EMA = {
    "fast": 0.0416,
    "slow": 0.748,
}  # of eq. 19 at section 5.1's numbers; the paper prints none


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def figure_11(settings: Settings) -> pd.DataFrame:
    """Columns claim, case, value, control, what, arm, step, direction, loss, run.

    what: "claim", a row to judge; "expected", exact mean losses by step and direction; "drawn",
    losses of one run each seed.
    """
    claims = pd.DataFrame(_shares(), columns=["claim", "case", "value", "control"])
    curves = pd.concat([tabulate_expected(), draw_runs(settings.seeds)])
    return pd.concat([claims.assign(what="claim"), curves])


def _shares() -> Iterator[tuple]:
    """TRAJ-44: stationary variance of the average over that of the raw run, by direction."""
    floors = settle_losses()
    ratios = dict(zip(SHARES_OF_EMA, floors["EMA"] / floors["large rate"], strict=True))
    for direction, other in (("fast", "slow"), ("slow", "fast")):
        share = SHARES_OF_EMA[direction]
        yield f"TRAJ-44.{direction}", "", ratios[direction] / share, ratios[other] / share
    yield "TRAJ-44.larger", "", ratios["fast"] / ratios["slow"], np.nan
