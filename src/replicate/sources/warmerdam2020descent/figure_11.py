"""Figure 11: every method on a wider net."""

from __future__ import annotations

import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.settings import Settings


@experiment(datasets=("figure11",), **_judging.DECLARED)
def figure_11(settings: Settings) -> pd.DataFrame:
    """100K rows, 100 columns, width 20, rate 1e-4. Columns: see `_curves.run_curves`."""
    return _curves.run_curves(settings)
