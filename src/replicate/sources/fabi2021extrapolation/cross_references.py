"""Equations that the text refers to, against those that it has: X-17."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment

# The labels of all equations and the names in all references to them, as the text has them.
EQUATION_LABELS = (
    "taylorExpansion thirdOrderExtrapolation definitionDerivative backwardDifference firstOrderBackward "
    "secondOrderBackward thirdOrderBackward updateRule firstOrderBackward2 secondOrderBackward2 thirdOrderBackward2 "
    "thirdOrderExtrapolationBackward ode odeAnsatz bdfApproximationFirstDerivative taylorExpansionBDF "
    "bdfApproximationTaylor linearSystemOfEquations bdfFirstOrderDerivative bdfFirstOrderDerivativeGradients "
    "bdfSecondOrderDerivative bdfThirdOrderDerivative thirdOrderExtrapolationBDF"
).split()
REFERENCES = (
    "bdfApproximation bdfApproximationFirstDerivative bdfApproximationTaylor bdfFirstOrderDerivative "
    "bdfSecondOrderDerivative bdfThirdOrderDerivative definitionDerivative firstOrderBackward2 ode secondOrderBackward2 "
    "taylorExpansionBDF thirdOrderBackward2 thirdOrderExtrapolation thirdOrderExtrapolationBDF "
    "thirdOrderExtrapolationBackward updateRule"
).split()


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def cross_references(settings: Settings) -> pd.DataFrame:
    """One row a check: columns claim, case (the references that lead nowhere), value (how many
    equations the one with the fewest leads to), control (the same of all others).
    """
    counts = {name: EQUATION_LABELS.count(name) for name in REFERENCES}
    least = min(counts.values())
    lost = [name for name, count in counts.items() if count == least]
    others = [count for name, count in counts.items() if name not in lost]
    row = {"claim": "X-17", "case": " ".join(lost), "value": float(least)}
    return pd.DataFrame([row | {"control": float(min(others, default=np.nan))}])
