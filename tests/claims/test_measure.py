"""From a table to one estimate per case: which cases, which control, which words for readers."""

import math

import numpy as np
import pandas as pd
import pytest
from examples import FIGURE_1, claim

from replicate import claims
from replicate.claims import Decided
from replicate.claims.contrasts import CONTRASTS, Contrast
from replicate.claims.measure import describe
from replicate.claims.statistics import estimate
from replicate.errors import BadData

WINDOWS = (1, 10, 100)
WHERE = {"commit": "0123abc", "device": "cpu, 2 cores", "setting": "stand-in: a net on digits"}


def made(
    means, seeds: int = 8, branches: int = 1, exchanged=None, dataset: str = "digits"
) -> pd.DataFrame:
    """A table of figure_1: means(arm, kernel, k) plus noise; in every other seed two arms are
    exchanged.
    """
    rng, rows = np.random.Generator(np.random.Philox([seeds, branches])), []
    names = dict(zip(exchanged, reversed(exchanged), strict=True)) if exchanged else {}
    for seed in range(seeds):
        for branch in range(branches):
            for arm in ("trip", "average", "raw", "constant", "other", "start"):
                for kernel in ("swa", "ema"):
                    for k in WINDOWS:
                        drawn = names.get(arm, arm) if seed % 2 else arm
                        loss = means(drawn, kernel, k) + 0.002 * rng.standard_normal()
                        row = {
                            "arm": arm,
                            "kernel": kernel,
                            "k": k,
                            "seed": seed,
                            "branch": branch,
                            "loss": loss,
                        }
                        rows.append(row | {"top1": 1 - loss, "length": 64.0})
    return pd.DataFrame(rows).assign(dataset=dataset, **WHERE)


def decided(table: pd.DataFrame, measures=None, named: bool = True):
    return lambda names: Decided(table, tuple(FIGURE_1.fields), measures or {}, named)


def row_of(one: claims.Claim, table: pd.DataFrame) -> pd.Series:
    """The primary row of a claim on a table."""
    found = claims.judge("someone2020", [one], claims.measure([one], decided(table)), "cpu")
    (row,) = found[found.role == "primary"].itertuples(index=False)
    return row


# True, false and shuffled, at eight seeds: for each contrast what a claim asks, its band, and the
# two arms that are exchanged to make it false (in every seed) or shuffled (in every other one).
LEVELS = {"trip": 0.5, "average": 0.7, "raw": 1.0, "constant": 0.9, "other": 0.8, "start": 1.1}
PAIR = {"metric": "loss", "arms": ["trip", "average"]}
ALONG = PAIR | {"over": "k"}
TRIALS = {
    "difference": (PAIR, (-math.inf, 0.0), ("trip", "average")),
    "difference with room": (PAIR | {"room": 0.05}, (-math.inf, 0.0), ("trip", "average")),
    "difference of differences": (
        PAIR | {"arms": ["trip", "average", "raw", "other"]}, (-math.inf, -0.3), ("trip", "average")),
    "ratio": (PAIR, (0.0, 0.9), ("trip", "average")),
    "ratio per unit": (PAIR, (0.0, 0.9), ("trip", "average")),
    "ratio of gains": (PAIR | {"base": "raw"}, (1.2, math.inf), ("trip", "average")),
    "ratio of differences": (PAIR | {"arms": ["average", "trip", "raw", "other"]}, (0.5, 1.5), ("trip", "average")),
    "relative gain": (PAIR, (0.1, math.inf), ("trip", "average")),
    "log10 ratio": (PAIR, (-math.inf, -0.05), ("trip", "average")),
    "log10 distance": (PAIR, (0.1, math.inf), ("trip", "other")),
    "log10 ratio to the least": (
        PAIR | {"arms": ["trip", "average", "raw"]}, (-math.inf, -0.05), ("trip", "average")),
    "log2 ratio of times": (PAIR | {"ends": "length"}, (-math.inf, -0.1), ("trip", "average")),
    "gain over the better": (
        PAIR | {"arms": ["trip", "average", "raw"], "better": "lower"}, (0.0, math.inf), ("trip", "average")),
    "closest": (PAIR | {"arms": ["average", "trip", "raw"]}, (0.0, math.inf), ("average", "raw")),
    "slope": (ALONG | {"scale": "log2"}, (-math.inf, -0.01), ("trip", "average")),
    "share below": (ALONG, (0.6, math.inf), ("trip", "average")),
    "least lag where the second moves": (
        PAIR | {"over": "k", "arms": ["other", "start"]}, (0.25, math.inf), ("other", "constant")),
    "least difference": (PAIR | {"over": "k", "arms": ["average", "trip"]}, (0.0, math.inf), ("trip", "average")),
    "mean difference": (ALONG, (-math.inf, 0.0), ("trip", "average")),
    "mean ratio": (ALONG, (0.0, 0.9), ("trip", "average")),
    "value": ({"metric": "loss", "arms": ["trip"]}, (0.0, 0.6), ("trip", "average")),
}  # fmt: skip
TRIALS = {name: trial for name, trial in TRIALS.items() if name in CONTRASTS}


