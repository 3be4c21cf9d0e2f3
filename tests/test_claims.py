"""Every road to a verdict, and every claims file that is shipped."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicate import claims, paths
from replicate.analysis import Estimate, closest, estimate
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


def verdict(one: Claim, *found: Measured, **about) -> pd.Series:
    table = judge("someone2020", [one], found, about.pop("preset", "cpu"), **about)
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


# Shipped claims of each kind with an interval: columns, their means if the claim is true, and if it is clearly false.
SHIPPED = {
    "equivalence of gains": ("TRAJ-21.loss", ("numerator", "denominator"), (1.0, 1.0), (0.4, 1.0)),
    "equivalence of accuracies": ("TRAJ-21.top1", ("value",), (0.0,), (0.05,)),
    "ordering": ("TRAJ-20.loss", ("value",), (0.05,), (-0.05,)),
    "estimate": ("TRAJ-26", ("numerator", "denominator"), (0.1, 1.0), (0.9, 1.0)),
}
SIZES = [(8, 4), (5, 1), (2, 3)]
NOISE = {"value": 0.002, "numerator": 0.05, "denominator": 0.05}


def measured(names, centres, seeds: int, branches: int) -> pd.DataFrame:
    """A table (seed, branch) whose columns scatter about their centres, half of it shared by the branches of a seed."""
    rng = np.random.Generator(np.random.Philox([seeds, branches]))
    table = pd.MultiIndex.from_product([range(seeds), range(branches)], names=["seed", "branch"]).to_frame(index=False)
    for name, centre in zip(names, centres, strict=True):
        of_seed, of_branch = rng.standard_normal(seeds)[table.seed], rng.standard_normal(len(table))
        table[name] = centre + NOISE[name] * (of_seed + of_branch) / 2
    return table


def shuffled(table: pd.DataFrame) -> pd.DataFrame:
    """The two arms of every other unit exchanged: a difference changes its sign, a ratio is turned over."""
    seeds = table.seed.nunique() >= 5
    keep = (table.seed if seeds else table.index) % 2 == 0
    if "value" in table:
        return table.assign(value=table.value.where(keep, -table.value))
    exchanged = {"numerator": table.denominator, "denominator": table.numerator}
    return table.assign(**{name: table[name].where(keep, other) for name, other in exchanged.items()})


def shipped(name: str) -> Claim:
    return next(one for one in claims.load("sandler2023trajectories") if one.id == name)


def outcome(one: Claim, table: pd.DataFrame) -> pd.Series:
    found = estimate(table, one.kind, one.band)
    return verdict(one, Measured(one.id, one.primary_case["cpu"], found))


@pytest.mark.parametrize("seeds, branches", SIZES)
@pytest.mark.parametrize("name, columns, true, false", SHIPPED.values(), ids=SHIPPED)
def test_true_is_reproduced_and_false_contradicted_at_every_sample_size_in_use(
    name, columns, true, false, seeds, branches
):
    one = shipped(name)
    rows = [outcome(one, measured(columns, centres, seeds, branches)) for centres in (true, false)]
    assert [row.verdict for row in rows] == ["reproduced", "contradicted"]
    within = "" if seeds >= 5 else f"within {seeds} seeds"
    assert {(row.reason, row.n) for row in rows} == {(within, seeds if seeds >= 5 else seeds * branches)}


@pytest.mark.parametrize("seeds, branches", SIZES)
@pytest.mark.parametrize("name, columns, true, false", SHIPPED.values(), ids=SHIPPED)
def test_shuffled_arms_decide_nothing_at_any_sample_size_in_use(name, columns, true, false, seeds, branches):
    """Arms that differ, half of them exchanged: neither is the side-trip any more, so neither verdict is due."""
    differ = false if shipped(name).kind == "equivalence" else true
    row = outcome(shipped(name), shuffled(measured(columns, differ, seeds, branches)))
    assert row.verdict == "inconclusive" and row.p > 0.05


@pytest.mark.parametrize("distances, expected", [
    ((0.1, 0.5, -0.9), "reproduced"), ((0.5, 0.1, -0.9), "contradicted"), ((0.5, -0.5, 0.9), "inconclusive"),
])  # fmt: skip
@pytest.mark.parametrize("seeds, branches", SIZES)
def test_the_closest_is_judged_as_an_ordering(distances, expected, seeds, branches):
    own, *others = (measured(("numerator",), (d,), seeds, branches).rename(columns={"numerator": "value"})
                    for d in distances)  # fmt: skip
    noise = np.random.Generator(np.random.Philox(0)).standard_normal((2, seeds * branches))
    rivals = {str(i): other.assign(value=other.value + 0.02 * noise[i]) for i, other in enumerate(others)}
    one = shipped("TRAJ-21.closest")
    row = verdict(one, Measured(one.id, one.primary_case["cpu"], closest(own, rivals)))
    assert row.verdict == expected


def test_what_eight_seeds_decide_six_branches_may_not():
    """The same spread leaves a wider interval with fewer units: 0.88, each unit 0.1 off."""
    one, spread = claim(), 0.1 * np.array([-1.0, 1.0])
    rows = []
    for seeds, branches in ((8, 4), (2, 3)):
        table = measured(("value",), (0.0,), seeds, branches)
        by = table.seed if seeds >= 5 else table.index
        rows.append(outcome(one, table.assign(value=0.88 + spread[by % 2])))
    assert [row.verdict for row in rows] == ["reproduced", "inconclusive"]
    assert [(row.n, row.reason) for row in rows] == [(8, ""), (6, "within 2 seeds")]


def test_the_fifth_seed_makes_the_seed_the_unit():
    """Branches that only repeat their seed: at four seeds they narrow the interval, at five they no longer do."""
    of_seed = np.array([0.7, 0.9, 0.72, 1.15, 0.75])
    rows = {}
    for seeds in (4, 5):
        table = measured(("value",), (0.0,), seeds, 8)
        rows[seeds] = outcome(claim(), table.assign(value=of_seed[table.seed]))
    assert [rows[s].n for s in (4, 5)] == [32, 5]
    assert [rows[s].reason for s in (4, 5)] == ["within 4 seeds", ""]
    assert rows[4].high - rows[4].low < 0.5 * (rows[5].high - rows[5].low)


@pytest.mark.parametrize("at_least, at_most, low, high, expected", [
    (0.8, 1.25, 0.8, 1.25, "reproduced"), (0.8, 1.25, 0.79, 1.0, "inconclusive"),
    (0.8, 1.25, 0.1, 0.79, "contradicted"), (0.8, 1.25, 0.1, 0.8, "inconclusive"),
    (0.8, 1.25, 1.25, 2.0, "inconclusive"),
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
@example([0.04, 0.01, 0.02, 0.03])  # 0.06, 0.04, 0.06, 0.06
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


def test_a_secondary_case_says_all_that_speaks_against_it():
    found = sampled(1.0, seeds=1, branches=3)
    row = verdict(claim(primary_case={}), Measured("A-1", "elsewhere", found))
    assert (row.verdict, row.p) == ("inconclusive", found.p)
    assert row.reason == "secondary, not adjusted; 3 units, fewer than 5; within 1 seed"


def test_a_primary_case_that_was_not_run_is_not_hidden_by_a_secondary_one():
    one = claim(primary_case={"cpu": "cifar10 swa k=100"})
    table = judge("x", [one], [Measured("A-1", CASE, at(1e-6))], "cpu", ["A-1"], ["cifar10"])
    assert list(zip(table.case, table.verdict, table.reason, strict=True)) == [
        ("cifar10 swa k=100", "not tested", "cifar10 not at hand (make data)"),
        (CASE, "reproduced", "secondary, not adjusted"),
    ]
    assert headline(table).to_dict() == {"reproduced": 0, "contradicted": 0, "inconclusive": 0, "not tested": 1}


def test_exact_rows_are_firm_without_p_and_share_no_error_rate():
    found = [Measured(f"A-{i}", "", Estimate.exact(1.0)) for i in range(2)]
    table = judge("x", [claim("A-0", kind="exact"), claim("A-1", kind="erratum")], found, "cpu")
    assert table.verdict.tolist() == ["reproduced"] * 2 and table.p.isna().all() and set(table.reason) == {""}


def test_every_verdict_is_counted_even_where_there_is_none():
    names = ["reproduced", "contradicted", "inconclusive"]
    found = [
        Measured(n, CASE, sampled(c, s)) for n, (c, s) in zip(names, [(1, 0.02), (0.5, 0.02), (1, 2)], strict=True)
    ]
    table = judge("x", [claim(n) for n in [*names, "not tested"]], found, "cpu")
    assert table.verdict.tolist() == table.claim.tolist()
    assert headline(table).to_dict() == dict.fromkeys(claims.VERDICTS, 1)
    assert headline(table.iloc[:1]).to_dict() == {n: int(n == "reproduced") for n in claims.VERDICTS}


def test_a_row_carries_the_claim_the_numbers_and_where_they_were_made():
    found = sampled(1.0)
    row = verdict(claim(), Measured("A-1", CASE, found, None, "0123abc", "cpu, 2 cores"))
    told = ("someone2020", "A-1", CASE, "equivalence", "Table 1", "they are equal", "cpu", "ratio", "0123abc")
    assert tuple(row[name] for name in "source claim case kind where statement preset unit commit".split()) == told
    assert tuple(row[name] for name in "value low high level n p device".split()) == (
        *(found.value, found.low, found.high, 0.9, 8, found.p, "cpu, 2 cores"),
    )  # fmt: skip


def test_of_a_claims_exact_cases_the_worst_counts():
    exact = claim("A-1", kind="exact", at_least=-1e-12, at_most=1e-12, needs="smoke", primary_case={})
    found = [Measured("A-1", f"k={k}", Estimate.exact(v)) for k, v in enumerate((0.0, 0.0, 0.5))]
    table = judge("x", [exact], found, "smoke")
    assert table.verdict.tolist() == ["reproduced", "reproduced", "contradicted"]
    assert headline(table)["contradicted"] == 1 and headline(table).sum() == 1


# Controls.


@pytest.mark.parametrize(
    "control, expected",
    [(None, "none"), (sampled(1.0), "passes too"), (sampled(0.5), "fails as it should"),
     (sampled(1.0, 0.9), "undecided"), (sampled(1.0, 1e-4, seeds=2, branches=2), "undecided"),
     (Estimate(1.0, 0.9, 1.1, n=8, p=0.0, reason="gain not above 0 at p < 0.01 (p = 1)"), "undecided")],
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


def test_the_reasons_are_those_that_are_allowed():
    gpu = claim(needs="gpu", primary_case={"gpu": "cifar10 swa k=100"})
    assert verdict(gpu, built=("A-1",)).reason == "needs gpu"
    assert verdict(gpu, built=("A-1",), preset="gpu", absent=("cifar10",)).reason == "cifar10 not at hand (make data)"
    assert verdict(gpu).reason == "not built yet"


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
        (ROW + "at_least = nan\n", "band"),
        (ROW.replace("at_most = 1.0", 'at_most = "1"'), "A-1"),
        (ROW.replace('id = "A-1"\n', ""), "id"),
        (ROW.replace("where =", "where"), "someone2020.toml"),
        ("", "someone2020.toml"),
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
    assert len(rows) > 60 and len({one.id for one in rows}) == len(rows)
    for one in rows:
        assert one.where and one.statement and one.quantity and one.unit
        if one.kind not in claims.WITHOUT_INTERVAL and one.needs in ("cpu", "gpu"):
            assert one.primary_case, f"{one.id} could never be firm"
