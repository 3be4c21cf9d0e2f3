"""Intervals and p values: against scipy, against brute force, and against how often they should
hold the truth.
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from replicate.claims.statistics import (
    GATE,
    Estimate,
    estimate,
    fieller,
    holm,
    is_skewed,
    least,
    seeds_needed,
    skewness,
    units,
)

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


@pytest.mark.parametrize("seeds", [2, 4, 5, 9])
def test_branches_are_averaged_whatever_the_number_of_seeds(seeds):
    rows = units(table(np.arange(4.0 * seeds), branches=4))
    assert rows.value.tolist() == [1.5 + 4 * seed for seed in range(seeds)]
    assert estimate(table(draws(0, 4 * seeds), branches=4), "estimate", POSITIVE).n == seeds


def test_more_branches_of_the_same_seeds_are_not_more_units():
    wide = np.repeat(draws(1, 6)[:, None], 50, axis=1)
    many, few = (estimate(table(wide[:, :b], branches=b), "estimate", POSITIVE) for b in (50, 1))
    assert many.high - many.low == pytest.approx(few.high - few.low)


# Means.


@pytest.mark.parametrize(
    "kind, level", [("estimate", 0.95), ("ordering", 0.95), ("equivalence", 0.90)]
)
def test_a_mean_has_students_interval(kind, level):
    values = draws(2, 9)
    found = estimate(table(values), kind, POSITIVE)
    low, high = stats.t.interval(level, 8, values.mean(), stats.sem(values))
    assert (found.low, found.high, found.level) == (pytest.approx(low), pytest.approx(high), level)


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=12).filter(lambda v: np.ptp(v) > 1e-3))
@settings(max_examples=100, deadline=None)
def test_p_is_below_a_half_level_where_the_interval_decides_and_nowhere_else(values):
    """90 % interval within the band <=> both one-sided tests at 5 %; outside, p counts both edges."""
    found = estimate(table(values), "equivalence", (-1.0, 1.0))
    within, beyond = -1 <= found.low and found.high <= 1, found.low > 1 or found.high < -1
    if min(abs(abs(found.low) - 1), abs(abs(found.high) - 1)) < 1e-9:
        return
    error = stats.sem(values)
    edges = np.array([-1.0, 1.0])
    above = stats.t.sf((np.mean(values) - edges) / error, len(values) - 1).sum()
    below = stats.t.cdf((np.mean(values) - edges) / error, len(values) - 1).sum()
    if within:
        assert found.p < 0.05
    elif beyond:
        assert found.p == pytest.approx(min(above, below), rel=1e-6)
    else:
        assert found.p >= 0.05


def test_intervals_of_a_mean_hold_the_truth_as_often_as_they_say():
    rows = table(np.zeros(8))
    found = [estimate(rows.assign(value=v), "estimate", POSITIVE) for v in 0.3 + draws(3, 1000, 8)]
    held = sum(one.low <= 0.3 <= one.high for one in found)
    assert stats.binomtest(held, 1000, 0.95).pvalue > 0.001


@pytest.mark.parametrize("truth", [-1.0, 1.0])
def test_at_an_edge_one_in_twenty_is_wrong_on_either_side(truth):
    """5 % outside and 5 % inside: what the p of two one-sided tests at an edge promises."""
    rows = table(np.zeros(8))
    found = [
        estimate(rows.assign(value=v), "equivalence", (-1.0, 1.0))
        for v in truth + 0.3 * draws(5, 500, 8)
    ]
    inside = sum(-1 <= one.low and one.high <= 1 for one in found)
    outside = sum(one.high < -1 or one.low > 1 for one in found)
    assert all(stats.binomtest(count, 500, 0.05).pvalue > 0.001 for count in (inside, outside))


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


def test_the_interval_of_a_ratio_to_one_is_students():
    values = draws(6, 8)
    low, high = stats.t.interval(0.9, 7, values.mean(), stats.sem(values))
    assert fieller(values, np.ones(8), 0.9) == (pytest.approx(low), pytest.approx(high))


def test_a_ratio_weighs_units_by_their_gain():
    """A ratio of means, not a mean of ratios, which one small denominator would rule."""
    found = estimate(
        ratio([1.0, 1.0, 1.0, 1.0, 1.0, 0.1], [1.0, 1.0, 1.0, 1.0, 1.0, 0.5]), "equivalence", MARGIN
    )
    assert found.value == pytest.approx(5.1 / 5.5) and found.n == 6


@given(st.integers(0, 10_000), st.floats(-0.2, 2.0), st.sampled_from([0.90, 0.95, 0.99]))
@settings(max_examples=100, deadline=None)
def test_a_ratio_is_bounded_where_its_denominator_is_not_zero(seed, mean, level):
    numerator, denominator = draws(seed, 2, 8) + np.array([[0.0], [mean]])
    separated = stats.ttest_1samp(denominator, 0).pvalue < 1 - level
    assert np.isfinite(fieller(numerator, denominator, level)).all() == separated


def test_a_denominator_near_zero_decides_nothing():
    noise = draws(0, 2, 8)
    assert fieller(noise[0], noise[1] - noise[1].mean() + 0.01, 0.9) == (-math.inf, math.inf)
    found = estimate(ratio(noise[0], noise[1] - noise[1].mean() + 0.01), "equivalence", MARGIN)
    assert found.reason.startswith("gain not above 0")


@pytest.mark.parametrize("kind", ["equivalence", "ordering", "estimate"])
def test_the_gate_on_the_gain_is_one_sided_at_one_percent(kind):
    noise = draws(7, 8) / stats.sem(draws(7, 8))  # a gain of t standard errors
    noise -= noise.mean()
    for t in (stats.t.isf(GATE, 7) * 0.99, stats.t.isf(GATE, 7) * 1.01):
        found = estimate(ratio(noise + t, noise + t), kind, MARGIN)
        p = stats.t.sf(t, 7)
        assert found.reason == ("" if p < 0.01 else f"gain not above 0 at p < 0.01 (p = {p:.2g})")
        assert found.reason or math.isfinite(found.low) and math.isfinite(found.high)


def test_a_gain_below_zero_is_no_gain():
    found = estimate(
        ratio([-1.0] * 8 + 0.01 * draws(1, 8), -1 + 0.01 * draws(2, 8)), "equivalence", MARGIN
    )
    assert found.value == pytest.approx(1, abs=0.02) and found.reason.startswith("gain not above 0")


def test_intervals_of_a_ratio_hold_the_truth_as_often_as_they_say():
    held = 0
    for y, e in draws(4, 2000, 2, 8):
        low, high = fieller(0.9 * (1 + 0.3 * y) + 0.2 * e, 1 + 0.3 * y, 0.90)
        held += low <= 0.9 <= high
    assert stats.binomtest(held, 2000, 0.90).pvalue > 0.001


@given(st.integers(0, 10_000), st.floats(0.3, 2.0), st.floats(0.001, 0.4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_p_of_an_edge_is_that_of_the_interval_that_excludes_it(seed, edge, a, above):
    noise = draws(seed, 2, 8)
    denominator = 1 + 0.1 * noise[0]
    numerator = denominator + 0.4 * noise[1]
    found = estimate(
        ratio(numerator, denominator),
        "equivalence",
        (edge, math.inf) if above else (-math.inf, edge),
    )
    low, high = fieller(numerator, denominator, 1 - 2 * a)
    assume(math.isfinite(low) and not found.reason and abs(found.p - a) > 1e-9)
    assert (found.p < a) == (edge < low or edge > high)


@given(st.integers(0, 10_000), st.floats(-0.5, 1.5))
@settings(max_examples=60, deadline=None)
def test_p_is_the_larger_of_two_edges_inside_and_the_sum_of_both_outside(seed, shift):
    noise = draws(seed, 2, 8)
    denominator = 1 + 0.1 * noise[0]
    numerator = shift * denominator + 0.25 * noise[1]
    below, above = (
        stats.ttest_1samp(numerator - e * denominator, 0, alternative="less").pvalue for e in MARGIN
    )
    p_in, p_out = max(1 - below, above), min(below + above, 2 - below - above)
    found = estimate(ratio(numerator, denominator), "equivalence", MARGIN)
    assert found.p == pytest.approx(min(p_in, p_out), abs=1e-9)


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


@pytest.mark.parametrize(
    "kind, band", [("ordering", POSITIVE), ("equivalence", (-0.3, 0.3)), ("estimate", (-1.0, 0.05))]
)
@pytest.mark.parametrize("seed", range(4))
def test_with_the_seeds_needed_the_same_mean_and_spread_just_decide(kind, band, seed):
    found = estimate(table(0.1 + 0.5 * draws(seed, 6)), kind, band)
    n = seeds_needed(found, band)
    sd = (found.high - found.low) / 2 / stats.t.ppf((1 + found.level) / 2, 5) * math.sqrt(6)
    away = min(abs(found.value - edge) for edge in band if math.isfinite(edge))
    reach = [
        stats.t.ppf((1 + found.level) / 2, m - 1) * sd / math.sqrt(m) for m in (n, max(n - 1, 2))
    ]
    assert reach[0] < away and (n == 2 or reach[1] >= away)


def test_seeds_needed_are_bounded_and_need_an_interval_and_an_edge():
    assert (
        seeds_needed(estimate(table([-1.0, 0.0, 1.0]), "ordering", POSITIVE), POSITIVE) == 1_000_000
    )
    for found, band in (
        (Estimate.exact(1.0), POSITIVE),
        (estimate(table([1.0, 2.0]), "ordering", POSITIVE), (-math.inf, math.inf)),
    ):
        with pytest.raises(ValueError, match="result must have an interval"):
            seeds_needed(found, band)


def test_seeds_without_a_number_leave_an_estimate_without_bounds_that_says_so():
    found = estimate(table([1.0, 2.0, math.nan, 3.0, 4.0, math.inf]), "estimate", POSITIVE)
    assert (found.low, found.high, found.p, found.reason) == (
        -math.inf,
        math.inf,
        1.0,
        "2 of 6 seeds have no number",
    )


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_one_diverged_branch_is_not_left_out_of_the_mean_of_its_seed(lost):
    values = draws(8, 8, 4)
    values[3, 1] = lost
    found = estimate(table(values, branches=4), "estimate", POSITIVE)
    assert (found.n, found.p, found.reason) == (
        8,
        1.0,
        "1 of 8 seeds have no number",
    ) and math.isnan(found.value)


def test_a_branch_without_a_number_is_lost_with_its_seed_among_few_seeds_too():
    values = draws(8, 6)
    values[4] = math.nan
    result = estimate(table(values, branches=3), "estimate", POSITIVE)
    assert result.reason == "1 of 2 seeds have no number"


def test_a_table_without_rows_has_a_reason():
    result = estimate(table([]), "estimate", POSITIVE)
    assert (result.n, result.p, result.reason) == (0, 1.0, "no seeds") and math.isnan(result.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("denominator", [[0.0] * 6, [-1.0, 1.0] * 3])
def test_denominators_that_are_or_cancel_to_zero_have_no_bounds_and_a_reason(denominator):
    result = estimate(ratio([1.0, 2, 3, 4, 5, 6], denominator), "equivalence", MARGIN)
    assert (result.low, result.high, result.p) == (-math.inf, math.inf, 1.0) and result.reason


def test_a_row_without_a_seed_is_refused():
    rows = table([1.0, 2, 3, 4, 5, 600]).assign(seed=[0, 1, 2, 3, 4, math.nan])
    with pytest.raises(ValueError, match="every row must have a seed"):
        estimate(rows, "ordering", POSITIVE)


@pytest.mark.parametrize("column", ["numerator", "denominator"])
def test_either_arm_that_diverges_loses_the_unit(column):
    rows = ratio(1 + 0.1 * draws(9, 8), 1 + 0.1 * draws(10, 8))
    rows.loc[2, column] = math.nan
    assert estimate(rows, "equivalence", MARGIN).reason == "1 of 8 seeds have no number"


def test_one_seed_has_no_interval():
    found = estimate(table([2.0]), "estimate", POSITIVE)
    assert (found.value, found.low, found.reason) == (2.0, -math.inf, "one seed has no interval")
    found = estimate(ratio([1.0], [2.0]), "equivalence", MARGIN)
    assert (found.value, found.high, found.p, found.reason) == (
        0.5,
        math.inf,
        1.0,
        "one seed has no interval",
    )


@pytest.mark.parametrize("n", [5, 6, 10])
def test_without_spread_n_seeds_on_one_side_have_the_p_of_the_sign_test(n):
    """Never 0: ten equal numbers are no certainty about an eleventh."""
    expected = stats.binomtest(n, n, 0.5, alternative="greater").pvalue
    for value in (1.0, -1.0):
        assert estimate(table([value] * n), "ordering", POSITIVE).p == pytest.approx(expected)
    assert estimate(table([0.0] * n), "ordering", POSITIVE).p == 1.0


def test_equal_gains_without_spread_are_bounded():
    result = estimate(ratio(0.5 * np.ones(6), 0.5 * np.ones(6)), "equivalence", MARGIN)
    assert (result.low, result.high, result.reason) == (1.0, 1.0, "")
    assert result.p == pytest.approx(2.0**-6)


# Skewed seeds.


def test_skewness_is_that_of_scipy():
    values = np.exp(draws(11, 9))
    assert skewness(values) == pytest.approx(stats.skew(values))
    assert estimate(table(values), "estimate", POSITIVE).skewness == pytest.approx(
        stats.skew(values)
    )
    numerator, denominator = 1 + 0.2 * np.exp(draws(12, 2, 9))
    result = estimate(ratio(numerator, denominator), "equivalence", MARGIN)
    residual = numerator - numerator.mean() / denominator.mean() * denominator
    assert result.skewness == pytest.approx(stats.skew(residual))
    assert math.isnan(skewness(np.ones(6)))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_one_normal_sample_in_twenty_counts_as_skewed_and_most_exponential_ones_do(n):
    normal = [is_skewed(skewness(row), n) for row in draws(13, 2000, n)]
    exponential = np.random.Generator(np.random.Philox(14)).exponential(size=(2000, n))
    assert 0.01 < np.mean(normal) < 0.07  # g of few numbers has short tails
    assert np.mean([is_skewed(skewness(row), n) for row in exponential]) > 2.5 * np.mean(normal)


@pytest.mark.parametrize(
    "frame, kind, named",
    [
        (table([1.0]), "guess", "guess"),
        (table([1.0]), "exact", "exact"),
        (table([1.0]).drop(columns="seed"), "estimate", "seed"),
        (table([1.0], name="numerator"), "estimate", "denominator"),
        (table([1.0], name="ratio"), "estimate", "value"),
    ],
)
def test_a_wrong_kind_or_a_missing_column_is_named(frame, kind, named):
    with pytest.raises(ValueError, match=named):
        estimate(frame, kind, POSITIVE)


def test_a_band_without_edges_is_refused():
    with pytest.raises(ValueError, match="finite edge"):
        estimate(table(draws(0, 6)), "estimate", (-math.inf, math.inf))


# The least of several means.


def closest(end: pd.DataFrame, rivals: list[pd.DataFrame]) -> Estimate:
    """How much nearer to 0 an end lies than its nearest rival; columns `value` hold signed
    distances.
    """
    gaps = [rival.assign(value=rival.value.abs() - end.value.abs()) for rival in rivals]
    return least(gaps, POSITIVE)


def near(distance: float, seed: int) -> pd.DataFrame:
    return table(distance + 0.05 * draws(seed, 8))


@given(
    st.integers(0, 10_000), st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.floats(-0.5, 0.5)
)
@settings(max_examples=60, deadline=None)
def test_the_least_is_that_of_brute_force(seed, centres, edge):
    """Each mean alone by scipy; then the lowest ends, the largest p inside, the corrected smallest
    p outside.
    """
    values = np.array(centres)[:, None] + 0.3 * draws(seed, len(centres), 8)
    result = least([table(row) for row in values], (edge, math.inf))
    intervals = [stats.t.interval(0.95, 7, row.mean(), stats.sem(row)) for row in values]
    above = [stats.ttest_1samp(row, edge, alternative="greater").pvalue for row in values]
    below = [stats.ttest_1samp(row, edge, alternative="less").pvalue for row in values]
    assert result.low == pytest.approx(min(low for low, _ in intervals))
    assert result.high == pytest.approx(min(high for _, high in intervals))
    assert result.value == pytest.approx(values.mean(axis=1).min())
    assert result.p == pytest.approx(min(max(above), min(1.0, len(values) * min(below))))
    assert (result.n, result.level) == (8, 0.95)


def test_the_least_wrongly_lies_inside_as_rarely_as_it_says():
    """One of three means at the edge, two far inside: the whole is inside once in 40."""
    rng, inside = np.random.Generator(np.random.Philox(9)), 0
    for noise in rng.standard_normal((200, 3, 8)):
        result = least(
            [table(row + shift) for row, shift in zip(noise, (0, 3, 5), strict=True)], POSITIVE
        )
        inside += result.low >= 0
    assert stats.binomtest(inside, 200, 0.025).pvalue > 0.001


def test_closest_is_above_zero_if_every_rival_is_farther():
    result = closest(near(0.1, 0), [near(0.5, 1), near(-0.9, 2)])
    assert result.low > 0 and result.p < 0.01 and result.value == pytest.approx(0.4, abs=0.1)


def test_closest_is_below_zero_if_one_rival_is_nearer():
    result = closest(near(0.5, 0), [near(0.1, 1), near(-0.9, 2)])
    assert result.high < 0 and result.p < 0.01


def test_closest_decides_nothing_between_equals():
    result = closest(near(0.5, 0), [near(0.5, 1), near(-0.5, 2)])
    assert result.low < 0 < result.high and result.p > 0.05


def test_a_nearer_rival_pays_for_the_number_of_rivals():
    end, nearer, far = near(0.5, 0), near(0.45, 1), near(-0.9, 2)
    gap = nearer.value.abs() - end.value.abs()
    expected = 2 * stats.ttest_1samp(gap, 0, alternative="less").pvalue
    assert closest(end, [nearer, far]).p == pytest.approx(expected)


def test_arms_shuffled_with_a_rival_decide_nothing():
    end, rival = near(0.1, 0), near(0.5, 1)
    swap = np.arange(8) % 2 == 0
    pairs = ((end, rival), (rival, end))
    mixed = [one.assign(value=np.where(swap, one.value, two.value)) for one, two in pairs]
    result = closest(mixed[0], [mixed[1], near(-0.9, 2)])
    assert result.low < 0 < result.high and result.p > 0.05


def test_the_least_has_the_units_of_any_estimate():
    end, rival = (
        table(d + 0.05 * draws(seed, 6), branches=3) for d, seed in ((0.1, 11), (0.5, 12))
    )
    result = closest(end, [rival])
    assert (result.n, result.level) == (2, 0.95)


def test_a_rival_that_diverged_leaves_the_least_open():
    lost = near(0.9, 1)
    lost.loc[5, "value"] = math.nan
    result = closest(near(0.1, 0), [near(0.5, 2), lost])
    assert (result.p, result.reason) == (1.0, "1 of 8 seeds have no number") and math.isinf(
        result.low
    )


def test_the_least_takes_the_largest_p():
    end, far, close = near(0.1, 0), near(0.9, 1), near(0.15, 2)
    gap = close.value.abs() - end.value.abs()
    expected = stats.ttest_1samp(gap, 0, alternative="greater").pvalue
    assert closest(end, [far, close]).p == pytest.approx(expected)


def test_the_least_wants_the_same_units_and_at_least_one_table():
    with pytest.raises(ValueError, match="the same rows"):
        least([near(0.1, 0), table(draws(0, 7))], POSITIVE)
    with pytest.raises(ValueError, match="at least one table"):
        least([], POSITIVE)


# Several at once.


@given(
    st.lists(
        st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.025, 0.04, 0.3, 1.0]) | st.floats(0, 1),
        max_size=9,
    )
)
@settings(max_examples=40, deadline=None)
def test_holm_steps_down(p):
    """By its definition: the largest of all smaller p's, each times the number that are left."""
    expected = []
    for value in p:
        smaller = sorted(other for other in p if other <= value)
        expected.append(min(1.0, max(x * (len(p) - r) for r, x in enumerate(smaller))))
    np.testing.assert_allclose(holm(p), expected, rtol=1e-12)


def test_a_truth_at_the_edge_of_a_narrow_band_is_rarely_outside():
    noise = np.random.Generator(np.random.Philox(11)).standard_normal((400, 8))
    wrong = 0
    for values in noise:
        table = pd.DataFrame({"seed": range(8), "branch": 0, "value": values})
        found = estimate(table, "equivalence", (-0.01, 0.0))
        wrong += (found.low > 0 or found.high < -0.01) and found.p < 0.05
    assert 5 < wrong <= stats.binom.ppf(0.999, 400, 0.05)
