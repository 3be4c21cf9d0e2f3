"""From rows to the answer: the ratio by arithmetic on each row, a word only from five runs on."""

import numpy as np
import pytest
from scipy import stats

from replicate.averaging import swa
from replicate.cooldown import Comparison

REST = {"replay": 0.5, "constant": 1.0, "other_cool_down": 0.7, "apart": 1.0, "independent": 4.0,
        "travelled": 3.0, "replayed_apart": 0.0}  # fmt: skip


def compare_rows(gains, branches=2):
    """gains: (of the average, of the cool-down) of each run; every branch has a loss of its own."""
    rows = [
        {"run": run, "branch": branch, "start": 10 * branch, "raw": 1.0 + branch,
         "average": 1.0 + branch - average, "cool_down": 1.0 + branch - cooled, **REST}
        for run, (average, cooled) in enumerate(gains) for branch in range(branches)
    ]  # fmt: skip
    return Comparison.of(rows, swa(7))


def scatter(ratio, runs, spread=0.02):
    cooled = 0.5 + 0.05 * np.sin(np.arange(runs))
    return [(ratio * each + spread * np.cos(5 * i), each) for i, each in enumerate(cooled)]


@pytest.mark.parametrize(
    "ratio, runs, word", [(1.0, 6, "yes"), (0.5, 6, "no"), (1.6, 6, "no"), (0.8, 6, "undecided"),
                          (1.0, 4, "undecided"), (1.0, 1, "undecided")]
)  # fmt: skip
def test_the_word_follows_from_interval_band_and_runs(ratio, runs, word):
    result = compare_rows(scatter(ratio, runs))
    assert result.word == word
    assert result.answer.lower().startswith(word)
    assert "\n" not in result.answer


def test_the_ratio_is_of_means_with_fiellers_interval():
    gains = np.array(scatter(1.0, 6))
    ratio = compare_rows(gains).ratio()
    assert ratio.value == pytest.approx(gains[:, 0].mean() / gains[:, 1].mean())
    for edge in (ratio.low, ratio.high):  # where the t test of numerator - e denominator turns
        t = stats.ttest_1samp(gains[:, 0] - edge * gains[:, 1], 0)
        assert t.pvalue == pytest.approx(0.1, rel=1e-6)
    assert ratio.n == 6


def test_one_run_takes_branch_points_for_units_and_says_so():
    rows = [{"run": 0, "branch": b, "start": b, "raw": 1.0, "average": 0.5 - 0.01 * b,
             "cool_down": 0.5 + 0.01 * b * b, **REST} for b in range(8)]  # fmt: skip
    result = Comparison.of(rows, swa(7))
    assert result.unit == "branch point" and result.ratio().n == 8 and result.word == "undecided"
    assert "1 of the 5 runs" in result.answer and "8 branch points" in result.answer


def test_without_a_gain_of_the_cool_down_there_is_no_ratio():
    result = compare_rows([(0.1, 0.01 * (-1) ** run) for run in range(6)])
    assert result.word == "undecided" and "gain not above 0" in result.answer


def test_the_summary_is_arithmetic_on_the_rows():
    gains = np.array(scatter(1.0, 6))
    result = compare_rows(gains)
    summary = result.summary
    assert summary.value["gain of the average"] == pytest.approx(gains[:, 0].mean())
    low, high = stats.t.interval(0.95, 5, gains[:, 1].mean(), stats.sem(gains[:, 1]))
    assert summary.low["gain of the cool-down"] == pytest.approx(low)
    assert summary.high["gain of the cool-down"] == pytest.approx(high)
    assert summary.value["gain at the constant rate"] == pytest.approx(0.5)  # raw 1 and 2
    assert summary.value["ratio of distances"] == pytest.approx(0.25)
    away = result.table.cool_down - 0.7
    assert summary.value["noise floor of a loss"] == pytest.approx(np.sqrt((away**2).mean() / 2))
    assert summary.reason["ratio of gains, from the spectrum"] == "not measured"
    assert str(result).startswith(result.answer) and "noise floor" in str(result)
