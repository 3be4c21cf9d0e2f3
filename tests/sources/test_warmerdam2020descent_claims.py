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
    given = {
        name: table.assign(commit="", device="", setting="the source's")
        for name, table in tables.items()
    }
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
    assert not (verdicts == "contradicted").any()
    errata = [claim.id for claim in CLAIMS if claim.kind == "erratum" and claim.needs == "smoke"]
    assert set(verdicts[errata]) == {"confirmed"} and len(errata) == 20


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
    both = [("source", "orthogonal"), *((rate, "source") for rate in _curves.RATE_KINDS)]
    prices = {"price": 2.0 + 0.001 * runs.seed, "price again": 2.01 - 0.001 * runs.seed}
    table = runs.assign(budget=100.0, lr=1e-3, rises=0.0, at_edge=0, **prices).merge(
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
    assert {each.case for each in rows.values()} == {
        "modelled seconds figure9+figure10+figure11+figure13"
    }
    assert (rows["fast"].verdict, rows["slow"].verdict) == ("reproduced", "contradicted")
    assert rows["shuffled"].verdict != "reproduced"


def test_the_blunt_walk_against_sgd_and_close_to_adam():
    good = contested(
        synthetic({"KS_50_0 published": 3.0, "ADAM": 3.1, "SGD": 0.2}),
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


def test_close_to_adam_on_one_figure_is_enough_and_standing_still_beside_it_is_not():
    """The least lag over those figures on which Adam moves."""
    table = synthetic({"KS_50_0 published": 1.0, "ADAM": 9.0, "SGD": 0.2})
    assert row(contested(table, "KEEP-13.adam"), "KEEP-13.adam").verdict == "contradicted"
    close = table.copy()
    chosen = (close.dataset == "figure10") & (close.arm == "ADAM")
    close.loc[chosen, "loss"] = close.loss[chosen] / 9 - 1.0
    close.loc[(close.dataset == "figure10") & (close.arm == "KS_50_0 published"), "loss"] -= 0.9
    assert row(contested(close, "KEEP-13.adam"), "KEEP-13.adam").verdict == "reproduced"
    still = table.copy()
    still.loc[still.dataset == "figure10", "loss"] = 0.0
    assert row(contested(still, "KEEP-13.adam"), "KEEP-13.adam").verdict == "contradicted"


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
    cases = {q: f"figure9 modelled seconds at {q} % of the budget" for q in (25, 50, 100)}
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
    verdicts = contested(table, "KEEP-21.smoother")
    assert row(verdicts, "KEEP-21.smoother").verdict == expected
    assert row(verdicts, "KEEP-21.smoother").value == pytest.approx(rises)
    each = verdicts[(verdicts.role == "secondary") & verdicts.case.str.contains("each")]
    assert len(each) == 5 and set(each.verdict) == {"inside" if rises < 0 else "outside"}


def test_figure_12_with_two_seeds_is_in_no_row_over_figures_and_never_firm():
    both = [synthetic(FAST), synthetic(FAST, datasets=("figure12",), seeds=2)]
    table = contested(
        pd.concat(both, ignore_index=True), "KEEP-17.corrected", "KEEP-19.corrected", preset="gpu"
    )
    twelve = row(table, "KEEP-17.corrected")
    assert twelve.verdict == "inconclusive" and twelve.n == 2
    assert row(table, "KEEP-19.corrected").case == "modelled seconds figure9+figure10"


@pytest.mark.parametrize("step, verdict", [(10.0, "reproduced"), (0.1, "contradicted")])
def test_the_tuned_rate_is_far_above_the_source_s(step, verdict):
    table = synthetic(FAST)
    for rate, factor in (("tuned", 10.0), ("tuned lower", 3.2), ("tuned higher", 31.0)):
        table.loc[table.rate == rate, "lr"] *= factor * step / 10
    table.loc[table.rate == "tuned", "lr"] *= 1 + 0.01 * table.seed[table.rate == "tuned"]
    decided = row(contested(table, "Y13.rate"), "Y13.rate")
    assert decided.verdict == verdict
    assert decided.value == pytest.approx(np.log10(step * 1.045), abs=1e-3)


def test_a_word_that_a_neighbour_on_the_grid_changes_is_not_firm():
    table = synthetic(FAST)
    assert row(contested(table, "KEEP-19.tuned"), "KEEP-19.tuned").verdict == "reproduced"
    table.loc[(table.arm == "ADAM") & (table.rate == "tuned higher"), "loss"] *= 9
    decided = row(contested(table, "KEEP-19.tuned"), "KEEP-19.tuned")
    assert decided.verdict == "inconclusive" and "ADAM tuned higher" in decided.reason


def test_a_tuned_rate_at_an_end_of_its_grid_is_not_firm():
    table = synthetic(FAST)
    table.loc[(table.arm == "ADAM") & (table.rate == "tuned") & (table.seed == 3), "at_edge"] = 1
    decided = row(contested(table, "KEEP-19.tuned"), "KEEP-19.tuned")
    assert decided.verdict == "inconclusive" and "edge of its grid" in decided.reason
    assert row(contested(table, "KEEP-19.corrected"), "KEEP-19.corrected").verdict == "reproduced"


@pytest.mark.parametrize(
    "claim", [*AHEAD, *OVER, "KEEP-15.slower", "KEEP-21.slower", "KEEP-23.pays"]
)
def test_price_lists_that_disagree_decide_nothing(claim):
    table = synthetic(FAST, datasets=LINEAR)
    table["to -2"] = np.where(table.dataset == "figure10", np.nan, 10.0 + 0.1 * table.seed)
    table["price again"] *= 1.2
    decided = row(contested(table, claim), claim)
    assert decided.verdict == "inconclusive" and "timing unstable" in decided.reason


def solved(dataset: str, **seconds: float) -> pd.DataFrame:
    """What `solvers` gives if a solver takes so long, and the same again, at ten seeds."""
    twice = seconds | {f"{name} again": s for name, s in seconds.items()}
    rows = [
        (seed, name, s * (1 + 0.002 * seed)) for seed in range(SEEDS) for name, s in twice.items()
    ]
    table = pd.DataFrame(rows, columns=["seed", "solver", "seconds"])
    return table.assign(dataset=dataset, precision="float32", drop=-9.5, **{"newton drop": -9.6})


@pytest.mark.parametrize("newton, verdict", [(20.0, "reproduced"), (60.0, "contradicted")])
def test_newton_as_printed_is_fastest_if_it_is_below_the_fastest_of_the_posts_arms(newton, verdict):
    """The fastest walk takes a third of the budget; a corrected one, which is faster, is not shown."""
    figure = synthetic(
        {"KS_50_0 published": 27.0, "SGD": 12.0, "KS_50_2 corrected": 900.0}, datasets=("figure13",)
    )
    table = solved(
        "figure13", **{"newton as printed": newton, "newton": 40.0, "normal equations": 50.0}
    )
    fastest = row(
        judged(only=("KEEP-22.fastest",), solvers=table, figure_13=figure), "KEEP-22.fastest"
    )
    assert (fastest.verdict, fastest.control_verdict, fastest.n) == (verdict, "fails", 10)
    assert fastest.value == pytest.approx(np.log10(newton / 33.3), abs=0.03)


@pytest.mark.parametrize("printed, verdict", [(1.0, "reproduced"), (9.0, "contradicted")])
def test_newton_as_printed_against_every_direct_solver(printed, verdict):
    times = {"newton": 4.0, "scikit-learn": 7.0, "lapack": 20.0, "normal equations": 3.0}
    rows = judged(
        only=("KEEP-22.direct",),
        solvers=solved("figure13", **{"newton as printed": printed}, **times),
    )
    direct = row(rows, "KEEP-22.direct")
    assert (direct.verdict, direct.control_verdict) == (verdict, "fails")
    assert direct.value == pytest.approx(np.log10(printed / 3))
    assert direct.control_value == pytest.approx(np.log10(4 / 3))
    beside = {
        name: row(rows, "KEEP-22.direct", f"figure13 against {name}")
        for name in ("scikit-learn", "LAPACK")
    }
    assert beside["scikit-learn"].value == pytest.approx(np.log10(printed / 7))
    assert beside["LAPACK"].control_value == pytest.approx(np.log10(4 / 20))


@pytest.mark.parametrize("printed, verdict", [(9.0, "reproduced"), (1.0, "contradicted")])
def test_scikit_learn_against_newton_as_printed(printed, verdict):
    times = {"scikit-learn": 3.0, "newton": 2.0, "normal equations": 0.5}
    rows = judged(
        only=("KEEP-09",), solvers=solved("regression", **{"newton as printed": printed}, **times)
    )
    assert row(rows, "KEEP-09").verdict == verdict
    assert row(rows, "KEEP-09").value == pytest.approx(np.log10(3 / printed))
    assert row(rows, "KEEP-09").control_value == pytest.approx(np.log10(0.5 / printed))
    assert row(rows, "KEEP-09", "regression float32 compiled").value == pytest.approx(
        np.log10(3 / 2)
    )


@pytest.mark.parametrize("small_steps, verdict", [(90.0, "reproduced"), (1.0, "contradicted")])
def test_one_calculated_step_against_all_the_small_ones(small_steps, verdict):
    table = solved("regression", **{"newton as printed": 9.0, "newton": 0.5, "gradient descent": small_steps,
                                    "gradient descent at 1/2": 2.0})  # fmt: skip
    rows = judged(only=("KEEP-26",), solvers=table)
    assert (row(rows, "KEEP-26").verdict, row(rows, "KEEP-26").control_verdict) == (
        verdict,
        "fails",
    )
    assert row(rows, "KEEP-26").value == pytest.approx(np.log10(9 / small_steps))
    assert row(rows, "KEEP-26").control_value == pytest.approx(np.log10(9 / 2))


def test_solvers_whose_clock_is_unsteady_decide_nothing():
    table = solved(
        "regression", **{"newton as printed": 9.0, "scikit-learn": 3.0, "normal equations": 1.0}
    )
    table.loc[table.solver == "newton as printed again", "seconds"] *= 1.3
    decided = row(judged(only=("KEEP-09",), solvers=table), "KEEP-09")
    assert decided.verdict == "inconclusive" and "timing unstable" in decided.reason


def seconds(dataset: str, **parts: float) -> pd.DataFrame:
    """Ten blocks of parts that take so long, each to within 2 %, and the same again."""
    noise = np.random.Generator(np.random.Philox(9))
    rows = [
        (seed, part + turn, s * noise.uniform(0.98, 1.02))
        for seed in range(SEEDS)
        for part, s in parts.items()
        for turn in ("", " again")
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


@pytest.mark.parametrize("step, verdict", [(1.0, "reproduced"), (4.0, "contradicted")])
def test_a_gradient_is_way_dearer_than_a_step(step, verdict):
    table = seconds("figure9", forward=3.0, check=2.0, backward=5.0, step=step, adam=9.0)
    rows = judged(shares=table)
    assert row(rows, "KEEP-01.dearer").verdict == verdict
    assert row(rows, "KEEP-01.dearer").value == pytest.approx(8 / step, rel=0.02)
    adam = row(rows, "KEEP-01.dearer", "figure9 over Adam's update")
    assert adam.value == pytest.approx(8 / 9, rel=0.02)


@pytest.mark.parametrize("forward, verdict", [(3.0, "reproduced"), (2.0, "contradicted")])
def test_a_check_with_a_graph_is_dearer_than_one_without(forward, verdict):
    table = seconds(
        "figure9",
        **{"printed check": forward},
        forward=9.0,
        check=2.0,
        backward=5.0,
        step=1.0,
        adam=9.0,
    )
    rows = judged(shares=table)
    assert row(rows, "Y10").verdict == verdict
    assert row(rows, "Y10").value == pytest.approx(forward / 2, rel=0.02)


@pytest.mark.parametrize("part, claims_hit", [
    ("forward again", ("KEEP-01.nets", "KEEP-01.dearer")), ("check again", ("KEEP-23.check",)),
    ("printed check again", ("Y10",)),
])  # fmt: skip
def test_parts_whose_clock_is_unsteady_decide_nothing(part, claims_hit):
    table = seconds(
        "figure9",
        **{"printed check": 3.0},
        forward=6.0,
        check=1.0,
        backward=5.0,
        step=1.0,
        adam=9.0,
    )
    table.loc[table.part == part, "seconds"] *= 1.5
    rows = judged(shares=table)
    for claim in ("KEEP-01.nets", "KEEP-01.dearer", "Y10", "KEEP-23.check"):
        assert (row(rows, claim).verdict == "inconclusive") == (claim in claims_hit), claim


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
    assert row(verdicts, "KEEP-04.smooth").value == 1
    assert row(verdicts, "Y5.easy").value == pytest.approx(1.025)
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
        dataset="figure9", plain=1.0, r=0.3, **{"plain again": 1.01}
    )
    table["plain again"] += 0.001 * table.seed
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


# What else is judged on tables of its own.


@pytest.mark.parametrize("first, verdict", [(1e-8, "reproduced"), (1e-3, "contradicted")])
def test_the_bullseye_is_what_the_first_step_leaves(first, verdict):
    """Of 100 at the start; what the second and the third step leave does not count."""
    rows = [(seed, arm, i, loss * (1 + 0.1 * seed) ** i)
            for seed in range(6) for arm, own in (("newton float32", first), ("newton float64", 1e-25))
            for i, loss in enumerate((100.0, own, 1e-14, 1e-2))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["seed", "arm", "iteration", "loss"])
    verdicts = judged(figure_5=table.assign(dataset="regression", condition=1.0, control=-1.0))
    single, double = (row(verdicts, f"KEEP-05.{name}") for name in ("float32", "float64"))
    assert (single.verdict, single.control_verdict) == (verdict, "fails")
    grown = np.log10(1 + 0.1 * np.arange(6)).mean()
    assert single.value == pytest.approx(np.log10(first / 100) + grown)
    assert double.verdict == "reproduced" and double.value == pytest.approx(-27 + grown)


def turning(cosines: dict[tuple[str, int], float]) -> pd.DataFrame:
    """What `directions` gives: 0.5 where nothing else is said."""
    rows = [(seed, rate, tenth, cosines.get((rate, tenth), 0.5) + 0.001 * seed)
            for seed in range(SEEDS) for rate in ("source", "tuned") for tenth in range(10)]  # fmt: skip
    return pd.DataFrame(rows, columns=["seed", "rate", "tenth", "cosine"]).assign(dataset="figure9")


@pytest.mark.parametrize("first, last, early, change", [
    (0.99, 0.2, "reproduced", "reproduced"), (0.2, 0.99, "contradicted", "contradicted"),
    (0.5, 0.5, "contradicted", "inconclusive"),
])  # fmt: skip
def test_early_is_the_first_tenth_at_the_source_s_rate(first, last, early, change):
    table = turning({("source", 0): first, ("source", 9): last, ("tuned", 9): 0.3})
    rows = judged(directions=table)
    assert row(rows, "KEEP-12.early").verdict == early
    assert row(rows, "KEEP-12.early").value == pytest.approx(first, abs=0.01)
    assert row(rows, "KEEP-12.early").control_value == pytest.approx(0.3, abs=0.01)
    assert row(rows, "KEEP-12.change").verdict == change
    assert row(rows, "KEEP-12.change").value == pytest.approx(first - last, abs=0.001)


@pytest.mark.parametrize("bias, fresh, verdict, ends", [
    (0.5, -2.0, "reproduced", "reproduced"), (-0.5, 1.0, "contradicted", "contradicted"),
])  # fmt: skip
def test_the_bias_of_checks_on_the_same_batch_and_what_fresh_ones_end_at(
    bias, fresh, verdict, ends
):
    rows = []
    for seed in range(6):
        for batch, checks, b, loss in ((64, "same", bias, -1.0), (64, "fresh", -7.0, fresh), (2048, "same", 7.0, -1.0),
                                       (2048, "fresh", 7.0, 9.0), (10_000, "same", 0.0, -5.0)):  # fmt: skip
            rows.append(
                (
                    seed,
                    batch,
                    checks,
                    b + 0.01 * seed,
                    loss + 0.02 * seed * (checks == "same"),
                    0.97 - b / 9,
                )
            )
    table = pd.DataFrame(rows, columns=["seed", "batch", "checks", "bias", "loss", "cosine"])
    found = judged(minibatches=table.assign(dataset="minibatch"))
    assert row(found, "Y12.bias").verdict == verdict
    assert row(found, "Y12.bias").value == pytest.approx(bias + 0.025)
    assert row(found, "Y12.bias").control_value == pytest.approx(0.025)
    assert row(found, "Y12.fresh").verdict == ends
    assert row(found, "Y12.fresh").value == pytest.approx(fresh + 1.0 - 0.05)
    cosine = row(found, "KEEP-12.minibatch")
    assert cosine.value == pytest.approx(0.97 - bias / 9)


@pytest.mark.parametrize("walk, verdict", [(5.0, "reproduced"), (1.0, "contradicted")])
def test_a_faster_way_down_overfits_more(walk, verdict):
    rows = [(seed, arm, rate, test + 0.01 * seed * (arm == "SGD"), 9.0 - test)
            for seed in range(SEEDS) for arm, test in (("SGD", 3.0), ("ADAM", 2.0), ("KS_50_2 corrected", walk))
            for rate in _curves.NEIGHBOURS]  # fmt: skip
    table = pd.DataFrame(rows, columns=["seed", "arm", "rate", "test", "train"])
    table = table.assign(dataset="overfit", at_edge=0, lr=1.0)
    decided = row(judged(overfit=table, only=("KEEP-24",)), "KEEP-24")
    assert decided.verdict == verdict
    assert decided.value == pytest.approx(walk - 3.045) and decided.control_value < 0


@pytest.mark.parametrize("single, verdict", [(-1.0, "reproduced"), (-5.0, "contradicted")])
def test_numerical_sensitivity_is_single_minus_double_precision(single, verdict):
    heights = {("KV_50 published", "rows float32"): single, ("KV_50 published", "rows float64"): -4.0,
               ("KV_50 corrected", "rows float32"): -6.0, ("KV_50 corrected", "rows float64"): -6.1,
               ("ADAM", "rows float64"): -3.0, ("ADAM", "moments"): -3.004,
               ("KS_50_2 corrected", "rows float64"): -2.0, ("KS_50_2 corrected", "moments"): -2.0}  # fmt: skip
    rows = [
        (seed, *cell, h + 0.001 * seed * (cell[1] == "rows float32"))
        for seed in range(8)
        for cell, h in heights.items()
    ]
    table = pd.DataFrame(rows, columns=["seed", "arm", "form", "height"]).assign(dataset="figure9")
    found = judged(forms=table)
    assert (
        row(found, "KEEP-20.precision").verdict,
        row(found, "KEEP-20.precision").control_verdict,
    ) == (verdict, "fails")
    assert row(found, "KEEP-20.precision").value == pytest.approx(single + 4.0, abs=0.01)
    assert row(found, "BEYOND-rows").value == pytest.approx(-0.002)


def test_exact_estimates_have_no_interval():
    table = pd.DataFrame([("Y8", "x", 51.0, np.nan)], columns=["claim", "case", "value", "control"])
    (only,) = measured(derivations=table.assign(dataset="algebra"))
    assert only.estimate == Estimate.exact(51.0) and only.control is None
