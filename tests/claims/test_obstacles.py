"""What forbids a firm word: each obstacle alone, on tables that would be firm without it."""

import math

import numpy as np
import pandas as pd
import pytest
from examples import FIGURE_1, changed, checked, claim

from replicate import claims
from replicate.claims import Decided
from replicate.claims.statistics import estimate
from replicate.errors import BadData

SEEDS = 8
RATES = ("tuned", "tuned lower", "tuned higher", "plain-best")
WHERE = {"commit": "0123abc", "device": "cpu, 2 cores", "setting": "stand-in: a net on digits"}
FIELDS = ("arm", "kernel")  # kernel stands for the regime of a rate


def table(levels: dict, spread: float = 0.01, **columns) -> pd.DataFrame:
    """Rows of (arm, regime) with a mean each; the same noise for all arms of a seed would cancel, so
    each has its own.
    """
    rng = np.random.Generator(np.random.Philox(5))
    rows = [
        {"arm": arm, "kernel": regime, "seed": seed, "loss": mean + spread * rng.standard_normal()}
        for (arm, regime), mean in levels.items()
        for seed in range(SEEDS)
    ]
    return pd.DataFrame(rows).assign(dataset="digits", branch=0, at_edge=0, **WHERE, **columns)


BETTER = {("trip", regime): 0.5 for regime in RATES} | {
    ("average", regime): 0.7 for regime in RATES
}


def judged(one: claims.Claim, rows: pd.DataFrame, **more) -> pd.DataFrame:
    tables = Decided(rows, FIELDS, {}, **more)
    return claims.judge("someone2020", [one], claims.measure([one], lambda names: tables), "cpu")


def primary(one: claims.Claim, rows: pd.DataFrame, **more) -> pd.Series:
    found = judged(one, rows, **more)
    return found[found.role == "primary"].iloc[0]


def lower(**changes) -> claims.Claim:
    contrast = {"name": "difference", "metric": "loss", "arms": ["trip", "average"]}
    fields = {"contrast": contrast | {"where": {"kernel": "tuned"}}, "kind": "ordering"}
    fields |= {"at_least": -math.inf, "at_most": 0.0, "primary": {"cpu": {"dataset": "digits"}}}
    return claim(**fields | changes)


def test_without_an_obstacle_the_word_is_firm():
    row = primary(lower(), table(BETTER), planned={"digits": SEEDS})
    assert (row.verdict, row.obstacle) == ("reproduced", "")


@pytest.mark.parametrize("planned, obstacle", [(24, "8 of 24 seeds"), (8, ""), (5, "")])
def test_until_all_planned_seeds_are_there_nothing_is_firm(planned, obstacle):
    row = primary(lower(), table(BETTER), planned={"digits": planned})
    assert row.obstacle == obstacle
    assert row.verdict == ("inconclusive" if obstacle else "reproduced")


@pytest.mark.parametrize("scope, word", [("setting", "inconclusive"), ("general", "reproduced")])
def test_a_stand_in_has_no_firm_word_on_a_claim_about_the_sources_setting(scope, word):
    stand_ins = frozenset({"digits"})
    assert primary(lower(scope=scope), table(BETTER), stand_ins=stand_ins).verdict == word
    assert primary(lower(scope=scope), table(BETTER)).verdict == "reproduced"


@pytest.mark.parametrize("arm", ["trip", "average"])
def test_one_seed_whose_tuned_rate_is_at_an_edge_forbids_the_word(arm):
    rows = table(BETTER)
    rows.loc[(rows.arm == arm) & (rows.kernel == "tuned") & (rows.seed == 3), "at_edge"] = 1
    row = primary(lower(), rows)
    assert row.verdict == "inconclusive"
    assert row.obstacle == f"the tuned rate of {arm} lies at the edge of its grid, 1 times"


def test_an_edge_of_an_arm_that_is_not_compared_does_not_matter():
    rows = table(BETTER)
    rows.loc[rows.kernel != "tuned", "at_edge"] = 1
    assert primary(lower(), rows).verdict == "reproduced"


MOVED = {"moved": {"kernel": ["tuned lower", "tuned higher"]}}


def test_a_word_that_neighbours_share_is_firm():
    assert primary(lower(**MOVED), table(BETTER)).verdict == "reproduced"


@pytest.mark.parametrize("arm, regime, mean", [
    ("trip", "tuned lower", 0.9), ("trip", "tuned higher", 0.7), ("average", "tuned lower", 0.4),
])  # fmt: skip
def test_a_word_that_one_step_of_the_grid_changes_is_not_firm(arm, regime, mean):
    row = primary(lower(**MOVED), table(BETTER | {(arm, regime): mean}))
    assert row.verdict == "inconclusive" and row.obstacle.startswith(
        f"with {arm} {regime} it would be "
    )
    assert primary(lower(), table(BETTER | {(arm, regime): mean})).verdict == "reproduced"


