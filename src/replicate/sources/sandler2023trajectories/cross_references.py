"""Slips in what the paper calls its parts: E-18 and E-19, from its own words and numbers.

E-18: the noun before a number is not what the number belongs to. E-19: a loss of 1.8 falls to 0.5 in
one step on the batch itself, and nowhere on a held-out batch; least losses can then not be "several
orders of magnitude" apart, as the text's reading of Fig. 13 has it, and drops can.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

# As printed: a noun and the number that follows it. Sections 1 and 5; the others are right.
SLIPS = ("section Figure 4", "lemma Figure 7")
RIGHT_REFERENCES = ("Section 5", "Lemma 2", "Figure 7", "Figure 4", "Table 1")
NOUNS = ("section", "lemma", "figure", "table")
LOSS_BEFORE, LEAST_LOSS = 1.8, 0.5  # section 3: one step on the training batch


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def cross_references(settings: Settings) -> pd.DataFrame:
    """One row a check: columns claim, case, value, control (NaN where none).

    E-18: how many references call their target by two nouns; control: the same of those that are
    right. E-19: orders of magnitude by which the least losses of both batches can lie apart.
    """
    rows = [
        ("E-18", "", float(count_contradictions(SLIPS)), float(count_contradictions(RIGHT_REFERENCES))),
        ("E-19", "", float(np.log10(LOSS_BEFORE / LEAST_LOSS)), np.nan),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def count_contradictions(references: Iterable[str]) -> int:
    """References whose words name more than one kind of target."""
    named = [{word for word in each.lower().split() if word in NOUNS} for each in references]
    return sum(len(kinds) > 1 for kinds in named)
