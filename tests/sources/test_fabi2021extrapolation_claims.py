"""The rows of the draft, judged on tables whose truth is known: true, false and shuffled, every
column different.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from replicate import claims
from replicate.app import registry
from replicate.claims.cells import Cells
from replicate.claims.contrasts import Contrast
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import networks
from replicate.sources.fabi2021extrapolation import paths as toy_paths

NAME = "fabi2021extrapolation"
SOURCE = registry.source(NAME)
CLAIMS = registry.claims_of(SOURCE)
RATES = (0.01, 0.02, 0.04)  # of the tables below: the middle one is the source's and the best


def curves(gain: float, seeds: int = 10, **arms_gain: float) -> pd.DataFrame:
    """A `networks` of digits: an arm's loss falls as exp(-gain t), plain's as exp(-t); seeds share
    noise. Beside the rate 0.02 each arm has two worse ones, with a loss a fiftieth higher.
    """
    noise = np.random.Generator(np.random.Philox(11))
    gains = {
        "plain": 1.0,
        "plain again": 1.0,
        "dt=1e-10": 1.0,
        "s=0.5": gain,
        "rate-1.5": gain,
        "heavy-ball": 1.0,
        "double": 1.0,
    }
    rows = []
    for seed in range(seeds):
        level = 1 + 0.1 * noise.standard_normal()
        for arm, speed in (gains | arms_gain).items():
            for i in range(21):
                t, own = i / 20 * (2 if arm == "double" else 1), 0.01 * noise.standard_normal()
                loss, top1 = (
                    2 * level * np.exp(-2 * speed * t + own),
                    0.9 + 0.05 * (speed * t - 1) + 0.0005 * own,
                )
                rows += [("digits", arm, lr, 64, seed, 0, 400 * t, (4.0 + own) * t, worse * loss,
                          2 * worse * loss, top1, lr == 0.02, True)
                         for lr, worse in zip(RATES, (1.02, 1.0, 1.02), strict=True)]  # fmt: skip
    names = (
        "dataset arm lr batch seed branch step seconds train_loss valid_loss top1 source searched"
    )
    return pd.DataFrame(rows, columns=names.split())


def judged(
    experiment: str, table: pd.DataFrame, preset: str = "cpu", setting: str = "the source's"
) -> pd.DataFrame:
    """The rows of the claims file, judged on this table of one experiment alone."""
    table = table.assign(commit="", device="", setting=setting)
    decided = registry.decide(
        SOURCE, lambda each: table if each.name == experiment else pd.DataFrame()
    )
    return claims.judge(NAME, CLAIMS, claims.measure(CLAIMS, decided), preset)


def primary(rows: pd.DataFrame, claim: str) -> pd.Series:
    """The primary row of a claim."""
    (row,) = rows[(rows.claim == claim) & (rows.role == "primary")].itertuples()
    return row


def verdict(table: pd.DataFrame, claim: str, experiment: str = "networks") -> pd.Series:
    return primary(judged(experiment, table), claim)


def numbers(table: pd.DataFrame, claim: str, changes: dict | None = None):
    """What the contrast of a claim, or that with some fields changed, comes to per unit in its only
    case.
    """
    (row,) = [each for each in CLAIMS if each.id == claim]
    experiment = SOURCE[row.experiment]
    cells = Cells(experiment.derive_table(table), tuple(experiment.fields))
    contrast = Contrast.read(row.contrast).change(
        {k: v for k, v in (changes or {}).items() if k != "what"}
    )
    (case,) = contrast.cases(cells)
    return contrast.numbers(cells, case)


def control_of(claim: str) -> dict:
    return next(each.control for each in CLAIMS if each.id == claim)


@pytest.mark.parametrize("gain, expected", [(1.3, "reproduced"), (0.75, "contradicted")])
def test_faster_is_reproduced_and_slower_contradicted(gain, expected):
    rows = judged("networks", curves(gain))
    for claim, case in (
        ("EXTRA-17.steps", "tuned"),
        ("EXTRA-17.seconds", "tuned"),
        ("EXTRA-17.source", "source"),
    ):
        found = primary(rows, claim)
        assert (found.verdict, found.n, found.case) == (expected, 10, f"digits {case}")
        # At the source's rate the control is the larger rate, which does the same; else it is heavy
        # ball, which gains 0.
        assert found.control_verdict == ("undecided" if case == "tuned" else
                                         "passes too" if expected == "reproduced" else "fails")  # fmt: skip


def test_a_gain_over_the_larger_rate_is_told_from_none():
    assert verdict(curves(1.3, **{"rate-1.5": 1.1}), "EXTRA-17.rate").verdict == "reproduced"
    assert verdict(curves(1.3, **{"rate-1.5": 1.6}), "EXTRA-17.rate").verdict == "contradicted"
    assert verdict(curves(1.3), "EXTRA-17.rate").verdict == "inconclusive"


def test_other_extrapolations_are_judged_beside_the_primary_one_against_their_rates():
    rows = judged("networks", curves(1.3, **{"s=1": 0.8, "rate-2": 1.6, "every=4": 1.2}))
    rows = rows[rows.claim == "EXTRA-17.source"].set_index("case")
    assert rows.role.to_dict() == {
        "digits source": "primary", "digits source s=1": "secondary", "digits source every=4": "secondary"
    }  # fmt: skip
    assert rows.verdict.to_list() == ["reproduced", "outside", "inside"]
    assert (
        rows.control_verdict["digits source s=1"] == "passes too"
        and rows.control["digits source every=4"] == ""
    )


def test_shuffled_arms_decide_nothing_and_say_how_many_seeds_would():
    table = curves(1.3)
    swap = table.arm.map({"plain": "s=0.5", "s=0.5": "plain"}).fillna(table.arm)
    table["arm"] = table.arm.where(table.seed % 2 == 0, swap)
    found = verdict(table, "EXTRA-17.steps")
    assert found.verdict == "inconclusive" and "seeds would decide" in found.reason


def test_no_effect_at_all_is_no_gain_and_the_same_accuracy():
    table = curves(1.0)
    same = table[table.arm == "plain"].assign(arm="dt=1e-10")
    table = pd.concat([table[table.arm != "dt=1e-10"], same])
    assert verdict(table.assign(dataset="cifar10"), "EXTRA-16.accuracy").verdict == "contradicted"
    rows = judged("networks", table)
    assert primary(rows, "EXTRA-16.equal").verdict == "reproduced"
    assert primary(rows, "EXTRA-16.half").verdict == "contradicted"


def test_an_effect_of_a_point_is_seen_as_one():
    table = curves(1.0)
    table.loc[table.arm == "dt=1e-10", "top1"] += 0.01
    found = verdict(table.assign(dataset="cifar10"), "EXTRA-16.accuracy")
    assert (found.verdict, found.control_verdict) == ("reproduced", "passes too")
    assert verdict(table, "EXTRA-16.equal").verdict == "contradicted"


@pytest.mark.parametrize("loss, expected", [(0.004, "reproduced"), (0.006, "contradicted")])
def test_an_accuracy_may_be_lower_by_half_a_point(loss, expected):
    table = curves(1.0)
    table.loc[table.arm == "s=0.5", "top1"] -= loss
    assert verdict(table, "EXTRA-17.accuracy").verdict == expected


def test_early_and_interrupted_extrapolation_are_compared_by_their_last_loss():
    table = curves(
        1.0, **{"s=1": 0.9, "s=1 late": 1.1, "every=4": 1.1, "rate-2": 1.1, "rate-2 late": 0.9}
    )
    rows = judged("networks", table)
    early = primary(rows, "EXTRA-19.early")
    assert (early.verdict, early.control_verdict) == ("reproduced", "fails")
    advantage = primary(rows, "EXTRA-14.advantage")
    assert (advantage.verdict, advantage.control) == ("reproduced", "")  # rate-1.25 did not run
    assert advantage.value == pytest.approx(0.4 * np.log10(np.e), abs=0.01)


def test_a_target_that_one_arm_never_reaches_counts_as_its_end_and_one_that_neither_reaches_as_nothing():
    run = pd.DataFrame(
        {
            "step": [0, 10, 20],
            "seconds": [0.0, 1.0, 2.0],
            "train_loss": [2.0, 1.0, 0.5],
            "top1": 0.5,
        }
    )
    run = run.assign(
        seed=0, branch=0
    )  # its target is the loss at 3/4 of the steps at the latest: 1.0, at step 10
    slow, lost = (
        run.assign(train_loss=[2.0, 1.9, 1.8]),
        run.assign(train_loss=[2.0, np.nan, np.nan]),
    )
    arms_of = {"plain": run, "s=0.5": slow, "s=1": lost}
    table = pd.concat(
        [part.assign(arm=arm, regime="tuned", dataset="digits") for arm, part in arms_of.items()]
    )
    assert networks._time(run, np.sqrt(0.5), "step") == pytest.approx(15)
    assert np.isnan(networks._time(slow, 1.0, "step"))
    assert numbers(table, "EXTRA-17.steps").tolist() == [1.0]
    assert numbers(table, "EXTRA-17.seconds", {"arms": ["s=1", "plain"]}).tolist() == [1.0]
    assert numbers(table, "EXTRA-17.steps", {"arms": ["s=0.5", "s=1"]}).isna().all()


def over_rates(gains: dict[float, float]) -> pd.DataFrame:
    rows = [("digits", arm, lr, 64, seed, 0, loss * (1 + 0.01 * seed), abs(np.log10(lr / 0.02)) + seed)
            for seed in range(10) for lr, gain in gains.items()
            for arm, loss in (("plain", 1.0), ("s=0.5", 1 / gain), ("rate-1.5", 1.0))]  # fmt: skip
    return pd.DataFrame(
        rows, columns="dataset arm lr batch seed branch train_loss valid_loss".split()
    )


def test_slopes_over_rates_and_batches_have_the_sign_of_the_trend():
    table = over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1})
    slope, control = numbers(table, "EXTRA-20"), numbers(table, "EXTRA-20", control_of("EXTRA-20"))
    assert len(slope) == 10 and (slope < 0).all() and np.allclose(control, 0)
    np.testing.assert_allclose(numbers(table, "EXTRA-28"), 0)
    np.testing.assert_allclose(numbers(table[table.lr > 0.02], "EXTRA-28"), 1)
    rows = [("digits", arm, batch, seed, 0, loss) for seed in range(10) for batch in (16, 64, 256)
            for arm, loss in (("plain", 1.0), ("s=0.5", 16 / batch))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm batch seed branch train_loss".split())
    np.testing.assert_allclose(numbers(table, "EXTRA-18"), np.log10(2))


def test_a_rate_at_which_any_run_was_lost_is_no_point_of_the_slope_and_two_are_no_slope():
    table = over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1, 1.0: 100.0})
    table.loc[(table.lr == 1.0) & (table.arm == "rate-1.5") & (table.seed == 3), "train_loss"] = (
        np.nan
    )
    expected = numbers(over_rates({0.02: 2.0, 0.2: 1.5, 2.0: 1.1}), "EXTRA-20")
    pd.testing.assert_series_equal(numbers(table, "EXTRA-20"), expected)
    rows = judged("rate_curves", over_rates({0.02: 2.0, 0.2: 1.5}))
    assert rows.set_index("claim").verdict[["EXTRA-20", "EXTRA-28"]].tolist() == [
        "not tested",
        "reproduced",
    ]


@pytest.mark.parametrize(
    "more, expected", [(0.0, "reproduced"), (0.15, "contradicted"), (0.02, "inconclusive")]
)
def test_shares_of_starts_are_compared_by_set(more, expected):
    noise = np.random.Generator(np.random.Philox(5))
    rows = [("goldstein-price", arm, seed, 0, level + gain + 0.003 * noise.standard_normal())
            for seed, level in enumerate(noise.uniform(0.1, 0.3, 10))
            for arm, gain in (("adam", 0.0), ("GD+", more), ("gradient", more))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm seed branch share".split())
    assert verdict(table, "EXTRA-B7", "basins").verdict == expected


def test_the_length_of_noise_is_told_from_that_of_a_signal():
    rows = [("digits", what, seed, 0, ratio * size, size) for what, ratio in (("noise", 1.0), ("quiet", 0.1))
            for seed, size in enumerate(np.linspace(1, 2, 10))]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset what seed branch extrapolation predicted".split())
    printed = pd.DataFrame({"dataset": "digits", "what": "printed", "seed": [0, 1], "branch": 0,
                            "changed": [0.001, 0.02], "length": [1e-8, 1e-9]})  # fmt: skip
    table = pd.concat(
        [table.assign(extrapolation=table.extrapolation * (1 + 0.01 * (table.seed % 3))), printed]
    )
    rows = judged("resolution", table)
    found = primary(rows, "EXTRA-B1.gain")
    assert (found.verdict, found.control_verdict, found.n) == ("reproduced", "fails", 10)
    share, length = (primary(rows, claim) for claim in ("X-12.share", "X-12.length"))
    assert (share.verdict, share.value) == ("not confirmed", 0.02)  # the largest of the seeds
    assert (length.verdict, length.value) == ("confirmed", 1e-8)


def wiggling(dataset: str, ends: dict[tuple[str, float], float]) -> pd.DataFrame:
    """A `paths` of one function: arms walk one to the right, with a bump at step 2, to distance
    `ends`.
    """
    steps = np.arange(0, 201)
    tables = [
        pd.DataFrame({"dataset": dataset, "arm": arm, "dt": dt, "step": steps,
                      "x": steps / 200, "y": 0.1 * (steps == 2),
                      "distance": np.where(steps == 2, 9.0, 4.0), "value": 50.0}).assign(
            distance=lambda table, end=end: table.distance.where(table.step < 200, end))
        for (arm, dt), end in ends.items()
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_figures_are_read_off_paths():
    ends = {
        ("adam", 0.0): 2.6e-3,
        ("GD+", 1e-4): 2.6e-3,
        ("GD+", 8e-4): 5.7e-6,
        ("gradient", 1e-4): 1.0,
    }
    found = toy_paths.derive(wiggling("beale", ends)).set_index("arm").loc["adam"]
    assert (found.maxima, found.variation, found["distance at 40"]) == (1, 2 * (3 - 2), 4.0)
    up, length = np.hypot(0.1, 1 / 200), 200 / 200
    assert found.detour == pytest.approx((2 * up + (length - 2 / 200)) / length)
    assert np.isnan(found["to local minimum"]) and found.value == 50.0
    rows = judged("paths", wiggling("beale", ends)).set_index("claim")
    names = ["EXTRA-24.adam", "EXTRA-24.plus", "EXTRA-24.lower", "X-15", "X-14.metric"]
    assert rows.verdict[names].tolist() == [
        "reproduced", "contradicted", "contradicted", "confirmed", "confirmed"
    ]  # fmt: skip
    swapped = {("GD+", 1e-4): 5.7e-6, ("GD+", 8e-4): 2.6e-3}
    rows = judged("paths", wiggling("beale", ends | swapped)).set_index("claim")
    assert rows.verdict[["EXTRA-24.plus", "EXTRA-24.lower", "X-15"]].tolist() == [
        "reproduced", "reproduced", "not confirmed"
    ]  # fmt: skip


def test_a_local_minimum_is_known_by_its_place():
    ends = {("adam", 0.0): 9e-7, ("GD+", 1e-5): 1.0, ("gradient", 1e-5): 1.0}
    table = wiggling("goldstein-price", ends)
    assert verdict(table, "EXTRA-25.stuck", "paths").verdict == "contradicted"
    table.loc[(table.arm == "GD+") & (table.step == 200), ["x", "y"]] = PROBLEMS[
        "goldstein-price"
    ].minima[1]
    found = verdict(table, "EXTRA-25.stuck", "paths")
    assert (found.verdict, found.control_verdict, found.value) == ("reproduced", "fails", 0.0)


def test_the_best_rate_is_looked_for_on_both_grids():
    rows = [("rosenbrock", arm, dt, lr, lr <= 0.1, abs(np.log10(lr / best)) + 1e-3 * (1 + dt))
            for arm, dt, best in (("adam", 0.0, 1.0), ("GD+", 1e-4, 0.1), ("gradient", 1e-4, 0.1))
            for lr in (0.001, 0.01, 0.1, 1.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns="dataset arm dt lr source distance".split())
    rows = judged("rate_search", table).set_index("claim")
    assert (
        rows.value["EXTRA-21"] == pytest.approx(10) and rows.verdict["EXTRA-21"] == "contradicted"
    )
    assert rows.value["X-14.edge"] == 1 and rows.verdict["X-14.edge"] == "confirmed"
    assert (
        rows.value["EXTRA-22.tuned"] == pytest.approx(np.log10(1 + 1e-4))
        and rows.control["EXTRA-22.tuned"]
    )
    at_the_table = table.assign(distance=np.where(table.lr == 0.1, 0.0, 1.0))
    assert (
        verdict(at_the_table[table.arm == "adam"], "EXTRA-21", "rate_search").verdict
        == "reproduced"
    )


def test_slopes_of_errors_are_those_of_their_powers():
    powers = {
        ("taylor", 3): 4,
        ("taylor", 2): 3,
        ("backward", 1): 1,
        ("bdf", 1): 3,
        ("central", 1): 2,
    }
    rows = [("quadratic", "sin", what, m, step, 7 * step**power)
            for (what, m), power in powers.items() for step in (0.01, 0.02, 0.04)]  # fmt: skip
    rows = judged(
        "orders", pd.DataFrame(rows, columns="dataset path what m step error".split())
    ).set_index("claim")
    assert rows.value["EXTRA-01"] == pytest.approx(4) and rows.control_value[
        "EXTRA-01"
    ] == pytest.approx(3)
    assert rows.value["EXTRA-02"] == pytest.approx(1) and rows.control_value[
        "EXTRA-02"
    ] == pytest.approx(2)
    assert rows.value["EXTRA-11.first"] == pytest.approx(2)


def test_nothing_on_networks_is_decided_at_smoke():
    table = judged("networks", curves(1.3), "smoke")
    assert set(table[table.verdict != "not tested"].kind) <= {"exact", "erratum"}


def test_every_claim_but_that_on_an_address_has_an_experiment():
    assert [each.id for each in CLAIMS if not each.experiments] == ["X-16"]


