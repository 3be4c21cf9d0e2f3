"""Claims of section 3 and appendix B.1 judged on tables whose truth is known: steps on a quadratic
with a noise scale S that is set, and descents whose losses are written down. True, false and, with
both in turn from seed to seed, shuffled.
"""

from functools import cache, reduce

import numpy as np
import pandas as pd
import pytest

from replicate import claims
from replicate.app import registry

SOURCE = registry.source("sandler2023trajectories")
CLAIMS = [row for row in registry.claims_of(SOURCE) if row.experiment in ("figure_2", "figure_3")]
SEEDS = 8  # as at preset cpu
SIZES = (16, 64, 128, 256, 1024)
START, COOLED = 2.0, 1.25  # nats
GAIN, BEND = 0.3, 1.5  # |G|^2 and G.H G / |G|^2


def judged(experiment: str, table: pd.DataFrame, setting: str = "the source's") -> pd.DataFrame:
    """The rows on a table of one experiment alone, for both data sets the same."""
    table = pd.concat([table.assign(dataset=f"{name}-batches") for name in ("digits", "cifar10")])
    table = table.assign(commit="", device="", setting=setting)
    decided = registry.decide(
        SOURCE, lambda each: table if each.name == experiment else pd.DataFrame()
    )
    rows = [row for row in CLAIMS if row.experiment == experiment]
    return claims.judge(SOURCE.name, rows, claims.measure(rows, decided), "cpu")


def shuffle(true: pd.DataFrame, false: pd.DataFrame) -> pd.DataFrame:
    """Every other seed of either."""
    return pd.concat([true[true.seed % 2 == 0], false[false.seed % 2 == 1]])


def primary(rows: pd.DataFrame, claim: str):
    (row,) = rows[(rows.claim == claim) & (rows.role == "primary")].itertuples()
    return row


# Single steps.

WORLD = {
    "scale": {"step 100": 200.0, "late": 600.0}, "cooled": COOLED, "fit": 0.99, "held_fit": 0.98, "convex": 0.99,
    "noise_seen": 1.0, "bend_seen": 1.0, "lean": 0.0,
}  # fmt: skip


def steps(**changes) -> pd.DataFrame:
    """What `figure_2` gives where both losses are parabolas in the step size e, of a batch of B

        own   START - e GAIN (1 + S/B) + e^2/2 BEND GAIN (1 + S/B)
        held  START - e GAIN + e^2/2 BEND GAIN (1 + S/B)

    and every number is off by a few hundredths. noise_seen, bend_seen: factors on what noise and
    products tell; lean: power of B that the batch's own drop is multiplied by.
    """
    world, rng, rows = WORLD | changes, np.random.Generator(np.random.Philox(7)), []

    def near(value: float) -> float:
        return value * (1 + 0.03 * rng.standard_normal())

    for seed in range(SEEDS):
        for stage, scale in world["scale"].items():
            for bs in SIZES:
                for draw in range(4):
                    noisy, most = 1 + scale / bs, GAIN / (2 * BEND)
                    row = {
                        "what": "draw",
                        "norm": "batch",
                        "seed": seed,
                        "stage": stage,
                        "bs": bs,
                        "draw": draw,
                    }
                    row |= {
                        "start": START,
                        "held_start": START + 0.01,
                        "cooled": near(world["cooled"]),
                    }
                    row |= {"least": START - near(most * noisy * bs ** world["lean"])}
                    row |= {"held_least": START + 0.01 - near(most / noisy)}
                    row |= {
                        "minimiser": 1 / BEND,
                        "critical": near(2 / BEND),
                        "held_critical": near(2 / BEND / noisy),
                    }
                    row |= {"rise": near(most) * (scale / bs - 1), "held_convex": 0.5}
                    rows.append(
                        row
                        | {
                            name: 1 - near(1 - world[name])
                            for name in ("fit", "held_fit", "convex")
                        }
                    )
            trace = world["noise_seen"] * scale * GAIN / 64
            bent = world["bend_seen"] * BEND * np.array([GAIN, GAIN + scale * GAIN / 64])
            moments = {"batch": 64, "squared_mean": near(GAIN), "trace": trace, "along_mean": bent[0],
                       "along_batch": bent[1]}  # fmt: skip
            rows.append({"what": "noise", "seed": seed, "stage": stage} | moments)
    return pd.DataFrame(rows)


QUIET = {"step 100": 4.0, "late": 5.0}  # noise scales below every batch size
ILL_FITTING = dict.fromkeys(("fit", "held_fit", "convex"), 0.6)
WORLDS = {
    "the paper's": {},
    "loud": {"scale": {"step 100": 9000.0, "late": 5000.0}},
    "quiet": {"scale": QUIET} | ILL_FITTING,
    "mistaken": {"noise_seen": 4.0, "bend_seen": 4.0, "lean": 3.0},
}
STEPS = {  # claim -> where it is true and where false, the word on its control
    "TRAJ-01": ("the paper's", "quiet", ""),
    "TRAJ-01.held-out": ("the paper's", "quiet", ""),
    "TRAJ-01.convex": ("the paper's", "quiet", ""),
    "TRAJ-02.below": ("the paper's", "quiet", "fails"),
    "TRAJ-03.worse": ("the paper's", "quiet", "fails"),
    "TRAJ-03.drop": ("the paper's", "quiet", "fails"),
    "TRAJ-03.critical": ("the paper's", "quiet", "fails"),
    "TRAJ-04.parabola": ("the paper's", "quiet", ""),
    "TRAJ-04.contrast": ("loud", "quiet", ""),
    "TRAJ-05.trend": ("the paper's", "mistaken", "undecided"),
    "TRAJ-10": ("the paper's", "quiet", "fails"),
    "BEYOND-batch.crossover": ("the paper's", "mistaken", "fails"),
    "BEYOND-batch.drops": ("the paper's", "mistaken", "fails"),
    "BEYOND-batch.critical": ("the paper's", "mistaken", "fails"),
}


