"""Every value and interval that stood recorded before experiments and claims were rebuilt is still
what its table says.

`tests/recorded/<preset>/<source>.csv` holds them as they stood: a row may get another word or
another name of its case, but not another number. Numbers are compared to the six digits that are
recorded.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from replicate.app import registry, verdicts

RECORDED = Path(__file__).parent / "recorded"
NUMBERS = ["value", "low", "high", "level", "n"]
FILES = sorted(RECORDED.glob("*/*.csv"))


def frozen(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in NUMBERS})


def judged_anew(path: Path) -> pd.DataFrame:
    source, preset = registry.source(path.stem), path.parent.name
    return verdicts.judge_tables(source, registry.read_recorded_tables(source, preset), preset)


def equal(row: pd.Series, rows: pd.DataFrame) -> np.ndarray:
    """Which of `rows` have the numbers of `row`."""
    columns = [
        np.isclose(
            rows[name].astype(float), float(row[name]), rtol=6e-6, atol=1e-300, equal_nan=True
        )
        for name in NUMBERS
    ]
    return np.logical_and.reduce(columns)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_recorded_number_is_lost(path):
    rows, lost = judged_anew(path), []
    for row in frozen(path).itertuples(index=False):
        series = pd.Series(row._asdict())
        same = rows[(rows.claim == row.claim).to_numpy()]
        match = equal(series, same)
        if not match.any():
            lost.append(f"{row.claim} {row.case}: {row.value} [{row.low}, {row.high}]")
        else:  # each row of the tables answers for one recorded row
            rows = rows.drop(index=same.index[match][0])
    assert lost == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_another_number_would_be_noticed(path):
    first = frozen(path).iloc[0]
    rows = judged_anew(path)
    assert equal(first, rows).any()
    assert not equal(first, rows.assign(value=rows.value * 1.0001 + 1e-5)).any()
