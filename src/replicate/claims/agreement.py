"""Whether a claim comes out alike on several data sets.

The words of verdicts do not answer that: two rows that say `inconclusive` may point in opposite
directions, and a claim on a stand-in has no firm word however clear its interval is. What is held
against each other is where the intervals of the same cell (the same arms, window, kernel, batch size
and so on) lie beside the claim's band, one interval a data set, of whatever preset ran it.
"""

import pandas as pd

from replicate.claims.claim import PRESETS, WITHOUT_INTERVAL, position
from replicate.claims.measure import FEWEST_SEEDS

AGREE = "agree"
DIFFER = "differ"
OPEN = "open"  # an interval reaches over an edge of the band


def compare_data_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per claim and cell that at least two data sets measured with enough seeds.

    rows: verdicts of one source at any presets, as `judge` gives them; controls, exact statements
    and rows of fewer than five seeds are left out, and of a data set that several presets ran, the
    largest counts. Columns: claim, cell, statement, places (data set -> "inside", "outside" or
    "across"), values (data set -> value), word (AGREE, DIFFER or OPEN).
    """
    counted = rows[
        (rows.role != "control")
        & ~rows.kind.isin(WITHOUT_INTERVAL)
        & (rows.dataset != "")
        & (rows.n >= FEWEST_SEEDS)
    ]
    counted = counted.assign(rank=counted.preset.map(PRESETS.index))
    counted = counted.sort_values("rank", kind="stable").drop_duplicates(
        ["claim", "cell", "dataset"], keep="last"
    )
    compared = []
    for (claim, cell), group in counted.groupby(["claim", "cell"], sort=False):
        if len(group) > 1:
            places = {row.dataset: _place(row) for row in group.itertuples()}
            compared.append(
                {
                    "claim": claim,
                    "cell": cell,
                    "statement": group.statement.iloc[0],
                    "places": places,
                    "values": dict(zip(group.dataset, group.value, strict=True)),
                    "word": _word(set(places.values())),
                }
            )
    columns = ["claim", "cell", "statement", "places", "values", "word"]
    return pd.DataFrame(compared, columns=columns)


def _place(row) -> str:
    return position((row.at_least, row.at_most), row.low, row.high)


def _word(places: set[str]) -> str:
    if {"inside", "outside"} <= places:
        return DIFFER
    return OPEN if "across" in places else AGREE
