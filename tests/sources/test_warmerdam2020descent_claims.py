"""The claims against tables whose truth is known, at the sizes of preset cpu: true, false and
shuffled.
"""

import numpy as np
import pandas as pd
import pytest

from replicate import claims
from replicate.app import registry
from replicate.claims.statistics import Estimate
from replicate.sources.warmerdam2020descent import _curves, _judging
from replicate.sources.warmerdam2020descent.presets import ALGEBRA

SOURCE = registry.source("warmerdam2020descent")
CLAIMS = registry.claims_of(SOURCE)
SEEDS = 10


def measured(only: tuple[str, ...] = (), **tables: pd.DataFrame) -> list[claims.Measured]:
    """What these tables, by the names of their experiments, come to for some claims, or for all."""
    given = {name: table.assign(commit="", device="", setting="") for name, table in tables.items()}
    chosen = [claim for claim in CLAIMS if claim.id in only or not only]
    return claims.measure(
        chosen, registry.decide(SOURCE, lambda each: given.get(each.name, pd.DataFrame()))
    )


def judged(preset: str = "cpu", only: tuple[str, ...] = (), **tables: pd.DataFrame) -> pd.DataFrame:
    """The verdicts on them; a claim that is not measured counts as p = 1 in its family."""
    return claims.judge(SOURCE.name, CLAIMS, measured(only, **tables), preset)


def row(table: pd.DataFrame, claim: str, case: str = "") -> pd.Series:
    """The primary row of a claim, or that of a case."""
    chosen = table.case == case if case else table.role == "primary"
    rows = table[(table.claim == claim) & chosen]
    assert len(rows) == 1, table[table.claim == claim].case.tolist()
    return rows.iloc[0]


def test_every_derivation_is_decided_and_the_source_is_wrong_where_it_is():
    table = SOURCE["derivations"](ALGEBRA["algebra"]).assign(dataset="algebra")
    verdicts = judged("smoke", derivations=table).set_index("claim").verdict
    assert verdicts[verdicts == "contradicted"].index.tolist() == [
        "KEEP-07.chain",
        "KEEP-10.example",
    ]
    errata = [claim.id for claim in CLAIMS if claim.kind == "erratum" and claim.needs == "smoke"]
    decided = verdicts[errata]
    assert set(decided) == {"confirmed"}
    assert dict(zip(table.claim, table.value, strict=True))["KEEP-07.chain"] == 4


# Figures 9 to 13.

LINEAR = ("figure9", "figure10", "figure11", "figure13")
TWO = ("figure9", "figure10")
ARMS = (
    "SGD",
    "ADAM",
    "KS_50_0 published",
    "KS_50_2 published",
    "KS_50_2 corrected",
    "KV_50 published",
    "ARMIJO",
)


def synthetic(
    speed: dict[str, float], shuffled=False, datasets: tuple = TWO, seeds: int = SEEDS
) -> pd.DataFrame:
    """What the figures give if each arm's log loss falls at its own speed over each budget: 0.5 of
    SGD, else 1.
    """
    noise = np.random.Generator(np.random.Philox(5))
    speed = {"SGD": 0.5} | speed
    runs = pd.DataFrame(
        [(d, s, a) for d in datasets for s in range(seeds) for a in ARMS],
        columns=["dataset", "seed", "arm"],
    )
    speeds = runs.arm.map(speed).fillna(1.0).to_numpy().reshape(-1, len(ARMS))
    speeds = noise.permuted(speeds, axis=1) if shuffled else speeds
    runs["speed"] = (speeds * noise.uniform(0.9, 1.1, speeds.shape)).ravel()
    for target in _curves.TARGETS:
        runs[f"to {target}"] = np.where(runs.speed >= -target, 100 * -target / runs.speed, np.nan)
    both = [
        ("source", "source"),
        ("source", "orthogonal"),
        ("tuned", "source"),
        ("enlarged", "source"),
    ]
    table = runs.assign(budget=100.0, lr=1e-3, rises=0.0).merge(
        pd.DataFrame(both, columns=["rate", "start"]), "cross"
    )
    table = table.merge(pd.DataFrame({"axis": _curves.AXES}), "cross")
    table = table.merge(pd.DataFrame({"share": np.linspace(0, 1, 21).round(2)}), "cross")
    return table.assign(loss=-table.speed * table.share).drop(columns="speed")