@cache
def world(*names: str) -> pd.DataFrame:
    """The rows judged in one world, or in two in turn."""
    return judged("figure_2", reduce(shuffle, [steps(**WORLDS[name]) for name in names]))


@pytest.mark.parametrize("claim", STEPS)
def test_claims_on_single_steps_are_true_false_or_open(claim):
    true, false, control = STEPS[claim]
    row = primary(world(true), claim)
    assert (row.verdict, row.control_verdict) == ("reproduced", control)
    assert primary(world(false), claim).verdict == "contradicted"
    shuffled = primary(world(true, false), claim)
    assert shuffled.verdict == "inconclusive", (shuffled.value, shuffled.low, shuffled.high)


def test_values_are_those_of_the_quadratic():
    rows = world("the paper's")
    noisy = {bs: 1 + 600 / bs for bs in SIZES}
    expected = {
        "TRAJ-03.worse": GAIN / (2 * BEND) * (600 / 64 - 1),
        "TRAJ-03.drop": noisy[64] ** -2,
        "TRAJ-03.critical": 1 / noisy[128],
        "TRAJ-10": noisy[1024] / noisy[64],
        "TRAJ-04.parabola": 1,
        "TRAJ-05.trend": np.polyfit(np.log10(SIZES), [2 * np.log10(noisy[bs]) for bs in SIZES], 1)[0],
    }  # fmt: skip
    for claim, value in expected.items():
        assert primary(rows, claim).value == pytest.approx(value, rel=0.05), claim
    assert primary(rows, "BEYOND-batch.crossover").value < 0.15


# Descents.


def lines(truth: bool) -> pd.DataFrame:
    """What `figure_3` gives: on a true one the batch's loss goes from 2 to 0.2, 0.1 and 0.05, flat
    between both ends, and the held-out one from 2 to 6, with a dip in between; on a false one walls
    stand between the ends, the batch's loss stays and the held-out one falls.
    """
    rng, rows, places = np.random.Generator(np.random.Philox(9)), [], np.linspace(0, 1, 11)
    wall = 4 * places * (1 - places)
    own = {0: 2, 1: 0.5, 3: 0.2, 6: 0.1, 9: 0.05} if truth else dict.fromkeys((0, 1, 3, 6, 9), 1.8)
    held = {0: 2, 1: 3, 3: 4, 6: 5, 9: 6} if truth else {0: 2, 1: 1.8, 3: 1.7, 6: 1.6, 9: 1.5}
    for seed in range(SEEDS):
        for trip in range(3):
            place = {"seed": seed, "norm": "batch", "trip": trip, "scatter": 0.01}

            def walk(line, steps, loss, rest, at=places, place=place):
                level = 1 + 0.02 * rng.standard_normal()
                for a, y, h in zip(at, loss * level + 0 * at, rest * level + 0 * at, strict=True):
                    rows.append(
                        place | {"line": line, "steps": steps, "place": a, "loss": y, "held": h}
                    )

            for count in own:
                dip = -0.3 * wall if count else 0 * wall
                lifts = (0, dip) if truth else (0.3 * wall, 0.6 * wall)
                walk("descents", count, own[count] + lifts[0], held[count] + lifts[1])
            walk("reordered units", 9, own[9] + 3 * wall, held[9] + 4 * wall)
            walk("other batches", 9, 1.0, 1.9 if truth else 2.1, np.zeros(1))
            walk("start", 9, 2.4, 3.0, np.zeros(1))
    return pd.DataFrame(rows)


DESCENTS = {  # claim -> the word on its control
    "TRAJ-06": "fails", "TRAJ-07": "fails", "TRAJ-08.rise": "fails", "TRAJ-08.dramatic": "fails",
    "TRAJ-08.barrier": "fails", "TRAJ-09": "fails",
}  # fmt: skip


@pytest.fixture(scope="module")
def descents():
    true, false = lines(True), lines(False)
    tables = {"true": true, "false": false, "shuffled": shuffle(true, false)}
    return {name: judged("figure_3", table) for name, table in tables.items()}


@pytest.mark.parametrize("claim, control", DESCENTS.items())
def test_claims_on_descents_are_true_false_or_open(descents, claim, control):
    row = primary(descents["true"], claim)
    assert (row.verdict, row.control_verdict) == ("reproduced", control)
    assert primary(descents["false"], claim).verdict == "contradicted"
    shuffled = primary(descents["shuffled"], claim)
    assert shuffled.verdict == "inconclusive", (shuffled.value, shuffled.low, shuffled.high)


def test_what_is_about_the_sources_own_figure_has_no_firm_word_on_a_stand_in():
    stand_in = judged("figure_3", lines(False), "stand-in: a net on digits")
    for claim in ("TRAJ-06", "TRAJ-08.dramatic"):
        row = primary(stand_in, claim)
        assert row.verdict == "inconclusive" and "stands in" in row.reason
    assert primary(stand_in, "TRAJ-07").verdict == "contradicted"


def test_every_claim_on_fixed_batches_that_cpu_decides_is_here():
    assert {row.id for row in CLAIMS if "cpu" in row.primary} == {*STEPS, *DESCENTS}
