"""Every road to a verdict, and every claims file that is shipped."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate import claims, paths
from replicate.analysis import Estimate, estimate
from replicate.claims import COLUMNS, Claim, Measured, headline, judge
from replicate.errors import BadData, BadParameter

CASE = "digits swa k=100"


def claim(name: str = "A-1", **changes) -> Claim:
    about = {
        "id": name, "where": "Table 1", "statement": "they are equal", "kind": "equivalence", "quantity": "ratio",
        "unit": "ratio", "needs": "cpu", "at_least": 0.8, "at_most": 1.25, "primary_case": {"cpu": CASE},
    }  # fmt: skip
    return Claim(**(about | changes))


def sampled(centre: float, spread: float = 0.02, seeds: int = 8, branches: int = 4, kind: str = "equivalence"):
    """An estimate at the sample sizes that are in use; its own seed, so that nothing depends on the order of tests."""
    noise = np.random.Generator(np.random.Philox([int(1000 * abs(centre)), seeds])).standard_normal((seeds, branches))
    index = [(s, b) for s in range(seeds) for b in range(branches)]
    table = pd.DataFrame(index, columns=["seed", "branch"]).assign(value=(centre + spread * noise).ravel())
    return estimate(table, kind, (0.8, 1.25))


def verdict(one: Claim, *measured, **about) -> pd.Series:
    table = judge("someone2020", [one], measured, about.pop("preset", "cpu"), **about)
    assert list(table.columns) == COLUMNS and len(table) == 1
    return table.iloc[0]


# Intervals against the band.


@pytest.mark.parametrize("kind", ["equivalence", "estimate", "ordering"])
@pytest.mark.parametrize(
    "centre, spread, expected",
    [(1.0, 0.02, "reproduced"), (0.5, 0.02, "contradicted"), (1.6, 0.02, "contradicted"), (1.0, 0.9, "inconclusive"),
     (0.8, 0.05, "inconclusive")],
)  # fmt: skip
def test_the_whole_interval_has_to_lie_in_the_band_or_outside(kind, centre, spread, expected):
    found = sampled(centre, spread, kind=kind)
    assert verdict(claim(kind=kind), Measured("A-1", CASE, found)).verdict == expected


@pytest.mark.parametrize("seeds, branches", [(8, 4), (5, 1), (2, 3)])
def test_true_false_and_shuffled_at_every_sample_size_in_use(seeds, branches):
    true, false = (sampled(centre, 0.02, seeds, branches) for centre in (1.0, 0.5))
    signs = np.resize([1, -1], seeds * branches)  # arms swapped in every other unit: half 2, half 0.5
    index = [(s, b) for s in range(seeds) for b in range(branches)]
    shuffled = pd.DataFrame(index, columns=["seed", "branch"]).assign(value=2.0**signs)
    found = [true, false, estimate(shuffled, "equivalence", (0.8, 1.25))]
    verdicts = [verdict(claim(), Measured("A-1", CASE, one)).verdict for one in found]
    assert verdicts == ["reproduced", "contradicted", "inconclusive"]


@pytest.mark.parametrize("at_least, at_most, low, high, expected", [
    (0.8, 1.25, 0.8, 1.25, "reproduced"), (0.8, 1.25, 0.79, 1.0, "inconclusive"),
    (0.8, 1.25, 0.1, 0.79, "contradicted"),
    (0.0, math.inf, 0.0, 5.0, "reproduced"), (0.0, math.inf, -1.0, -0.1, "contradicted"),
    (0.8, 1.25, -math.inf, math.inf, "inconclusive"),
])  # fmt: skip
def test_edges_belong_to_the_band(at_least, at_most, low, high, expected):
    assert claim(at_least=at_least, at_most=at_most).holds(Estimate(1.0, low, high)) == expected


def test_fewer_than_five_units_are_never_firm():
    row = verdict(claim(), Measured("A-1", CASE, sampled(1.0, 1e-4, seeds=2, branches=2)))
    assert (row.verdict, row.reason) == ("inconclusive", "4 units, fewer than 5; within 2 seeds")


def test_branches_of_few_seeds_are_said_to_be_that():
    row = verdict(claim(), Measured("A-1", CASE, sampled(1.0, seeds=2, branches=3)))
    assert (row.verdict, row.reason, row.n) == ("reproduced", "within 2 seeds", 6)


def test_an_estimate_that_nothing_can_be_drawn_from_keeps_its_reason():
    lost = Estimate(math.nan, -math.inf, math.inf, n=8, p=1.0, reason="1 of 8 units diverged")
    row = verdict(claim(), Measured("A-1", CASE, lost))
    assert (row.verdict, row.reason) == ("inconclusive", "1 of 8 units diverged")


# Holm.


def holm(p: list[float]) -> list[float]:
    """Step down: the r-th smallest times the number of those that are left, never smaller than the one before."""
    adjusted, worst = dict.fromkeys(range(len(p)), 1.0), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return [adjusted[i] for i in range(len(p))]


def at(p: float) -> Estimate:
    return Estimate(1.0, 0.9, 1.1, level=0.9, n=8, p=p, seeds=8, unit="seed")


@given(st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_primary_cases_share_one_error_rate(ps):
    family = [claim(f"A-{i}") for i in range(len(ps))]
    table = judge("x", family, [Measured(c.id, CASE, at(p)) for c, p in zip(family, ps, strict=True)], "cpu")
    np.testing.assert_allclose(table.p, holm(ps))
    firm = table.verdict == "reproduced"
    assert list(firm) == [p < 0.05 for p in holm(ps)]
    assert set(table.reason[~firm]) <= {"Holm"}


def test_a_primary_case_that_was_not_tested_counts_as_p_of_one():
    family = [claim("A-1"), claim("A-2"), claim("A-3")]
    table = judge("x", family, [Measured("A-1", CASE, at(0.02))], "cpu").set_index("claim")
    assert table.p["A-1"] == pytest.approx(0.06) and table.verdict["A-1"] == "inconclusive"


def test_claims_without_a_primary_case_here_do_not_dilute():
    family = [claim("A-1"), claim("A-2", primary_case={"gpu": CASE}), claim("A-3", kind="exact")]
    table = judge("x", family, [Measured("A-1", CASE, at(0.02))], "cpu").set_index("claim")
    assert table.p["A-1"] == pytest.approx(0.02) and table.verdict["A-1"] == "reproduced"


def test_secondary_cases_are_not_adjusted_and_not_counted():
    other = Measured("A-1", "cifar10 swa k=100", at(0.04))
    table = judge("x", [claim("A-1"), claim("A-2")], [Measured("A-1", CASE, at(1e-6)), other], "cpu")
    row = table[table.case == "cifar10 swa k=100"].iloc[0]
    assert (row.reason, row.p, row.verdict) == ("secondary, not adjusted", 0.04, "reproduced")
    assert headline(table).to_dict() == {"reproduced": 1, "contradicted": 0, "inconclusive": 0, "not tested": 1}


def test_of_a_claims_exact_cases_the_worst_counts():
    exact = claim("A-1", kind="exact", at_least=-1e-12, at_most=1e-12, needs="smoke", primary_case={})
    measured = [Measured("A-1", f"k={k}", Estimate.exact(v)) for k, v in enumerate((0.0, 0.0, 0.5))]
    table = judge("x", [exact], measured, "smoke")
    assert table.verdict.tolist() == ["reproduced", "reproduced", "contradicted"]
    assert headline(table)["contradicted"] == 1 and headline(table).sum() == 1


# Controls.


@pytest.mark.parametrize(
    "control, expected",
    [(None, "none"), (sampled(1.0), "passes too"), (sampled(0.5), "fails as it should"),
     (sampled(1.0, 0.9), "undecided"), (sampled(1.0, 1e-4, seeds=2, branches=2), "undecided")],
)  # fmt: skip
def test_the_control_is_judged_by_the_same_rule(control, expected):
    assert verdict(claim(), Measured("A-1", CASE, sampled(1.0), control)).control == expected


# What was not tested.


@pytest.mark.parametrize(
    "preset, built, absent, reason",
    [
        ("cpu", (), (), "not built yet"),
        ("smoke", ("A-1",), (), "needs cpu"),
        ("cpu", ("A-1",), ("digits",), "digits not at hand (make data)"),
        ("cpu", ("A-1",), ("cifar10",), "needs cpu (not run yet)"),
    ],
)
def test_a_claim_that_was_not_tested_says_why(preset, built, absent, reason):
    row = verdict(claim(), preset=preset, built=built, absent=absent)
    assert (row.verdict, row.reason) == ("not tested", reason) and math.isnan(row.value)


def test_a_network_claim_is_run_but_not_judged_below_its_preset():
    row = verdict(claim(), Measured("A-1", CASE, sampled(1.0)), preset="smoke")
    assert (row.verdict, row.reason) == ("not tested", "needs cpu")


def test_what_no_claim_asks_for_is_a_mistake():
    with pytest.raises(KeyError, match="A-9"):
        judge("someone2020", [claim()], [Measured("A-9", "", sampled(1.0))], "cpu")


# Files.

ROW = """[[claim]]
id = "A-1"
where = "p. 1"
statement = "s"
kind = "exact"
quantity = "q"
unit = "1"
needs = "smoke"
at_most = 1.0
"""


def written(folder, text: str):
    (folder / "someone2020.toml").write_text(text)
    return folder


def test_a_file_is_read_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", written(tmp_path, ROW))
    (one,) = claims.load("someone2020")
    assert (one.id, one.band) == ("A-1", (-math.inf, 1.0))


@pytest.mark.parametrize(
    "text, named",
    [
        (ROW + "colour = 3\n", "colour"),
        (ROW.replace('kind = "exact"', 'kind = "vague"'), "vague"),
        (ROW.replace('needs = "smoke"', 'needs = "luck"'), "luck"),
        (ROW.replace('unit = "1"\n', ""), "unit"),
        (ROW.replace("at_most = 1.0\n", ""), "band"),
        (ROW + "at_least = 2.0\n", "band"),
        (ROW + 'primary_case = {lunar = "x"}\n', "lunar"),
        (ROW + ROW, "more than once"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_names_the_fault(tmp_path, monkeypatch, text, named):
    monkeypatch.setattr(claims, "CLAIMS", written(tmp_path, text))
    with pytest.raises(BadData, match=named) as error:
        claims.load("someone2020")
    assert "\n" not in str(error.value)


def test_an_unknown_source_is_met_with_the_nearest_one():
    with pytest.raises(BadParameter, match="did you mean 'sandler2023trajectories'"):
        claims.load("sandler2023")


@pytest.mark.parametrize("path", sorted(paths.CLAIMS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_file_has_a_primary_case_for_every_row_with_an_interval(path):
    rows = claims.load(path.stem)
    assert len(rows) > 60
    for one in rows:
        assert one.where and one.statement and one.quantity and one.unit
        if one.kind not in claims.WITHOUT_INTERVAL and one.needs in ("cpu", "gpu"):
            assert one.primary_case, f"{one.id} could never be firm"