def levels(name: str, exchanged=None):
    """Means by arm, those of two arms exchanged; a slope falls with the window where the arm is the
    lower one.
    """
    names = dict(zip(exchanged, reversed(exchanged), strict=True)) if exchanged else {}

    def mean(arm: str, kernel: str, k: int) -> float:
        level = LEVELS[names.get(arm, arm)] + (0.03 if kernel == "ema" else 0.0)
        return level * (k**-0.05 if name == "slope" and names.get(arm, arm) == "trip" else 1)

    return mean


def asked(name: str) -> claims.Claim:
    contrast, (at_least, at_most), _ = TRIALS[name]
    primary = {"dataset": "digits", "kernel": "swa"} | ({} if "over" in contrast else {"k": 10})
    band = {"at_least": at_least, "at_most": at_most}
    return claim(
        kind="ordering", contrast={"name": name, **contrast}, primary={"cpu": primary}, **band
    )


def test_every_contrast_is_tried_on_known_tables():
    assert set(CONTRASTS) - set(TRIALS) == {"exact"}


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_true_is_reproduced(name):
    row = row_of(asked(name), made(levels(name)))
    assert (row.verdict, row.n, row.reason) == ("reproduced", 8, "")


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_false_is_contradicted(name):
    row = row_of(asked(name), made(levels(name, TRIALS[name][2])))
    assert (row.verdict, row.n) == ("contradicted", 8)


@pytest.mark.parametrize("name", TRIALS)
def test_shuffled_arms_decide_nothing(name):
    row = row_of(asked(name), made(levels(name), exchanged=TRIALS[name][2]))
    assert row.verdict == "inconclusive" and row.p > 0.05


@pytest.mark.parametrize("name", TRIALS)
def test_one_seed_that_diverged_leaves_nothing_firm(name):
    table = made(levels(name))
    table.loc[(table.seed == 3), ["loss", "top1"]] = math.nan
    row = row_of(asked(name), table)
    assert (row.verdict, row.reason) == (
        "inconclusive",
        "1 of 8 seeds have no number",
    ) and math.isnan(row.value)


@pytest.mark.parametrize("name", TRIALS)
def test_four_seeds_are_never_firm(name):
    row = row_of(asked(name), made(levels(name), seeds=4))
    assert row.verdict == "inconclusive" and "4 seeds, fewer than 5" in row.reason


@pytest.mark.parametrize(
    "name, edge", [("difference", 0.0), ("least difference", 0.0), ("closest", 0.0), ("ratio", 1.0)]
)
def test_a_tie_is_not_a_win_at_any_edge(name, edge):
    """Arms that agree to the last digit lie at the edge: inside the band as a number, but no win."""
    table = made(lambda arm, kernel, k: 1.0)
    table["loss"] = table.groupby(["seed", "branch"]).loss.transform("first")
    for band in ((edge, math.inf), (-math.inf, edge)):
        if name in ("closest", "least difference") and band[1] == edge:
            continue
        one = claim(
            kind="ordering",
            contrast=asked(name).contrast,
            primary=asked(name).primary,
            at_least=band[0],
            at_most=band[1],
        )
        row = row_of(one, table)
        assert (row.low, row.high, row.verdict) == (
            edge,
            edge,
            "inconclusive",
        ) and row.p_adjusted == 1.0


# Cases, controls and labels.

TABLE = made(levels("difference"), seeds=5, branches=2)


def measured(one: claims.Claim, table: pd.DataFrame = TABLE, **more) -> list[claims.Measured]:
    return claims.measure([one], decided(table, **more))


def difference(**changes) -> claims.Claim:
    contrast = {"name": "difference", **PAIR} | changes.pop("contrast", {})
    primary = {"cpu": {"dataset": "digits", "kernel": "swa", "k": 10}}
    return claim(kind="ordering", contrast=contrast, primary=primary, **changes)


