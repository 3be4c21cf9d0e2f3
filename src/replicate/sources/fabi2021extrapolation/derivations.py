"""Every derivation of the source, line by line, against algebra that knows nothing of the page."""

from __future__ import annotations

import pandas as pd

from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def derivations(settings: Settings) -> pd.DataFrame:
    """Every line that can be right or wrong: claim, case, line (LaTeX), value, control (NaN where
    none).

    `line` is the right one. Values: numbers of coefficients that differ from the printed ones,
    unless the claim says otherwise; an erratum's value is that of the slip.
    """
    from replicate.sources.fabi2021extrapolation import _algebra

    table = pd.DataFrame(_algebra.rows(), columns=["claim", "case", "line", "value", "control"])
    return table.astype({"value": float, "control": float})


def lines(table: pd.DataFrame) -> str:
    """The rows of `derivations` as a table in Markdown, formulas and all."""
    rows = [f"| {r.claim} | ${r.line}$ | {r.value:.3g} |" for r in table.itertuples()]
    return "\n".join(["| claim | the right line | value |", "|---|---|---|", *rows])
