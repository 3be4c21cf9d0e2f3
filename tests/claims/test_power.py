"""The power of a row is how often its interval comes out firm, counted on drawn seeds."""

import math

import numpy as np
import pandas as pd
import pytest

from replicate.claims import power, spread_of
from replicate.claims.claim import position
from replicate.claims.statistics import estimate

REPORTS = 300
INFINITE = math.inf


def count_firm(mean, spread, n, kind, band) -> float:
    """The share of drawn tables whose interval lies wholly inside or outside the band."""
    rng = np.random.Generator(np.random.Philox(n))
    firm = 0
    for _ in range(REPORTS):
        values = mean + spread * rng.standard_normal(n)
        table = pd.DataFrame({"seed": range(n), "branch": 0, "value": values})
        result = estimate(table, kind, band)
        firm += position(band, result.low, result.high) != "across"
    return firm / REPORTS


@pytest.mark.parametrize(
    ("mean", "spread", "n", "kind", "band"),
    [
        (0.5, 1.0, 16, "ordering", (0.0, INFINITE)),
        (-0.6, 1.0, 16, "ordering", (0.0, INFINITE)),
        (0.4, 1.0, 8, "estimate", (-INFINITE, 1.2)),
        (1.0, 0.2, 8, "equivalence", (0.8, 1.25)),
        (1.025, 0.3, 12, "equivalence", (0.8, 1.25)),  # either edge is the hindrance
        (1.1, 0.15, 16, "equivalence", (0.8, 1.25)),
        (1.35, 0.15, 8, "equivalence", (0.8, 1.25)),
    ],
)
def test_power_is_the_share_of_reports_that_are_firm(mean, spread, n, kind, band):
    counted = count_firm(mean, spread, n, kind, band)
    error = 4 * math.sqrt(0.25 / REPORTS)
    assert 0.1 < counted < 0.99 and power(mean, spread, n, kind, band) == pytest.approx(
        counted, abs=error
    )


def test_fewer_than_five_seeds_decide_nothing():
    assert power(5.0, 0.1, 4, "ordering", (0.0, INFINITE)) == 0
    assert power(5.0, 0.1, 5, "ordering", (0.0, INFINITE)) > 0.999


def test_the_spread_is_that_of_the_seeds_behind_an_interval():
    values = np.array([0.2, 0.5, 0.1, 0.9, 0.4, 0.6])
    table = pd.DataFrame({"seed": range(6), "branch": 0, "value": values})
    for kind in ("ordering", "equivalence"):
        result = estimate(table, kind, (0.0, 1.0))
        row = {"low": result.low, "high": result.high, "n": result.n, "level": result.level}
        assert spread_of(row) == pytest.approx(values.std(ddof=1))


@pytest.mark.parametrize(
    "changes", [{"n": 1}, {"low": -INFINITE}, {"low": 1.0, "high": 1.0}, {"high": math.nan}]
)
def test_a_row_without_an_interval_has_no_spread(changes):
    row = {"low": 0.0, "high": 1.0, "n": 6, "level": 0.95} | changes
    assert math.isnan(spread_of(row))
