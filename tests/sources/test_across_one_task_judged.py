"""Which trial an arm of the task is judged at, its claims against tables whose truth is known, and
what its parts cost.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from replicate import claims, numerics
from replicate.app import registry
from replicate.sources.across import _contenders, _prices, one_task
from replicate.sources.across._data import Data
from replicate.sources.across._prices import PriceList
from replicate.sources.across._racing import RACE_AXES, RACE_METRICS, Race
from replicate.sources.across._task import Task
from replicate.sources.across.presets import PRESETS, tiny

SOURCE = registry.source("across")
CLAIMS = [c for c in registry.claims_of(SOURCE) if "one_task" in c.experiments]
TASK = PRESETS["cpu"]["digits"]
PACES = (0.1, 0.2, 0.4, 0.8)
SMALL = tiny(TASK)


def trials(valid, offset=lambda arm, axis: 0.0, spread=0.004, seeds=8) -> pd.DataFrame:
    """What `one_task` gives, where log10 of an arm's test loss is its offset, and every other column
    differs from it; valid: arm, axis, seed, pace -> held-out loss.
    """
    noise = np.random.Generator(np.random.Philox(11))
    rows = []
    for arm in _contenders.list_arms(TASK):
        for axis in RACE_AXES:
            for seed in range(seeds):
                for i, pace in enumerate(PACES):
                    loss = 10 ** (offset(arm, axis) + spread * noise.standard_normal())
                    rows.append(
                        {"seed": seed, "method": arm, "arm": arm, "axis": axis, "pace": pace, "lr": i}
                        | {"gradients": 400, "checks": 7.0, "seconds": 3.0, "seconds again": 3.1}
                        | {"newton_steps": 0.01, **dict.fromkeys(RACE_METRICS, 5.0 + seed + i)}
                        | {"valid_loss": valid(arm, axis, seed, pace), "test_loss": loss, "top1": 0.9}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def by_middle(arm, axis, seed, pace) -> float:
    return 1 + abs(np.log2(pace / 0.2))


# What is chosen.


def test_a_seeds_trial_is_the_one_of_the_other_seeds_and_of_its_own_budget():
    best = {0: 0.2, 1: 0.2, 2: 0.8}  # of all three together it would be 0.4 or above 0.2

    def valid(arm, axis, seed, pace):
        shift = 2.0 if axis == "forward passes" else 1.0
        return np.log2(pace / (best[seed] * shift)) ** 2

    judged = one_task.derive(trials(valid, seeds=3)).set_index(["arm", "axis", "rate", "seed"])
    assert judged.loc["Adam", "gradients", "tuned", 2].pace == 0.2
    assert judged.loc["Adam", "gradients", "tuned", 0].pace == 0.4  # the middle of 0.2 and 0.8
    assert judged.loc["Adam", "forward passes", "tuned", 2].pace == 0.4
    assert judged.loc["Adam", "gradients", "tuned lower", 2].pace == 0.1
    assert judged.loc["Adam", "gradients", "tuned higher", 2].pace == 0.4
    assert judged.loc["Adam", "gradients", "tuned", 2].error == pytest.approx(0.1)
    assert judged.loc["Adam", "gradients", "tuned", 2].log2_pace == pytest.approx(np.log2(0.2))


def test_a_trial_at_the_edge_says_so_and_has_one_neighbour():
    judged = one_task.derive(trials(lambda arm, axis, seed, pace: -pace, seeds=3))
    assert set(judged.rate) == {"tuned", "tuned lower"} and set(judged.at_edge) == {1}
    inside = one_task.derive(trials(by_middle, seeds=3))
    assert set(inside.at_edge) == {0} and set(inside.rate) == set(one_task.TRIAL_MOVES)


def test_a_trial_at_which_another_seed_was_lost_is_out():
    def valid(arm, axis, seed, pace):
        return np.nan if (seed, pace) == (0, 0.2) else by_middle(arm, axis, seed, pace) + pace

    tuned = one_task.derive(trials(valid, seeds=3)).query("rate == 'tuned' and arm == 'SGD'")
    pace = tuned[tuned.axis == "gradients"].set_index("seed").pace
    assert pace[0] == 0.2 and pace[1] == pace[2] == 0.1


# Verdicts.

TRUE = {
    "average, swa": -0.1,
    "average, ema": -0.1,
    "SGD, falling rate": -0.1,
    "schedule-free": -0.1,
}
WALKS = {"gradients": -0.05, "forward passes": 0.1, "modelled seconds": 0.1}


def as_claimed(arm: str, axis: str) -> float:
    return WALKS[axis] if arm in ("KeepStepping", "KeepVaulting") else TRUE.get(arm, 0.0)


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """The primary rows at preset cpu, by claim."""
    table = table.assign(commit="", device="", setting="ours", dataset="digits")
    tables = lambda each: table if each.name == "one_task" else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    rows = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), "cpu")
    return rows[rows.role == "primary"].set_index("claim")


def test_claims_hold_where_they_are_true_and_their_controls_do_not():
    rows = judge(trials(by_middle, as_claimed))
    assert len(rows) == len(CLAIMS) == 10
    assert set(rows.verdict) == {"reproduced"} and set(rows.control_verdict) == {"fails"}
    assert set(rows.n.dropna()) <= {0, 1, 8} and rows.value["ACROSS-21"] == 0.01


FALSE = {
    "extrapolation, third order": 0.1, "Lookahead": 0.1, "momentum": 0.1, "average, swa": 0.05,
    "SGD, falling rate": -0.1, "schedule-free": 0.2,
}  # fmt: skip


def as_denied(arm: str, axis: str) -> float:
    return -WALKS[axis] if arm in ("KeepStepping", "KeepVaulting") else FALSE.get(arm, 0.0)


def test_claims_are_contradicted_where_they_are_false():
    rows = judge(trials(by_middle, as_denied).assign(newton_steps=2.0))
    assert set(rows.verdict) == {"contradicted"}


def test_nothing_is_said_of_arms_that_are_shuffled():
    table = trials(by_middle, as_claimed)
    noise = np.random.Generator(np.random.Philox(5))
    losses = table.groupby(["seed", "axis", "pace"]).test_loss
    table["test_loss"] = losses.transform(lambda each: noise.permutation(each.to_numpy()))
    words = judge(table).verdict.drop("ACROSS-21")
    assert set(words[["ACROSS-14", "ACROSS-15", "ACROSS-16", "ACROSS-18", "ACROSS-19"]]) == {
        "inconclusive"
    }
    assert "reproduced" not in set(words)


def test_a_trial_whose_neighbour_is_elsewhere_and_a_clock_that_is_not_level_leave_it_open():
    table = trials(by_middle, as_claimed).assign(**{"seconds again": 3.6})
    higher = (table.arm == "Lookahead") & (table.pace == 0.4) & (table.axis == "gradients")
    rows = judge(table.assign(test_loss=table.test_loss.where(~higher, table.test_loss * 2)))
    words = rows.verdict[["ACROSS-14", "ACROSS-15", "ACROSS-17.gradients", "ACROSS-17.seconds"]]
    assert list(words) == ["reproduced", "inconclusive", "reproduced", "inconclusive"]
    assert rows.value["ACROSS-15"] == pytest.approx(0, abs=0.005)
    assert "tuned higher" in rows.obstacle["ACROSS-15"]
    assert "timing unstable" in rows.obstacle["ACROSS-17.seconds"]


# Prices.


def test_every_part_is_timed_twice_and_a_block_of_steps_is_divided(monkeypatch):
    calls = {}

    def clock(jobs, rounds, device, warm):
        assert rounds == SMALL.repeats and warm == _prices.WARM_ROUNDS
        for job in jobs.values():
            job()
        calls.update(jobs)
        return {key: np.full(rounds, 16.0 + (key[1] == "price again")) for key in jobs}

    monkeypatch.setattr(numerics, "clock", clock)
    table = _prices.list_prices(SMALL, {"seed": 0}, None, [], "cpu")
    updates = {name for name, each in _contenders.list_contenders(SMALL).items() if not each.walks}
    updates -= {"SGD, falling rate"}
    assert set(table.part) == {"gradient", "check", "average"} | updates
    assert len(calls) == 2 * len(table)
    first = table.set_index("part").price
    assert first["gradient"] == first["check"] == 16 and first["average"] == 1
    assert first["SGD"] == first["Lookahead"] == 16 / 5
    prices = PriceList.read(SMALL, table)
    assert prices.of("KeepStepping", 2, 3, 0) == 2 * 16 + 3 * 16
    assert prices.again.of("SGD, falling rate", 1, 0, 0) == pytest.approx(17 + 17 / 5)


def test_updates_move_nothing_while_they_are_timed(monkeypatch):
    made = []
    network = _prices.kit.network
    monkeypatch.setattr(
        _prices.kit, "network", lambda *words: made.append(network(*words)) or made[-1]
    )
    _prices.list_prices(SMALL, {"seed": 0}, None, [], "cpu")
    start = network(SMALL, 0, Data.load(SMALL, "cpu").images, "cpu")
    assert len(made) == 1 + 12
    for model in made:
        for p, q in zip(model.parameters(), start.parameters(), strict=True):
            assert (p - q).abs().max() < 1e-6


# The experiment.


def test_every_arm_has_as_many_trials_on_every_budget():
    seconds = {"gradient": 1.0, "check": 0.5, "average": 0.1}
    seconds |= dict.fromkeys(_contenders.list_contenders(SMALL), 0.2)
    updates = {name: name for name in seconds if name not in ("KeepStepping", "KeepVaulting")}
    prices = PriceList(seconds, updates, PriceList(seconds, updates))
    task = replace(SMALL, steps=4, checks=2)
    data = Data.load(task, "cpu")
    rows = [
        (row["arm"], row["axis"])
        for method in _contenders.list_contenders(task)
        for row in Race(task, data, 0, prices, method, 0.01, "cpu").run()
    ]
    assert sorted(rows) == sorted(
        (arm, axis) for arm in _contenders.list_arms(task) for axis in RACE_AXES
    )


@pytest.mark.parametrize("change", [
    {"seeds": (1,)}, {"seeds": (1, 1)}, {"paces": (0.2, 0.1)}, {"tail": 0.001}, {"model": "mlpp"},
    {"validation": 1.0}, {"k": 1},
], ids=str)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Task(**change)


def test_the_cost_counts_every_trial():
    whole = SOURCE["one_task"].operations
    small = Task(seeds=(0, 1), paces=(0.1, 0.2))
    assert whole(Task(seeds=(0, 1, 2), paces=(0.1, 0.2))) == pytest.approx(1.5 * whole(small))
    assert whole(Task(seeds=(0, 1), paces=(0.1, 0.2), checks=51)) > whole(small)