def expected(first: str, second: str, kernel: str, k: int, metric: str = "loss"):
    """The estimate of a difference, by hand from the table."""
    cells = TABLE[(TABLE.kernel == kernel) & (TABLE.k == k)].set_index(["seed", "branch"])
    gap = cells[cells.arm == first][metric] - cells[cells.arm == second][metric]
    return estimate(gap.rename("value").reset_index(), "ordering", (0.8, 1.25))


def numbers(result) -> tuple:
    return tuple(round(each, 12) for each in (result.value, result.low, result.high, result.p)) + (
        result.n,
    )


def test_every_case_of_the_first_arm_is_measured():
    found = {(one.case["kernel"], one.case["k"]): one for one in measured(difference())}
    assert set(found) == {(kernel, k) for kernel in ("swa", "ema") for k in WINDOWS}
    for (kernel, k), one in found.items():
        assert numbers(one.estimate) == numbers(expected("trip", "average", kernel, k))
        assert (
            one.label == f"digits {kernel} k={k}" and one.role == "primary" and one.control is None
        )


def test_a_control_is_the_contrast_with_its_fields_changed():
    one = difference(control={"what": "constant-rate", "arms": ["constant", "average"]})
    for row in measured(one):
        assert numbers(row.control) == numbers(
            expected("constant", "average", row.case["kernel"], row.case["k"])
        )
        assert row.controlled == "constant-rate"


def test_a_control_in_another_kernel_is_taken_in_the_same_case():
    one = difference(control={"arms": [{"arm": "trip", "kernel": "ema"}, "average"]})
    row = next(row for row in measured(one) if row.case["kernel"] == "swa" and row.case["k"] == 10)
    trip = TABLE[(TABLE.arm == "trip") & (TABLE.kernel == "ema") & (TABLE.k == 10)].loss.mean()
    average = TABLE[
        (TABLE.arm == "average") & (TABLE.kernel == "swa") & (TABLE.k == 10)
    ].loss.mean()
    assert row.control.value == pytest.approx(trip - average)
    assert row.controlled == "difference of loss: trip (kernel ema), average"


def test_a_control_that_did_not_run_is_none():
    table = TABLE[~((TABLE.arm == "constant") & (TABLE.k == 1))]
    found = measured(difference(control={"arms": ["constant", "average"]}), table)
    assert {row.case["k"] for row in found if row.control is None} == {1}
    assert {row.controlled for row in found if row.control is None} == {""}


def test_secondary_contrasts_and_controls_have_rows_beside():
    one = difference(
        secondary={"top1": {"metric": "top1", "control": {"arms": ["other", "average"]}}},
        controls={"control other": {"arms": ["other", "average"]}},
    )
    found = {
        row.label: row
        for row in measured(one)
        if row.case["kernel"] == "ema" and row.case["k"] == 100
    }
    assert {label: row.role for label, row in found.items()} == {
        "digits ema k=100": "primary",
        "digits ema k=100 top1": "secondary",
        "digits ema k=100 control other": "control",
    }
    of_top1 = found["digits ema k=100 top1"]
    assert numbers(of_top1.estimate) == numbers(expected("trip", "average", "ema", 100, "top1"))
    assert numbers(of_top1.control) == numbers(expected("other", "average", "ema", 100, "top1"))
    control = found["digits ema k=100 control other"]
    assert numbers(control.estimate) == numbers(expected("other", "average", "ema", 100))


def test_rows_carry_where_they_were_made():
    row = measured(difference())[0]
    assert {name: getattr(row, name) for name in WHERE} == WHERE


def test_a_field_that_never_differs_is_not_in_the_label():
    one = claim(
        kind="ordering", contrast={"name": "difference", **PAIR, "where": {"kernel": "swa"}}
    )
    labels = {row.label for row in measured(one)}
    assert labels == {f"digits k={k}" for k in WINDOWS}
    assert {row.label for row in measured(one, named=False)} == {f"k={k}" for k in WINDOWS}


def test_several_experiments_are_one_table():
    one = difference(experiment=["figure_1", "figure_2"])
    asked_for = []

    def tables(names):
        asked_for.append(names)
        return decided(TABLE)(names)

    assert len(claims.measure([one, difference(experiment=["figure_1", "figure_2"])], tables)) == 12
    assert asked_for == [("figure_1", "figure_2")]  # read once for both


def test_what_has_not_run_has_no_rows():
    assert (
        claims.measure([difference(), claim(experiment="", contrast={})], lambda names: None) == []
    )


def test_how_many_seeds_would_decide_is_said():
    found = measured(difference(at_least=-0.2001, at_most=math.inf))
    hints = {
        row.estimate.hint for row in found if row.case["kernel"] == "swa" and row.case["k"] == 10
    }
    assert any(
        hint.startswith("about ") and hint.endswith("seeds would decide at this mean and spread")
        for hint in hints
    )


