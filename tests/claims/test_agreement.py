"""Data sets held against each other, on rows whose places are known."""

import pandas as pd
import pytest

from replicate import claims

BAND = (0.8, 1.25)
INSIDE, OUTSIDE, ACROSS = (0.9, 1.0), (0.2, 0.4), (0.7, 0.9)


def row(dataset, interval, **changes):
    low, high = interval
    return {"claim": "A", "cell": "swa k=10", "statement": "It gains.", "dataset": dataset, "kind": "estimate",
            "role": "secondary", "verdict": "inside", "preset": "cpu", "n": 5, "at_least": BAND[0],
            "at_most": BAND[1], "low": low, "high": high, "value": (low + high) / 2} | changes  # fmt: skip


def compare(*rows):
    return claims.compare_data_sets(pd.DataFrame(rows))


@pytest.mark.parametrize(
    "first, second, word",
    [
        (INSIDE, INSIDE, claims.AGREE),
        (OUTSIDE, OUTSIDE, claims.AGREE),
        (INSIDE, OUTSIDE, claims.DIFFER),
        (OUTSIDE, INSIDE, claims.DIFFER),
        (INSIDE, ACROSS, claims.OPEN),
        (ACROSS, OUTSIDE, claims.OPEN),
    ],
)
def test_two_data_sets_agree_where_their_intervals_lie_alike(first, second, word):
    (compared,) = compare(row("digits", first), row("cifar10", second)).itertuples()
    assert compared.word == word
    assert compared.values == {
        "digits": pytest.approx(sum(first) / 2),
        "cifar10": pytest.approx(sum(second) / 2),
    }


def test_a_third_data_set_that_is_open_hides_no_difference():
    rows = [row("digits", INSIDE), row("cifar10", OUTSIDE), row("cifar100", ACROSS)]
    assert compare(*rows).word.tolist() == [claims.DIFFER]


@pytest.mark.parametrize(
    "changes",
    [{"n": 4}, {"role": "control"}, {"kind": "exact"}, {"dataset": ""}, {"cell": "swa k=100"}, {"claim": "B"}],
)  # fmt: skip
def test_what_cannot_be_held_against_another_is_left_out(changes):
    assert compare(row("digits", INSIDE), row("cifar10", OUTSIDE) | changes).empty


def test_of_a_data_set_the_largest_preset_counts_whatever_the_order():
    small, large = row("cifar10", OUTSIDE), row("cifar10", INSIDE, preset="night")
    for rows in ([small, large], [large, small]):
        assert compare(row("digits", INSIDE), *rows).word.tolist() == [claims.AGREE]


def test_words_of_verdicts_play_no_part():
    rows = [row("digits", INSIDE, verdict="inconclusive"), row("cifar10", OUTSIDE, verdict="inconclusive")]  # fmt: skip
    assert compare(*rows).word.tolist() == [claims.DIFFER]