def by_figure(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of the experiments."""
    return {f"figure_{d.removeprefix('figure')}": part for d, part in table.groupby("dataset")}


def contested(table: pd.DataFrame, *only: str, preset: str = "cpu") -> pd.DataFrame:
    return judged(preset, only, **by_figure(table))


FAST, SLOW = {"KS_50_2 corrected": 3.0}, {"KS_50_2 corrected": 0.3}
AHEAD = ("KEEP-14.corrected", "KEEP-15.ahead", "KEEP-16.corrected", "KEEP-18.corrected")
OVER = ("KEEP-19.corrected", "KEEP-19.tuned", "KEEP-20.corrected")


@pytest.fixture(scope="module")
def verdicts():
    """Verdicts where the impatient walk is faster, slower, and where every seed has its arms
    shuffled.
    """
    tables = {name: synthetic(speed, name == "shuffled", LINEAR) for name, speed in
              (("fast", FAST), ("slow", SLOW), ("shuffled", FAST))}  # fmt: skip
    return {name: contested(table, *AHEAD, *OVER) for name, table in tables.items()}


@pytest.mark.parametrize("claim", AHEAD)
def test_a_faster_walk_is_ahead_of_adam_a_slower_one_behind_and_shuffled_arms_decide_nothing(
    verdicts, claim
):
    rows = {name: row(table, claim) for name, table in verdicts.items()}
    assert rows["fast"].verdict == "reproduced" and rows["slow"].verdict == "contradicted"
    assert rows["shuffled"].verdict == "inconclusive"
    assert rows["fast"].control_verdict == "fails"


@pytest.mark.parametrize("claim", OVER)
def test_over_the_figures_too(verdicts, claim):
    rows = {name: row(table, claim) for name, table in verdicts.items()}
    assert {each.case for each in rows.values()} == {"seconds figure9+figure10+figure11+figure13"}
    assert (rows["fast"].verdict, rows["slow"].verdict) == ("reproduced", "contradicted")
    assert rows["shuffled"].verdict != "reproduced"


def test_the_blunt_walk_against_sgd_and_close_to_adam():
    good = contested(
        synthetic({"KS_50_0 published": 2.0, "ADAM": 2.1, "SGD": 0.2}),
        "KEEP-13.sgd",
        "KEEP-13.adam",
    )
    bad = contested(
        synthetic({"KS_50_0 published": 0.2, "ADAM": 9.0, "SGD": 2.0}),
        "KEEP-13.sgd",
        "KEEP-13.adam",
    )
    assert row(good, "KEEP-13.sgd").verdict == row(good, "KEEP-13.adam").verdict == "reproduced"
    assert row(bad, "KEEP-13.sgd").verdict == row(bad, "KEEP-13.adam").verdict == "contradicted"
    assert row(good, "KEEP-13.adam").control_verdict == "fails"


def test_close_to_adam_on_one_figure_is_enough_and_far_on_all_is_not():
    """The least over the figures of what the walk lags behind."""
    table = synthetic({"KS_50_0 published": 1.0, "ADAM": 9.0, "SGD": 0.2})
    assert row(contested(table, "KEEP-13.adam"), "KEEP-13.adam").verdict == "contradicted"
    table.loc[(table.dataset == "figure10") & (table.arm == "ADAM"), "loss"] /= 9
    assert row(contested(table, "KEEP-13.adam"), "KEEP-13.adam").verdict == "reproduced"


def test_a_tuned_baseline_that_does_as_well_is_said_to_pass_too():
    table = synthetic(FAST)
    table.loc[(table.arm == "SGD") & (table.rate == "tuned"), "loss"] *= 5
    assert (
        row(contested(table, "KEEP-14.corrected"), "KEEP-14.corrected").control_verdict
        == "passes too"
    )


def test_the_places_of_the_budget_are_told_apart():
    table = synthetic(FAST, datasets=("figure9",))
    table.loc[(table.arm == "KS_50_2 corrected") & (table.share == 0.25), "loss"] = 1.0
    rows = contested(table, "KEEP-14.corrected")
    cases = {q: f"figure9 seconds at {q} % of the budget" for q in (25, 50, 100)}
    places = {q: row(rows, "KEEP-14.corrected", case).verdict for q, case in cases.items()}
    assert places == {25: "outside", 50: "inside", 100: "inside"}


def test_a_target_that_is_not_reached_counts_as_the_budget():
    table = synthetic({"SGD": 1.0, "ADAM": 4.0})
    derived = _judging.derive(table[table.dataset == "figure9"]).set_index("arm")
    assert (derived.loc["SGD", "cost to -2"] == 100).all()
    assert derived.loc["SGD", "cost to -2 if reached"].isna().all()
    assert derived.loc["ADAM", "cost to -2"].between(100 * 2 / 4.4, 100 * 2 / 3.6).all()


@pytest.mark.parametrize("first, expected", [(np.nan, "contradicted"), (10.0, "reproduced")])
def test_slower_at_a_tenth_of_the_rate_needs_a_target_that_was_reached(first, expected):
    table = synthetic({})
    table["to -2"] = np.where(table.dataset == "figure10", np.nan, first)
    table.loc[table.dataset == "figure10", "budget"] += 1  # by the clock's noise
    verdicts = contested(table, "KEEP-15.slower", "KEEP-21.slower")
    assert row(verdicts, "KEEP-15.slower").verdict == expected
    assert row(verdicts, "KEEP-21.slower").verdict == expected


@pytest.mark.parametrize("rises, expected", [(-1.0, "reproduced"), (1.0, "contradicted")])
def test_smoother_is_judged_by_the_rises_of_every_printed_arm(rises, expected):
    table = synthetic({})
    table["rises"] = (
        2.0 + np.where(table.dataset == "figure10", rises, 0.0) + table.seed * (table.arm == "SGD")
    )
    verdicts = contested(table, "KEEP-15.smoother", "KEEP-21.smoother")
    assert (
        row(verdicts, "KEEP-15.smoother").verdict
        == row(verdicts, "KEEP-21.smoother").verdict
        == expected
    )
    assert row(verdicts, "KEEP-21.smoother").value == pytest.approx(rises)


def test_figure_12_with_two_seeds_is_in_no_row_over_figures_and_never_firm():
    both = [synthetic(FAST), synthetic(FAST, datasets=("figure12",), seeds=2)]
    table = contested(
        pd.concat(both, ignore_index=True), "KEEP-17.corrected", "KEEP-19.corrected", preset="gpu"
    )
    twelve = row(table, "KEEP-17.corrected")
    assert twelve.verdict == "inconclusive" and twelve.n == 2
    assert row(table, "KEEP-19.corrected").case == "seconds figure9+figure10"


def test_the_tuned_rates_are_far_above_the_source_s_only_if_that_of_every_figure_is():
    table = synthetic(FAST)
    table.loc[table.rate == "tuned", "lr"] *= 10
    assert set(contested(table, "Y13.rate")[lambda t: t.claim == "Y13.rate"].verdict) == {
        "confirmed"
    }
    table.loc[
        (table.rate == "tuned") & (table.arm == "ADAM") & (table.dataset == "figure10"), "lr"
    ] /= 10
    rows = contested(table, "Y13.rate")[lambda t: t.claim == "Y13.rate"]
    assert dict(zip(rows.case, rows.verdict, strict=True)) == {
        "SGD figure9+figure10": "confirmed", "ADAM figure9+figure10": "not confirmed",
    }  # fmt: skip


@pytest.mark.parametrize("newton, verdict", [(20.0, "reproduced"), (60.0, "contradicted")])
def test_newton_is_fastest_if_it_is_below_the_fastest_walk_of_its_seeds(newton, verdict):
    """Ten seeds of walks, five of solvers; the fastest walk takes a third of the budget."""
    figure = synthetic({"KS_50_2 corrected": 30.0, "SGD": 12.0}, datasets=("figure13",))
    rows = [
        (seed, solver, s)
        for seed in range(5)
        for solver, s in (("newton", newton), ("lapack", 50.0))
    ]
    table = pd.DataFrame(rows, columns=["seed", "solver", "seconds"]).assign(
        dataset="figure13", precision="float32"
    )
    table["seconds"] *= 1 + 0.01 * table.seed
    fastest = row(
        judged(only=("KEEP-22.fastest",), solvers=table, figure_13=figure), "KEEP-22.fastest"
    )
    assert (fastest.verdict, fastest.control_verdict, fastest.n) == (verdict, "fails", 5)


def seconds(dataset: str, **parts: float) -> pd.DataFrame:
    """Ten blocks of parts that take so long, each to within 2 %."""
    noise = np.random.Generator(np.random.Philox(9))
    rows = [
        (seed, part, s * noise.uniform(0.98, 1.02))
        for seed in range(SEEDS)
        for part, s in parts.items()
    ]
    return pd.DataFrame(rows, columns=["seed", "part", "seconds"]).assign(dataset=dataset)


@pytest.mark.parametrize("backward, verdict", [(5.0, "reproduced"), (1.0, "contradicted")])
def test_shares_of_time(backward, verdict):
    table = seconds("figure9", forward=3.0, check=2.0, backward=backward, step=2.0, adam=4.0)
    rows = judged(shares=table)
    assert row(rows, "KEEP-01.nets").verdict == verdict
    assert row(rows, "KEEP-01.nets").value == pytest.approx(
        (3 + backward) / (5 + backward), rel=0.01
    )
    with_adam = row(rows, "KEEP-01.nets", "figure9 with Adam").value
    assert with_adam == pytest.approx((3 + backward) / (7 + backward), rel=0.01)
    assert row(rows, "KEEP-23.check").verdict == (
        "reproduced"
        if 2 / (3 + backward) < 0.25
        else "contradicted"
        if 2 / (3 + backward) > 0.26
        else "inconclusive"
    )


@pytest.mark.parametrize("gradient, verdict", [(8.0, "reproduced"), (2.0, "contradicted")])
def test_the_printed_loop_of_the_regression_is_loss_gradient_and_step(gradient, verdict):
    rows = judged(shares=seconds("regression", loss=1.0, gradient=gradient, step=1.0))
    assert row(rows, "KEEP-01.regression").verdict == verdict


@pytest.mark.parametrize("ratio, verdict", [(0.9216, "reproduced"), (0.96, "contradicted")])
def test_figure_4_converges_at_the_predicted_rate_or_at_half_of_it(ratio, verdict):
    noise, rows = np.random.Generator(np.random.Philox(4)), []
    for seed in range(6):
        for arm, steps, factor in (
            ("the rate", 100, ratio),
            ("half the rate", 20, 0.9604),
            ("rate 1/2", 20, 1e-6),
        ):
            losses = 100 * (factor * noise.uniform(0.9999, 1.0001)) ** np.arange(steps + 1)
            rows += [(seed, arm, i, loss) for i, loss in enumerate(losses)]
    table = pd.DataFrame(rows, columns=["seed", "arm", "iteration", "loss"])
    verdicts = judged(
        figure_4=table.assign(dataset="regression", condition=1.0 + 0.01 * table.seed)
    )
    assert (
        row(verdicts, "KEEP-04.rate").verdict,
        row(verdicts, "KEEP-04.rate").control_verdict,
    ) == (verdict, "fails")
    assert row(verdicts, "KEEP-04.smooth").value == 1 and row(verdicts, "Y5.easy").value == 1.05
    assert row(verdicts, "Y5.rate").verdict == "reproduced"
    assert row(verdicts, "Y5.rate").value == pytest.approx(-18, abs=0.01)


@pytest.mark.parametrize("dull, verdict", [(-12.0, "reproduced"), (-3.0, "contradicted")])
def test_the_worst_shape_of_each_kind_decides(dull, verdict):
    rows = [(seed, count, columns, asked, -12.0 + 0.1 * seed) for seed in range(6)
            for count, columns, asked in ((1000, 2, 1.0), (2000, 10, 1.0), (10, 20, 1.0), (2000, 10, 1e6))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["seed", "rows", "columns", "asked", "drop"]).assign(
        dataset="regression"
    )
    table["checked"] = -20.0
    chosen = (table.rows == 2000) & (table.asked == 1.0)
    table.loc[chosen, "drop"] = dull + 0.1 * table.seed[chosen]
    verdicts = judged(shapes=table)
    assert (
        row(verdicts, "KEEP-06.well").verdict == row(verdicts, "KEEP-06.always").verdict == verdict
    )
    assert row(verdicts, "KEEP-06.always", "regression ill-conditioned").verdict == "inside"
    assert row(verdicts, "KEEP-06.always").control_verdict == "passes too"


@pytest.mark.parametrize("wider, verdict", [(2, "reproduced"), (-2, "contradicted")])
def test_decades_of_good_rates(wider, verdict):
    noise, rows = np.random.Generator(np.random.Philox(3)), []
    for seed in range(8):
        for arm, width in (
            ("SGD", 4),
            ("ADAM", 4),
            ("KS_50_2 corrected", 4 + wider),
            ("ARMIJO", 4),
        ):
            for i in range(13):
                height = (-5.0 if abs(i - 6) <= width else 0.0) + 0.1 * noise.random()
                rows.append((seed, arm, 10.0 ** (i / 2), height))
    table = pd.DataFrame(rows, columns=["seed", "arm", "lr", "height"]).assign(
        use="sweep", dataset="figure9"
    )
    decided = row(judged(rates=table), "BEYOND-rates.sgd")
    assert decided.verdict == verdict and decided.value == pytest.approx(wider)


@pytest.mark.parametrize("predicted, verdict", [(1.0, "reproduced"), (1.5, "contradicted")])
def test_the_cost_model_is_judged_by_the_mean_over_lengths(predicted, verdict):
    rows = [(seed, walk, 2.0, 2.0 * predicted * (1 + 0.01 * seed) * factor) for seed in range(SEEDS)
            for walk, factor in ((2, 0.9), (8, 1.0), (32, 1.1))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["seed", "walk", "measured", "predicted"]).assign(
        dataset="figure9"
    )
    verdicts = judged(break_even=table)
    assert row(verdicts, "KEEP-23.model").verdict == verdict
    each = verdicts[(verdicts.claim == "KEEP-23.model") & (verdicts.role == "secondary")]
    np.testing.assert_allclose(each.value, 1.045 * predicted * np.array([0.9, 1.0, 1.1]))


def test_every_row_has_code_and_needs_no_more_than_gpu():
    assert all(claim.experiments for claim in CLAIMS) and {claim.needs for claim in CLAIMS} == {
        "smoke",
        "cpu",
    }
    assert {name for claim in CLAIMS for name in claim.experiments} == set(SOURCE)


def test_every_exact_row_is_derived_once_and_no_row_is_derived_that_no_claim_asks_for():
    exact = {claim.id for claim in CLAIMS if claim.experiments == ("derivations",)}
    table = SOURCE["derivations"](ALGEBRA["algebra"])
    assert set(table.claim) == exact and not table.claim.duplicated().any()


def test_exact_estimates_have_no_interval():
    table = pd.DataFrame([("Y8", "x", 51.0, np.nan)], columns=["claim", "case", "value", "control"])
    (only,) = measured(derivations=table.assign(dataset="algebra"))
    assert only.estimate == Estimate.exact(51.0) and only.control is None
