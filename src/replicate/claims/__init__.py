"""What the sources say, as data, and what the tables of our experiments say about it.

`claim`: the rows of a claims file; `check`: their names; `cells`, `contrasts`, `measure`: from a
table to estimates; `statistics`: every interval and every p; `judge`: verdicts; `agreement`:
whether data sets tell the same.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.claims.agreement import AGREE, DIFFER, OPEN, compare_data_sets
    from replicate.claims.check import check
    from replicate.claims.claim import PRESETS, WITHOUT_INTERVAL, Claim, load
    from replicate.claims.judge import (
        COLUMNS,
        GROUPS,
        HEADLINE,
        NUMBERS,
        WORDS,
        headline,
        judge,
        primary_rows,
        tell,
    )
    from replicate.claims.measure import Decided, Measured, measure
    from replicate.claims.power import power, spread_of

lazy.attach(__name__)
