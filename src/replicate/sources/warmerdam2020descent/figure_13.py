"""Figure 13: every method on one linear map, and on the two that the printed function builds."""

from __future__ import annotations

import pandas as pd

from replicate.sources.protocol import Evidence, experiment
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.settings import Settings


@experiment(
    datasets=("figure13", "figure13code"),
    evidence={"figure13": Evidence(49, "KeepStepping at the source's full size")},
    **_judging.DECLARED,
)
def figure_13(settings: Settings) -> pd.DataFrame:
    """100K rows, 100 columns, no hidden layer, rate 1e-4. Columns: see `_curves.run_curves`."""
    return _curves.run_curves(settings)