def test_a_neighbour_that_is_lost_changes_the_word():
    rows = table(BETTER)
    rows.loc[(rows.arm == "trip") & (rows.kernel == "tuned higher") & (rows.seed == 2), "loss"] = (
        math.nan
    )
    assert primary(lower(**MOVED), rows).verdict == "inconclusive"


def test_an_arm_with_a_rate_of_another_regime_is_not_moved():
    contrast = {"name": "difference", "metric": "loss", "where": {"kernel": "tuned"}}
    contrast |= {"arms": ["trip", {"arm": "average", "kernel": "plain-best"}]}
    far = BETTER | {("average", "tuned lower"): 0.1, ("average", "tuned higher"): 0.1}
    assert primary(lower(contrast=contrast, **MOVED), table(far)).verdict == "reproduced"


def test_a_neighbour_that_did_not_run_is_passed_over():
    without = {key: mean for key, mean in BETTER.items() if key[1] in ("tuned", "plain-best")}
    assert primary(lower(**MOVED), table(without)).verdict == "reproduced"


LEVEL = {"level": {"name": "ratio", "arms": ["constant", "other"]}}


@pytest.mark.parametrize("again, spread, word", [
    (1.0, 0.01, "reproduced"), (1.05, 0.01, "reproduced"), (1.3, 0.01, "inconclusive"), (0.8, 0.01, "inconclusive"),
    (1.0, 0.2, "inconclusive"),
])  # fmt: skip
def test_seconds_are_firm_only_where_the_same_work_takes_the_same_time(again, spread, word):
    clock = table({("constant", "tuned"): 1.0, ("other", "tuned"): 1.0 / again}, spread)
    rows = pd.concat([table(BETTER), clock], ignore_index=True)
    found = judged(lower(**LEVEL), rows)
    row = found[found.role == "primary"].iloc[0]
    assert row.verdict == word
    assert row.obstacle.startswith("timing unstable here: ") == (word == "inconclusive")
    beside = found[found.role == "control"].iloc[0]
    ratio = clock.pivot(index="seed", columns="arm", values="loss")
    ratio = pd.DataFrame({"numerator": ratio.constant, "denominator": ratio.other, "branch": 0})
    by_hand = estimate(ratio.reset_index(), "equivalence", (0.9, 1.1))
    assert (beside.low, beside.high, beside.level) == (by_hand.low, by_hand.high, 0.9)
    assert (beside.at_least, beside.at_most, beside.unit) == (0.9, 1.1, "ratio")
    assert beside.case.endswith("the same work twice") and beside.control == ""


def test_seconds_without_the_same_work_twice_are_not_firm():
    row = primary(lower(**LEVEL), table(BETTER))
    assert row.verdict == "inconclusive"
    assert row.obstacle == "timing not shown to be stable: the same work was not timed twice"


def test_several_obstacles_are_all_told():
    row = primary(lower(**LEVEL), table(BETTER), planned={"digits": 10})
    assert row.obstacle.count("; ") == 1 and row.reason == row.obstacle


def test_an_exact_number_has_no_obstacle():
    rows = table(BETTER, spread=0.0)
    exact = lower(kind="exact", primary={}, at_least=-1.0, at_most=1.0, scope="setting")
    contrast = {"name": "value", "metric": "loss", "arms": [{"arm": "trip", "kernel": "tuned"}]}
    exact = claim(**{**vars(exact), "contrast": contrast})
    row = primary(exact, rows, planned={"digits": 24}, stand_ins=frozenset({"digits"}))
    assert (row.verdict, row.obstacle) == ("reproduced", "")


@pytest.mark.parametrize("line, message", [
    ('level = {arms = ["trip", "raw"]}', "level.name: unknown quotient 'ratio of gains'"),
    ('level = {name = "ratio", base = "raw", arms = ["trip", "raw"]}', "level: unknown option"),
    ('level = {name = "ratio", arms = ["trip", "rwa"]}', "level.arms"),
    ('moved = {kernle = ["swa"]}', "moved: unknown field 'kernle'"),
    ('moved = {kernel = ["sawn"]}', "moved.kernel: unknown value 'sawn'"),
    ("moved = {kernel = []}", "moved.kernel: names no value"),
])  # fmt: skip
def test_what_could_not_be_judged_is_refused(tmp_path, line, message):
    with pytest.raises(BadData, match=message):
        checked(tmp_path, changed('needs = "cpu"', f'needs = "cpu"\n{line}'))


def test_a_number_without_interval_takes_neither(tmp_path):
    for field in ({"level": {"name": "ratio"}}, {"moved": {"kernel": ["swa"]}}):
        with pytest.raises(ValueError, match="has no use for it"):
            claim(kind="exact", primary={}, **field)


def test_the_example_knows_the_fields_used_here():
    assert set(FIELDS) <= set(FIGURE_1.fields)
