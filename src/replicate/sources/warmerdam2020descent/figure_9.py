"""Figure 9: every method on the first deep net."""

from __future__ import annotations

import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.settings import Settings


@experiment(datasets=("figure9",), **_judging.DECLARED)
def figure_9(settings: Settings) -> pd.DataFrame:
    """10K rows, 20 columns, deep linear net, rate 1e-3. Columns: see `_curves.run_curves`."""
    return _curves.run_curves(settings)
