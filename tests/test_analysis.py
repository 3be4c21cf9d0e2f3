"""Intervals and p values: against scipy, against brute force, and against how often they should hold the truth."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from replicate.analysis import closest, estimate, fieller, units

POSITIVE = (0.0, math.inf)
MARGIN = (0.8, 1.25)


def table(values, seeds: int | None = None, branches: int = 1, name: str = "value") -> pd.DataFrame:
    """Values of one column as rows (seed, branch), seeds outermost."""
    values = np.asarray(values, dtype=float).ravel()
    seeds = seeds or len(values) // branches
    index = [(s, b) for s in range(seeds) for b in range(branches)]
    return pd.DataFrame(index, columns=["seed", "branch"]).assign(**{name: values})


def ratio(numerator, denominator, **about) -> pd.DataFrame:
    return table(numerator, name="numerator", **about).assign(denominator=np.ravel(denominator))


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape)


# Units.


def test_from_five_seeds_on_the_unit_is_the_seed_and_branches_are_averaged():
    found = units(table(np.arange(20.0), branches=4))
    assert found.value.tolist() == [1.5, 5.5, 9.5, 13.5, 17.5]
    assert (estimate(table(draws(0, 20), branches=4), "estimate", POSITIVE).n, len(found)) == (5, 5)


def test_below_five_seeds_the_unit_is_the_branch():
    one = estimate(table(draws(0, 16), branches=4), "estimate", POSITIVE)
    assert (one.n, one.seeds, one.unit) == (16, 4, "branch")


def test_more_branches_of_the_same_seeds_are_not_more_units():
    wide = np.repeat(draws(1, 6)[:, None], 50, axis=1)
    many, few = (estimate(table(wide[:, :b], branches=b), "estimate", POSITIVE) for b in (50, 1))
    assert many.high - many.low == pytest.approx(few.high - few.low)


# Means.


@pytest.mark.parametrize("kind, level", [("estimate", 0.95), ("ordering", 0.95), ("equivalence", 0.90)])
def test_a_mean_has_students_interval(kind, level):
    values = draws(2, 9)
    found = estimate(table(values), kind, POSITIVE)
    low, high = stats.t.interval(level, 8, values.mean(), stats.sem(values))
    assert (found.low, found.high, found.level) == (pytest.approx(low), pytest.approx(high), level)


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=12).filter(lambda v: np.ptp(v) > 1e-3))
@settings(max_examples=100, deadline=None)
def test_p_is_below_a_half_level_exactly_where_the_interval_decides(values):
    """90 % interval within the band <=> both one-sided tests at 5 %."""
    found = estimate(table(values), "equivalence", (-1.0, 1.0))
    decided = -1 <= found.low and found.high <= 1 or found.low > 1 or found.high < -1
    edge = min(abs(abs(found.low) - 1), abs(abs(found.high) - 1))
    assert edge < 1e-9 or decided == (found.p < 0.05)


def test_intervals_of_a_mean_hold_the_truth_as_often_as_they_say():
    values = 0.3 + draws(3, 3000, 8)
    found = [estimate(table(v), "estimate", POSITIVE) for v in values[:600]]
    held = sum(one.low <= 0.3 <= one.high for one in found)
    assert stats.binomtest(held, 600, 0.95).pvalue > 0.001


# Ratios.


def by_brute_force(numerator, denominator, level):
    """All e on a fine grid at which mean(numerator - e denominator) = 0 is not rejected."""
    grid = np.linspace(-5, 5, 20001)
    d = numerator[:, None] - grid * denominator[:, None]
    t = d.mean(0) / (d.std(0, ddof=1) / math.sqrt(len(d)))
    kept = grid[np.abs(t) <= stats.t.ppf((1 + level) / 2, len(d) - 1)]
    return kept.min(), kept.max()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_fiellers_interval_is_that_of_brute_force(seed, level):
    noise = draws(seed, 2, 8)
    denominator = 1 + 0.3 * noise[0]
    numerator = 0.9 * denominator + 0.2 * noise[1]
    assert fieller(numerator, denominator, level) == pytest.approx(
        by_brute_force(numerator, denominator, level), abs=6e-4
    )


def test_a_denominator_near_zero_has_no_bounded_interval_and_no_verdict():
    noise = draws(0, 2, 8)
    assert fieller(noise[0], noise[1] - noise[1].mean() + 0.01, 0.9) == (-math.inf, math.inf)
    found = estimate(ratio(noise[0], noise[1] - noise[1].mean() + 0.01), "equivalence", MARGIN)
    assert found.reason.startswith("gain not above 0")


def test_a_gain_below_zero_is_no_gain():
    found = estimate(ratio([-1.0] * 8 + 0.01 * draws(1, 8), -1 + 0.01 * draws(2, 8)), "equivalence", MARGIN)
    assert found.value == pytest.approx(1, abs=0.02) and found.reason.startswith("gain not above 0")


def test_intervals_of_a_ratio_hold_the_truth_as_often_as_they_say():
    noise = draws(4, 600, 2, 8)
    held = 0
    for y, e in noise:
        low, high = fieller(0.9 * (1 + 0.3 * y) + 0.2 * e, 1 + 0.3 * y, 0.90)
        held += low <= 0.9 <= high
    assert stats.binomtest(held, 600, 0.90).pvalue > 0.001


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_p_of_a_ratio_agrees_with_its_interval(seed):
    noise = draws(seed, 2, 8)
    denominator = 1 + 0.1 * noise[0]
    found = estimate(ratio(denominator + 0.25 * noise[1], denominator), "equivalence", MARGIN)
    inside = MARGIN[0] <= found.low and found.high <= MARGIN[1]
    outside = found.high < MARGIN[0] or found.low > MARGIN[1]
    assert (inside or outside) == (found.p < 0.05)


# What cannot be decided.


def test_diverged_units_leave_an_estimate_without_bounds_that_says_so():
    found = estimate(table([1.0, 2.0, math.nan, 3.0, 4.0, math.inf]), "estimate", POSITIVE)
    assert (found.low, found.high, found.p, found.reason) == (-math.inf, math.inf, 1.0, "2 of 6 units diverged")


def test_one_unit_has_no_interval():
    found = estimate(table([2.0]), "estimate", POSITIVE)
    assert (found.value, found.low, found.reason) == (2.0, -math.inf, "one unit has no interval")


def test_values_without_spread_are_certain():
    assert estimate(table([1.0] * 6), "ordering", POSITIVE).p == 0.0
    assert estimate(table([-1.0] * 6), "ordering", POSITIVE).p == 0.0  # certain that it lies below
    assert estimate(table([0.0] * 6), "ordering", POSITIVE).p == 1.0


@pytest.mark.parametrize(
    "frame, kind, named",
    [(table([1.0]), "guess", "guess"), (table([1.0]).drop(columns="seed"), "estimate", "seed")],
)
def test_a_wrong_kind_or_a_missing_column_is_named(frame, kind, named):
    with pytest.raises(ValueError, match=named):
        estimate(frame, kind, POSITIVE)


def test_a_band_without_edges_is_refused():
    with pytest.raises(ValueError, match="finite edge"):
        estimate(table(draws(0, 6)), "estimate", (-math.inf, math.inf))


# Which is the closest.


def near(distance: float, seed: int) -> pd.DataFrame:
    return table(distance + 0.05 * draws(seed, 8))


def test_closest_is_above_zero_if_every_rival_is_farther():
    found = closest(near(0.1, 0), {"a": near(0.5, 1), "b": near(-0.9, 2)})
    assert found.low > 0 and found.p < 0.01 and found.value == pytest.approx(0.4, abs=0.1)


def test_closest_is_below_zero_as_soon_as_one_rival_is_nearer():
    found = closest(near(0.5, 0), {"a": near(0.1, 1), "b": near(-0.9, 2)})
    assert found.high < 0 and found.p < 0.01


def test_closest_decides_nothing_between_equals():
    found = closest(near(0.5, 0), {"a": near(0.5, 1), "b": near(-0.5, 2)})
    assert found.low < 0 < found.high and found.p > 0.05


def test_closest_takes_the_largest_p_of_its_rivals():
    own, far, close = near(0.1, 0), near(0.9, 1), near(0.15, 2)
    found = closest(own, {"far": far, "close": close})
    d = close.value.abs() - own.value.abs()
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)


def test_closest_wants_rivals_of_the_same_branches():
    with pytest.raises(ValueError, match="8 branches"):
        closest(near(0.1, 0), {"a": table(draws(0, 7))})
    with pytest.raises(ValueError, match="at least one rival"):
        closest(near(0.1, 0), {})
