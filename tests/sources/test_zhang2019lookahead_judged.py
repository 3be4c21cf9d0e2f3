"""What the runs on networks are judged at, and their claims against tables whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from replicate import claims
from replicate.app import registry
from replicate.sources.zhang2019lookahead import _methods, _networks, decomposition, within_cycle
from replicate.sources.zhang2019lookahead.presets import PRESETS

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)

# Where a probe begins.


def test_a_probe_begins_at_the_pull_nearest_to_its_share_of_the_run():
    night = PRESETS["night"]["cifar10-cycles"]
    assert (night.steps, night.k) == (3120, 5)
    assert within_cycle.find_begin(night, 0.325) == 1015  # of 1014
    assert within_cycle.find_begin(night, 0.25) == 780


# What is chosen.

RATES = [0.1, 0.2, 0.4, 0.8]


def recorded(valid, seeds=3, **changes) -> pd.DataFrame:
    """A table of runs; valid: arm -> seed -> rate -> validation loss."""
    rows = []
    for method in decomposition.TAKEN_APART:
        for arm in _methods.IMAGE_METHODS[method].arms:
            for seed in range(seeds):
                for lr in [0.05, *RATES]:
                    metrics = {m: seed + 10 * lr for m in _networks.ALL_METRICS}
                    metrics["valid_loss"] = valid(arm, seed, lr)
                    where = {"seed": seed, "schedule": "constant", "lr": lr, "alpha": 0.5}
                    where["weight_decay"] = 1e-3
                    rows.append(where | {"grid": lr in RATES, "arm": arm} | metrics)
    return pd.DataFrame(rows)


def test_a_seeds_rate_is_chosen_by_the_other_seeds():
    best = {0: 0.1, 1: 0.2, 2: 0.4}
    table = recorded(lambda arm, seed, lr: abs(np.log2(lr / best[seed])) ** 2)
    derived = decomposition.derive(table)
    tuned = derived[derived.regime == "tuned"].set_index(["arm", "seed"]).lr
    # Others' mean of squares is least at their middle: 0.2 and 0.4, 0.1 and 0.4, 0.1 and 0.2.
    assert tuned["sgd", 1] == 0.2
    assert tuned["sgd", 0] in (0.2, 0.4) and tuned["sgd", 2] in (0.1, 0.2)


def test_arms_take_their_own_rate_or_lookaheads():
    own = {"sgd": 0.2, "sgd-ema": 0.4, "tail": 0.2, "lookahead": 0.4, "lookahead-ema": 0.8}
    own |= {"lookahead-tail": 0.4, "schedule-free": 0.2, "outer-nesterov": 0.2}
    table = recorded(lambda arm, seed, lr: abs(np.log2(lr / own[arm])))
    derived = decomposition.derive(table).set_index(["arm", "regime", "seed"])
    rates = {
        arm: derived.loc[arm, "tuned", 0].lr
        for arm in (*decomposition.OWN_RATE, "sgd-same", "sgd-alpha")
    }
    assert rates == own | {"sgd-same": 0.4, "sgd-alpha": 0.2}
    assert derived.loc["lookahead", "tuned lower", 1].lr == 0.2
    assert derived.loc["lookahead", "tuned higher", 1].lr == 0.8
    assert derived.loc["sgd-alpha", "tuned lower", 1].lr == 0.1
    assert ("lookahead-ema", "tuned higher", 0) not in derived.index
    edges = derived.xs("tuned", level="regime").at_edge.groupby("arm").max()
    assert edges[edges == 1].index.tolist() == ["lookahead-ema"]
    assert derived.loc["sgd-alpha", "tuned", 2].test_loss == 2 + 10 * 0.2


def test_a_rate_at_which_another_seed_was_lost_is_out():
    def valid(arm, seed, lr):
        return np.nan if (seed, lr) == (0, 0.2) else abs(np.log2(lr / 0.2)) + 0.1 * (lr > 0.2)

    derived = decomposition.derive(recorded(valid)).set_index(["arm", "regime", "seed"])
    assert derived.loc["sgd", "tuned", 0].lr == 0.2  # the others did not lose there
    assert derived.loc["sgd", "tuned", 1].lr == 0.1


# Verdicts.


def judged(experiment: str, table: pd.DataFrame, dataset: str = "digits") -> pd.DataFrame:
    """The primary rows at preset cpu of a table of one experiment, by claim."""
    table = table.assign(commit="", device="", setting="stand-in", dataset=dataset)
    tables = lambda each: table if each.name == experiment else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    rows = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), "cpu")
    named = {c.id for c in CLAIMS if experiment in c.experiments}
    return rows[(rows.role == "primary") & rows.claim.isin(named)].set_index("claim")


SEEDS = 10
BEST = dict.fromkeys(decomposition.OWN_RATE, 0.2) | {"lookahead": 0.4, "lookahead-ema": 0.4}


def runs_with(offsets: dict, spread=0.01, shuffled=False) -> pd.DataFrame:
    """Runs whose every metric is its own offset (schedule, arm, metric) plus noise of a seed."""
    noise = np.random.Generator(np.random.Philox(7))
    rows = []
    for schedule in ("constant", "decayed"):
        for method in decomposition.TAKEN_APART:
            for arm in _methods.IMAGE_METHODS[method].arms:
                for seed in range(SEEDS):
                    for lr in [0.05, *RATES]:
                        away = abs(np.log2(lr / BEST[arm]))
                        row = {"seed": seed, "schedule": schedule, "lr": lr, "alpha": 0.5}
                        row |= {"grid": lr in RATES, "arm": arm, "weight_decay": 1e-3}
                        for i, metric in enumerate(_networks.ALL_METRICS):
                            offset = offsets.get((schedule, arm, metric), 0.0)
                            row[metric] = 1 + i + offset + spread * noise.standard_normal()
                        row["valid_loss"] = 1 + away
                        rows.append(row)
    table = pd.DataFrame(rows)
    if shuffled:
        metrics = list(_networks.ALL_METRICS)
        for _, part in table.groupby(["schedule", "lr"]):
            table.loc[part.index, metrics] = table.loc[
                noise.permutation(part.index), metrics
            ].to_numpy()
        table["valid_loss"] = 1 + abs(np.log2(table.lr / table.arm.map(BEST)))
    return table


TRUE = {
    ("decayed", "lookahead", "early_loss"): -0.2,
    ("constant", "lookahead", "test_loss"): -0.2,
    ("constant", "lookahead-ema", "test_loss"): -0.2,
    ("constant", "sgd-ema", "test_loss"): -0.2,
    ("constant", "tail", "test_loss"): -0.3,
    ("constant", "lookahead", "raw_top1"): 0.05,
}
FALSE = {
    ("decayed", "lookahead", "early_loss"): 0.2,
    ("decayed", "lookahead", "test_loss"): 0.3,
    ("constant", "lookahead", "test_loss"): 0.2,
    ("constant", "sgd-ema", "test_loss"): 0.5,
    ("constant", "tail", "test_loss"): 0.5,
    ("constant", "lookahead", "raw_top1"): -0.05,
}
# SGD at alpha times Lookahead's rate is the run at SGD's own rate here: the same end or not.
ALPHA_TRUE = {("constant", "lookahead", "test_loss"): 0.0}


@pytest.fixture(scope="module")
def decided():
    tables = {"true": runs_with(TRUE), "false": runs_with(FALSE)}
    tables |= {
        "shuffled": runs_with(TRUE, spread=0.3, shuffled=True),
        "alike": runs_with(ALPHA_TRUE),
    }
    return {name: judged("decomposition", table) for name, table in derive_all(tables).items()}


def derive_all(tables: dict) -> dict:
    return {name: table.assign(method="") for name, table in tables.items()}


CLAIMED = ("LOOK-16", "LOOK-B9", "LOOK-B9.decayed", "LOOK-B9.averaged", "LOOK-B9.tail", "LOOK-B10")


@pytest.mark.parametrize("claim", CLAIMED)
def test_true_is_reproduced_false_contradicted_and_shuffled_arms_decide_nothing(decided, claim):
    verdicts = {name: decided[name].loc[claim].verdict for name in ("true", "false")}
    assert verdicts == {"true": "reproduced", "false": "contradicted"}
    assert decided["shuffled"].loc[claim].verdict == "inconclusive"


def test_nothing_on_top_of_a_mean_and_alpha_times_the_rate(decided):
    assert decided["true"].loc["LOOK-B9.on-top"].verdict == "reproduced"
    assert decided["false"].loc["LOOK-B9.on-top"].verdict == "contradicted"
    assert decided["alike"].loc["LOOK-B9.alpha"].verdict == "reproduced"
    assert decided["true"].loc["LOOK-B9.alpha"].verdict == "contradicted"


def test_the_control_of_batch_norm_looks_at_re_estimated_accuracy():
    alone = runs_with(TRUE, spread=0.002).assign(method="")
    assert judged("decomposition", alone).loc["LOOK-B10"].control_verdict == "fails"
    both = runs_with(TRUE | {("constant", "lookahead", "top1"): 0.05}).assign(method="")
    assert judged("decomposition", both).loc["LOOK-B10"].control_verdict == "passes too"


def test_a_word_that_hangs_on_one_step_of_the_grid_is_not_firm():
    table = runs_with(TRUE).assign(method="")
    moved = (table.arm == "lookahead") & (table.lr == 0.8) & (table.schedule == "constant")
    table.loc[moved, "test_loss"] += 1
    row = judged("decomposition", table).loc["LOOK-B9"]
    assert row.verdict == "inconclusive" and "tuned higher" in row.reason


def test_a_tuned_rate_at_the_edge_is_not_firm():
    table = runs_with(TRUE).assign(method="")
    chosen = (table.arm == "lookahead") & (table.lr == 0.8)
    table.loc[chosen, "valid_loss"] = 0.0
    row = judged("decomposition", table).loc["LOOK-B9"]
    assert row.verdict == "inconclusive" and "edge of its grid" in row.reason


def cycles(fall: float, rise: float, spread=0.001, shuffled=False) -> pd.DataFrame:
    """Places of cycles: the last fast weights `fall` below the slow ones, the pull `rise` above."""
    noise = np.random.Generator(np.random.Philox(9))
    rows = []
    for seed in range(SEEDS):
        for probe in ("0 drops", "1 drops"):
            for norm in ("running", "re-estimated"):
                for cycle in range(3):
                    size = 1.0 if norm == "running" else 0.0
                    down = {"5": -fall * size, "pull": (rise - fall) * size}
                    places = ["0", "1", "2", "3", "4", "5", "pull"]
                    places = noise.permutation(places) if shuffled else places
                    values = [
                        0.9 + down.get(p, 0.0) for p in ["0", "1", "2", "3", "4", "5", "pull"]
                    ]
                    for place, value in zip(places, values, strict=True):
                        row = {"seed": seed, "net": "batch norm", "probe": probe}
                        row |= {"norm": norm, "cycle": cycle}
                        accuracy = value + spread * noise.standard_normal()
                        row |= {
                            "place": str(place),
                            "top1": accuracy,
                            "train_top1": accuracy + 0.05,
                        }
                        row |= {"test_loss": 1 - accuracy, "train_loss": 2.0}
                        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("claim", ["LOOK-19.fall", "LOOK-19.restore"])
def test_falls_and_rises_within_a_cycle(claim):
    where = "cifar10-cycles"
    true, false = (judged("within_cycle", cycles(x, x), where).loc[claim] for x in (0.02, -0.02))
    assert (true.verdict, false.verdict) == ("reproduced", "contradicted")
    assert true.control_verdict in ("undecided", "fails")
    shuffled = judged("within_cycle", cycles(0.02, 0.02, shuffled=True), where).loc[claim]
    assert shuffled.verdict == "inconclusive"


def test_the_mean_goes_over_cycles_and_the_last_step_has_its_name():
    derived = within_cycle.derive(cycles(0.02, 0.01, spread=0.0))
    assert len(derived) == SEEDS * 2 * 2 * 7
    means = derived[derived.norm == "running"].groupby("place").top1.mean()
    assert means[["slow", "last", "pull"]].tolist() == pytest.approx([0.9, 0.88, 0.89])
    assert set(means.index) == {"slow", "1", "2", "3", "4", "last", "pull"}