# Exact rows.


def exact(kind: str = "exact", **changes) -> claims.Claim:
    fields = {
        "contrast": {"name": "exact", "of": "the largest error"},
        "primary": {},
        "at_least": -1.0,
        "at_most": 1.0,
    }
    return claim(kind=kind, needs="smoke", **fields | changes)


def algebra(*rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["claim", "case", "value", "control"])
    return table.assign(dataset="quadratic", **WHERE)


def measured_exactly(one, table) -> list[claims.Measured]:
    tables = Decided(table, ("claim", "case"), {}, named=False)
    return claims.measure([one], lambda names: tables)


def test_an_exact_claim_has_the_rows_of_its_name():
    rows = (("A-1", "k=1", 0.5, 7.0), ("A-1", "k=2", 0.25, math.nan), ("A-2", "k=1", 9.0, 9.0))
    one = exact(control={"what": "constant-rate", "metric": "control"})
    first, second = measured_exactly(one, algebra(*rows))
    assert (first.label, first.estimate.value, first.control.value) == ("k=1", 0.5, 7.0)
    assert (second.label, second.estimate.value, second.control) == ("k=2", 0.25, None)
    assert (
        first.contrast == "the largest error"
        and first.controlled == "constant-rate"
        and second.controlled == ""
    )


@pytest.mark.parametrize("kind, words", [
    ("exact", ("reproduced", "contradicted")), ("erratum", ("confirmed", "not confirmed")),
])  # fmt: skip
def test_exact_numbers_that_are_true_and_those_of_another_claim(kind, words):
    """There is nothing to shuffle: two numbers in one case are refused, see below."""
    for (own, other), word in zip((("A-1", "A-2"), ("A-2", "A-1")), words, strict=True):
        table = algebra((own, "k=1", 0.5, 7.0), (other, "k=1", 7.0, 0.5))
        found = measured_exactly(exact(kind), table)
        (row,) = claims.judge("x", [exact(kind)], found, "smoke").itertuples()
        assert (row.verdict, row.low) == (word, row.value)


def test_an_exact_claim_has_one_number_per_case():
    rows = (("A-1", "k=1", 0.5, 7.0), ("A-1", "k=1", 0.6, 7.0))
    table = algebra(*rows).assign(seed=[0, 1])
    with pytest.raises(BadData, match="claim A-1: an exact claim needs one number per case, got 2"):
        measured_exactly(exact(), table)


# Measures of a file of their own.


def doubled(contrast: Contrast, table: pd.DataFrame):
    """Twice the loss of the arm that is asked for, in the case of each window."""
    for k, part in table[table.arm == contrast.arms[0]["arm"]].groupby("k"):
        yield {"dataset": "digits", "k": k}, part.groupby(["seed", "branch"]).loss.mean() * 2


def test_a_measure_of_its_own_is_judged_like_a_contrast():
    contrast = {"name": "doubled", "arms": ["trip"]}
    one = claim(
        kind="ordering",
        contrast=contrast,
        control={"arms": ["constant"]},
        at_least=0.9,
        at_most=1.2,
    )
    found = {row.case["k"]: row for row in measured(one, measures={"doubled": doubled})}
    assert set(found) == set(WINDOWS)
    for k, row in found.items():
        mean = {
            arm: TABLE[(TABLE.arm == arm) & (TABLE.k == k)].loss.mean()
            for arm in ("trip", "constant")
        }
        assert row.estimate.value == pytest.approx(2 * mean["trip"])
        assert row.control.value == pytest.approx(2 * mean["constant"])


# Words.


@pytest.mark.parametrize("asked_for, words", [
    ({"name": "difference", **PAIR}, "difference of loss: trip, average"),
    ({"name": "ratio of gains", **PAIR, "base": "raw"}, "ratio of gains of loss: trip, average; base raw"),
    ({"name": "slope", **ALONG, "scale": "log2"}, "slope of loss: trip, average; over k; scale log2"),
    ({"name": "value", "metric": "loss", "arms": [{"arm": "trip", "k": 10}]}, "value of loss: trip (k 10)"),
    ({"name": "value", "metric": "loss", "arms": [{"k": 10}], "where": {"kernel": ["swa", "ema"]}},
     "value of loss: k 10; kernel swa+ema"),
    ({"name": "exact", "of": "the largest error"}, "the largest error"),
], ids=str)  # fmt: skip
def test_a_contrast_is_told_in_one_line(asked_for, words):
    assert describe(Contrast.read(asked_for)) == words
