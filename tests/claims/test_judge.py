"""Every road to a verdict; and from a row alone its words can be told again."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from examples import claim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicate import claims, paths
from replicate.app import registry, verdicts
from replicate.claims import COLUMNS, Measured, headline, judge, primary_rows, tell
from replicate.claims.statistics import Estimate, estimate
from replicate.errors import BadData
from replicate.sources.protocol import names

CASE = {"dataset": "digits", "k": 100}
OTHER = {"dataset": "cifar10", "k": 100}
OF_THE_DESIGN = (
    "source claim origin kind family role case setting where quote statement contrast at_least at_most margin preset "
    "verdict reason value low high level unit n p p_adjusted control control_value control_verdict commit device"
).split()


def sampled(
    centre: float,
    spread: float = 0.02,
    seeds: int = 8,
    branches: int = 4,
    kind: str = "equivalence",
):
    """An estimate at the sample sizes in use; its own seed, so that nothing depends on the order of
    tests.
    """
    key = [int(1000 * abs(centre)), seeds]
    noise = np.random.Generator(np.random.Philox(key)).standard_normal((seeds, branches))
    index = [(s, b) for s in range(seeds) for b in range(branches)]
    table = pd.DataFrame(index, columns=["seed", "branch"]).assign(
        value=(centre + spread * noise).ravel()
    )
    return estimate(table, kind, (0.8, 1.25))


def measured(
    result: Estimate, name: str = "A-1", case=CASE, role="primary", control=None, **more
) -> Measured:
    label = " ".join(str(value) for value in case.values())
    told = {
        "contrast": "ratio",
        "controlled": "constant-rate" if control is not None else "",
    } | more
    return Measured(name, role, case, label, estimate=result, control=control, **told)


def verdict(one: claims.Claim, *found: Measured, preset: str = "cpu", **more) -> pd.Series:
    table = judge("someone2020", [one], found, preset, **more)
    assert list(table.columns) == COLUMNS and len(table) == 1
    return table.iloc[0]


def test_a_row_has_the_columns_of_the_design():
    assert set(OF_THE_DESIGN) <= set(COLUMNS)


# Intervals against the band.


@pytest.mark.parametrize("kind", ["equivalence", "estimate", "ordering"])
@pytest.mark.parametrize("centre, spread, word", [
    (1.0, 0.02, "reproduced"), (0.5, 0.02, "contradicted"), (1.6, 0.02, "contradicted"), (1.0, 0.9, "inconclusive"),
    (0.8, 0.05, "inconclusive"),
])  # fmt: skip
def test_the_whole_interval_has_to_lie_on_one_side(kind, centre, spread, word):
    assert verdict(claim(kind=kind), measured(sampled(centre, spread, kind=kind))).verdict == word


@pytest.mark.parametrize("branches", [1, 3, 50])
def test_fewer_than_five_seeds_are_never_firm_whatever_their_branches(branches):
    row = verdict(claim(), measured(sampled(1.0, 1e-6, seeds=4, branches=branches)))
    assert (row.verdict, row.n) == ("inconclusive", 4)
    assert row.reason == "4 seeds, fewer than 5"


@pytest.mark.parametrize("centre, word", [(1.0, "reproduced"), (0.5, "contradicted")])
def test_an_obstacle_keeps_any_word_from_being_firm(centre, word):
    free = verdict(claim(), measured(sampled(centre)))
    held = verdict(claim(), measured(sampled(centre), obstacles=("8 of 24 seeds", "a stand-in")))
    assert (free.verdict, free.obstacle, free.reason) == (word, "", "")
    assert (held.verdict, held.obstacle) == ("inconclusive", "8 of 24 seeds; a stand-in")
    assert held.reason == held.obstacle and held.p_adjusted == free.p_adjusted < 1e-3


def test_a_tie_has_no_word_at_any_edge():
    tie = Estimate(0.8, 0.8, 0.8, 0.9, 8, 0.0)
    assert verdict(claim(), measured(tie)).verdict == "inconclusive"
    assert verdict(claim(at_least=-math.inf, at_most=0.8), measured(tie)).verdict == "inconclusive"
    exact = verdict(claim(kind="exact", primary={}), measured(Estimate.exact(0.8)))
    assert exact.verdict == "reproduced"


def test_skewed_seeds_are_said_to_be_that():
    result = replace(sampled(1.0), skewness=2.2)
    row = verdict(claim(), measured(result))
    assert (row.verdict, row.skewness) == ("reproduced", 2.2)
    assert row.reason == "the seeds are skewed (2.2)"
    assert verdict(claim(), measured(replace(result, skewness=0.9))).reason == ""


def test_a_row_may_have_a_band_and_a_unit_of_its_own():
    """The same work twice is held against its own band, beside a claim on something else."""
    beside = measured(at(0.5), role="control", band=(0.95, 1.05), unit="seconds over seconds")
    table = judge("x", [claim()], [measured(at(1e-6)), beside], "cpu")
    assert (table.at_least[1], table.at_most[1], table.unit[1]) == (
        0.95,
        1.05,
        "seconds over seconds",
    )
    assert (table.verdict[1], table.verdict[0], table.unit[0]) == ("across", "reproduced", "ratio")


def test_an_estimate_that_says_nothing_keeps_its_reason():
    lost = Estimate(math.nan, -math.inf, math.inf, n=8, p=1.0, reason="1 of 8 seeds have no number")
    row = verdict(claim(), measured(lost))
    assert (row.verdict, row.reason) == ("inconclusive", "1 of 8 seeds have no number")


def test_what_eight_seeds_decide_six_seeds_may_not():
    """The same spread leaves a wider interval with fewer seeds: 0.88, each seed 0.1 off."""
    rows = []
    for seeds in (8, 6):
        table = pd.DataFrame({"seed": range(seeds), "branch": 0})
        table["value"] = 0.88 + np.where(table.seed % 2 == 0, -0.1, 0.1)
        rows.append(verdict(claim(), measured(estimate(table, "equivalence", (0.8, 1.25)))))
    assert [(row.verdict, row.n) for row in rows] == [("reproduced", 8), ("inconclusive", 6)]


# Holm within families.


def holm(p: list[float]) -> list[float]:
    """Step down: the r-th smallest times the number of those that remain, never smaller than the
    one before.
    """
    adjusted, worst = dict.fromkeys(range(len(p)), 1.0), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return [adjusted[i] for i in range(len(p))]


def at(p: float) -> Estimate:
    return Estimate(1.0, 0.9, 1.1, level=0.9, n=8, p=p)


def family(*groups: list[float]) -> tuple[list[claims.Claim], list[Measured]]:
    """Claims of several families, their rows mixed, each with a p."""
    rows = [
        (f"{name}-{i}", name, p)
        for name, ps in zip("AB", groups, strict=False)
        for i, p in enumerate(ps)
    ]
    rows = rows[::2] + rows[1::2]
    made = [
        claim(name, family=f"Fig. {group}", where=f"Fig. {group}, left") for name, group, _ in rows
    ]
    return made, [measured(at(p), name) for name, _, p in rows]


@given(
    st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=6),
    st.lists(st.floats(1e-6, 0.999), max_size=4),
)
@example([0.04, 0.01, 0.02, 0.03], [0.02])  # 0.06, 0.04, 0.06, 0.06 and 0.02
@settings(max_examples=15, deadline=None)
def test_a_family_shares_one_error_rate(first, second):
    table = judge("x", *family(first, second), "cpu").set_index("claim")
    expected = [*holm(first), *holm(second)]
    rows = table.loc[[f"A-{i}" for i in range(len(first))] + [f"B-{i}" for i in range(len(second))]]
    np.testing.assert_allclose(rows.p_adjusted, expected)
    assert list(rows.p) == [*first, *second]
    assert list(rows.verdict == "reproduced") == [p < 0.05 for p in expected]
    loose = rows[rows.verdict != "reproduced"]
    assert all(
        reason.startswith("not significant after Holm's correction (p = ")
        for reason in loose.reason
    )


def test_a_primary_case_that_did_not_run_counts_as_p_of_one():
    table = judge(
        "x", [claim("A-1"), claim("A-2"), claim("A-3")], [measured(at(0.02))], "cpu"
    ).set_index("claim")
    assert table.p_adjusted["A-1"] == pytest.approx(0.06) and table.verdict["A-1"] == "inconclusive"


def test_claims_without_a_primary_case_here_do_not_dilute():
    elsewhere = claim("A-2", primary={"gpu": CASE})
    others = [elsewhere, claim("A-3", kind="exact"), claim("A-4", family="row 2")]
    table = judge("x", [claim("A-1"), *others], [measured(at(0.02))], "cpu").set_index("claim")
    assert table.p_adjusted["A-1"] == 0.02 and table.verdict["A-1"] == "reproduced"
    assert table.reason["A-2"] == "no primary case at preset cpu"


def test_secondary_cases_have_no_word_and_are_not_counted():
    beside = measured(at(0.04), case=OTHER)
    table = judge("x", [claim("A-1"), claim("A-2")], [measured(at(1e-6)), beside], "cpu")
    row = table[table.case == "cifar10 100"].iloc[0]
    assert (row.role, row.verdict, row.p) == ("secondary", "inside", 0.04) and math.isnan(
        row.p_adjusted
    )
    assert headline(table).loc["claims of the source", ["reproduced", "not tested"]].tolist() == [
        1,
        1,
    ]


@pytest.mark.parametrize("role", ["secondary", "control"])
@pytest.mark.parametrize(
    "low, high, word", [(0.9, 1.1, "inside"), (0.1, 0.2, "outside"), (0.7, 1.1, "across")]
)
def test_rows_beside_say_where_they_lie(role, low, high, word):
    result = Estimate(1.0, low, high, 0.9, 8, 1e-9)
    table = judge("x", [claim()], [measured(at(1e-6)), measured(result, role=role)], "cpu")
    assert (table.role[1], table.verdict[1]) == (role, word)


def test_a_primary_case_that_did_not_run_is_not_hidden():
    one = claim(primary={"cpu": OTHER})
    told = {"untested": lambda each: f"data set of {each.id} is not at hand"}
    table = judge("x", [one], [measured(at(1e-6))], "cpu", **told)
    assert list(zip(table.case, table.verdict, table.reason, strict=True)) == [
        ("cifar10 100", "not tested", "data set of A-1 is not at hand"),
        ("digits 100", "inside", ""),
    ]
    assert headline(table).loc["claims of the source"].to_dict()["not tested"] == 1


def test_a_primary_case_that_fits_twice_is_refused():
    one = claim(primary={"cpu": {"k": 100}})
    with pytest.raises(
        BadData, match=r"claim A-1: primary.cpu fits 2 cases \(digits 100, cifar10 100\)"
    ):
        judge("x", [one], [measured(at(0.1)), measured(at(0.1), case=OTHER)], "cpu")


# Exact rows and errata.


@pytest.mark.parametrize("kind, value, word", [
    ("exact", 1.0, "reproduced"), ("exact", 2.0, "contradicted"), ("erratum", 1.0, "confirmed"),
    ("erratum", 2.0, "not confirmed"),
])  # fmt: skip
def test_exact_rows_are_firm_without_p(kind, value, word):
    row = verdict(claim(kind=kind, primary={}), measured(Estimate.exact(value)))
    assert (row.verdict, row.reason, row.role) == (word, "", "primary")
    assert (
        math.isnan(row.p)
        and math.isnan(row.p_adjusted)
        and row.low == row.high == row.value == value
    )


def test_of_a_claims_exact_cases_the_worst_counts():
    exact = claim(kind="exact", at_least=-1e-12, at_most=1e-12, needs="smoke", primary={})
    found = [measured(Estimate.exact(v), case={"k": k}) for k, v in enumerate((0.0, 0.0, 0.5))]
    table = judge("x", [exact], found, "smoke")
    assert table.verdict.tolist() == ["reproduced", "reproduced", "contradicted"]
    counts = headline(table).loc["exact statements of the source"]
    assert counts["contradicted"] == 1 and counts.sum() == 1


# Controls.


@pytest.mark.parametrize("control, word", [
    (None, ""), (sampled(1.0), "passes too"), (sampled(0.5), "fails"), (sampled(1.0, 0.9), "undecided"),
    (sampled(1.0, 1e-4, seeds=2, branches=2), "undecided"),
    (Estimate(1.0, 0.9, 1.1, n=8, p=0.0, reason="gain not above 0 at p < 0.01 (p = 1)"), "undecided"),
])  # fmt: skip
def test_the_control_is_judged_by_the_same_band(control, word):
    row = verdict(claim(), measured(sampled(1.0), control=control))
    assert (row.verdict, row.control_verdict) == ("reproduced", word)
    assert row.control == ("" if control is None else "constant-rate")


def test_the_headline_splits_on_the_control():
    named = {"A-1": 0.5, "A-2": 1.0, "A-3": 1.0}
    rows = [measured(at(1e-6), name, control=sampled(value)) for name, value in named.items()]
    counts = headline(judge("x", [claim(name) for name in named], rows, "cpu")).loc[
        "claims of the source"
    ]
    assert (counts["reproduced"], counts["control fails"]) == (3, 1)


def test_the_headline_counts_kinds_and_origins_apart():
    rows = [claim("A-1"), claim("A-2", origin="ours"), claim("A-3", kind="exact"), claim("A-4", kind="erratum"),
            claim("A-5", kind="exact", origin="ours")]  # fmt: skip
    exact = [measured(Estimate.exact(1.0), name) for name in ("A-3", "A-4", "A-5")]
    found = [measured(at(1e-6), name) for name in ("A-1", "A-2")]
    counts = headline(judge("x", rows, found + exact, "cpu"))
    assert counts.reproduced.to_dict() == dict(zip(claims.GROUPS, (1, 1, 0, 2), strict=True))
    assert counts.confirmed.to_dict() == dict(zip(claims.GROUPS, (0, 0, 1, 0), strict=True))


def test_every_word_is_counted_even_where_there_is_none():
    named = {"reproduced": (1, 0.02), "contradicted": (0.5, 0.02), "inconclusive": (1, 2)}
    rows = [
        claim(name, family=f"Fig. {i}", where=f"Fig. {i}")
        for i, name in enumerate([*named, "not-tested"])
    ]
    found = [measured(sampled(*how), name) for name, how in named.items()]
    table = judge("x", rows, found, "cpu")
    assert [word.replace(" ", "-") for word in table.verdict] == [row.id for row in rows]
    counts = headline(table).loc["claims of the source"]
    assert {word: counts[word] for word in claims.WORDS} == dict.fromkeys(claims.WORDS, 1)
    assert headline(table.iloc[:1]).to_numpy().sum() == 1


# What was not tested.


@pytest.mark.parametrize("changes, preset, reason", [
    ({"experiment": "", "contrast": {}}, "cpu", "no experiment"),
    ({}, "smoke", "needs preset cpu"),
    ({"needs": "gpu", "primary": {"gpu": CASE}}, "cpu", "needs preset gpu"),
    ({"primary": {"gpu": CASE}}, "cpu", "no primary case at preset cpu"),
    ({}, "cpu", "not run at preset cpu"),
])  # fmt: skip
def test_a_claim_that_was_not_tested_says_why(changes, preset, reason):
    row = verdict(claim(**changes), preset=preset)
    assert (row.verdict, row.reason, row.role) == ("not tested", reason, "primary") and math.isnan(
        row.value
    )


def test_below_its_preset_a_claim_has_no_row_of_a_case():
    row = verdict(claim(), measured(sampled(1.0)), preset="smoke")
    assert (row.verdict, row.reason) == ("not tested", "needs preset cpu")


def test_what_no_claim_asks_for_is_a_mistake():
    with pytest.raises(KeyError, match="A-9"):
        judge("someone2020", [claim()], [measured(sampled(1.0), "A-9")], "cpu")


# The row.


def test_a_row_carries_the_claim_the_numbers_and_their_origin():
    result, control = sampled(1.0), sampled(0.5)
    origin = {"commit": "0123abc", "device": "cpu, 2 cores", "setting": "stand-in"}
    one = claim(quote="the same", margin="ours")
    row = verdict(one, measured(result, control=control, **origin))
    expected = {
        name: getattr(one, name)
        for name in "origin kind family where quote statement margin unit".split()
    }
    expected |= {
        name: getattr(result, name) for name in "value low high level n p".split()
    } | origin
    expected |= {
        "source": "someone2020",
        "claim": "A-1",
        "role": "primary",
        "case": "digits 100",
        "preset": "cpu",
    }
    expected |= {"at_least": 0.8, "at_most": 1.25, "contrast": "ratio", "p_adjusted": result.p}
    expected |= {"control": "constant-rate", "control_value": control.value, "control_n": 8}
    expected |= {"control_low": control.low, "control_high": control.high}
    assert {name: row[name] for name in expected} == expected


ESTIMATES = st.builds(
    lambda value, half, n, p: Estimate(value, value - half, value + half, 0.9, n, p),
    st.floats(-1, 3), st.floats(0, 1), st.integers(2, 9), st.floats(0, 1),
)  # fmt: skip


KINDS = ("equivalence", "ordering", "estimate", "exact", "erratum")
RESULTS = st.lists(st.tuples(ESTIMATES, st.one_of(st.none(), ESTIMATES)), min_size=1, max_size=5)


@given(RESULTS, st.sampled_from(KINDS))
@settings(max_examples=20, deadline=None)
def test_words_of_any_rows_are_told_from_the_row(results, kind):
    rows = [claim(f"A-{i}", kind=kind) for i in range(len(results))]
    found = [measured(each, f"A-{i}", control=control) for i, (each, control) in enumerate(results)]
    found += [
        measured(each, f"A-{i}", OTHER, role="secondary") for i, (each, _) in enumerate(results)
    ]
    for row in judge("x", rows, found, "cpu").to_dict("records"):
        assert told_again(row) == (row["verdict"], row["control_verdict"]) == tell(row)


def told_again(row: dict) -> tuple[str, str]:
    """The words of a row, written once more from the design alone."""
    if row["verdict"] == "not tested":
        return "not tested", ""
    exact = row["kind"] in ("exact", "erratum")

    def where(low: float, high: float) -> str:
        if not exact and low == high and low in (row["at_least"], row["at_most"]):
            return "across"
        if low >= row["at_least"] and high <= row["at_most"]:
            return "inside"
        return "outside" if high < row["at_least"] or low > row["at_most"] else "across"

    place = where(row["low"], row["high"])
    if row["kind"] == "erratum":
        word = "confirmed" if place == "inside" else "not confirmed"
    elif row["role"] != "primary":
        word = place
    else:
        word = {"inside": "reproduced", "outside": "contradicted", "across": "inconclusive"}[place]
        if not exact and (row["n"] < 5 or not row["p_adjusted"] < 0.05 or row["obstacle"] != ""):
            word = "inconclusive"
    if not row["control"]:
        return word, ""
    against = {"inside": "passes too", "outside": "fails", "across": "undecided"}
    few = not exact and row["control_n"] < 5
    return word, "undecided" if few else against[where(row["control_low"], row["control_high"])]


@pytest.mark.parametrize("column, value", [
    ("low", 0.1), ("high", 9.0), ("at_least", 1.05), ("at_most", 0.95), ("n", 4), ("p_adjusted", 0.05),
    ("role", "control"), ("kind", "erratum"), ("control_low", 0.9), ("control_n", 4), ("control", ""),
    ("obstacle", "4 of 8 seeds"),
])  # fmt: skip
def test_each_number_that_decides_changes_the_words(column, value):
    control = Estimate(0.5, 0.4, 0.6, 0.9, 8, 0.0)
    if column == "control_low":
        control = replace(control, high=1.0)
    row = verdict(claim(), measured(at(1e-6), control=control)).to_dict()
    changed = row | {column: value}
    assert told_again(changed) == tell(changed) != tell(row)


@pytest.mark.parametrize("preset", claims.PRESETS)
@pytest.mark.parametrize("source", names())
def test_words_of_recorded_rows_are_told_from_the_row(source, preset):
    if not (paths.RESULTS / preset / source).exists():
        pytest.skip(f"nothing of {source} is recorded at preset {preset}")
    table = verdicts.read_recorded(registry.source(source), preset)
    assert list(table.columns) == COLUMNS and len(table)
    for row in table.to_dict("records"):
        assert told_again(row) == (row["verdict"], row["control_verdict"]) == tell(row), row[
            "claim"
        ]


@pytest.mark.parametrize("source", names())
def test_recorded_rows_have_words_of_the_vocabulary(source):
    table = verdicts.read_recorded(registry.source(source), "cpu")
    firm = {*claims.WORDS, "confirmed", "not confirmed"}
    assert set(table.verdict[table.role == "primary"]) <= firm
    assert set(table.verdict[table.role != "primary"]) <= {"inside", "outside", "across"}
    assert set(table.control_verdict) <= {"", "fails", "passes too", "undecided"}
    primary = primary_rows(table)
    intervals = primary[~primary.kind.isin(claims.WITHOUT_INTERVAL)]
    assert not intervals.claim.duplicated().any()
