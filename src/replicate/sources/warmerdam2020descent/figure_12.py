"""Figure 12: every method on a net with ReLU."""

from __future__ import annotations

import pandas as pd

from replicate.sources.protocol import Evidence, experiment
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.settings import Settings


@experiment(
    datasets=("figure12",),
    evidence={"figure12": Evidence(50, "KeepStepping at the source's full size")},
    **_judging.DECLARED,
)
def figure_12(settings: Settings) -> pd.DataFrame:
    """100K rows, 10 columns, ReLU, rate 1e-4, on the rows themselves. Columns: see
    `_curves.run_curves`.
    """
    return _curves.run_curves(settings)
