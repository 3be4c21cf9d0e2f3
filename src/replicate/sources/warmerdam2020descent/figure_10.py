"""Figure 10: Figure 9 at a tenth of the rate."""

from __future__ import annotations

import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.settings import Settings


@experiment(datasets=("figure10",), **_judging.DECLARED)
def figure_10(settings: Settings) -> pd.DataFrame:
    """Figure 9 at rate 1e-4. Columns: see `_curves.run_curves`."""
    return _curves.run_curves(settings)
