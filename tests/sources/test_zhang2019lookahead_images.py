"""Table 1, robustness, k and alpha, the inner state and the surface: what is run, what is made of it,
and the claims against tables whose truth is known.
"""

from dataclasses import replace
from math import log
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from replicate import claims, runs
from replicate.app import registry
from replicate.sources.zhang2019lookahead import (
    _methods,
    _networks,
    _tuning,
    inner_state,
    outer_grid,
    robustness,
    surface,
    table_1,
)
from replicate.sources.zhang2019lookahead.presets import PRESETS

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
SMALL = replace(
    PRESETS["smoke"]["digits"], rates=(0.1, 0.2, 0.4), decays=(1e-3, 2e-3), seeds=(0, 1)
)


def judged(experiment: str, table: pd.DataFrame, preset: str, dataset: str) -> pd.DataFrame:
    """The primary rows at a preset of a table of one experiment, by claim."""
    table = table.assign(commit="", device="", setting="stand-in", dataset=dataset)
    tables = lambda each: table if each.name == experiment else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS[preset])
    rows = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), preset)
    named = {c.id for c in CLAIMS if experiment in c.experiments}
    return rows[(rows.role == "primary") & rows.claim.isin(named)].set_index("claim")


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """The points that an experiment asks for; each arm of a run has a training loss of its own."""
    points = []

    def each(run, settings, grid):
        assert run is _networks.train_run
        rows = []
        for point in map(dict, grid):
            points.append(point)
            for i, arm in enumerate(_methods.IMAGE_METHODS[point["method"]].arms):
                metrics = dict.fromkeys(_networks.ALL_METRICS, point["lr"] + 100 * i)
                rows.append({"arm": arm} | metrics | point)
        return SimpleNamespace(table=pd.DataFrame(rows))

    monkeypatch.setattr(runs, "each", each)
    return points


# Trials.


def trials(values: dict) -> pd.DataFrame:
    """values: (lr, seed) -> (valid_top1, valid_loss)."""
    return pd.DataFrame(
        [
            {"seed": seed, "weight_decay": 1e-3, "lr": lr, "valid_top1": top1, "valid_loss": loss}
            for (lr, seed), (top1, loss) in values.items()
        ]
    )


def test_the_others_accuracy_decides_then_their_loss():
    table = trials(
        {
            (0.1, 0): (0.9, 0.1), (0.1, 1): (0.5, 9.0), (0.1, 2): (0.5, 9.0),
            (0.2, 0): (0.1, 9.0), (0.2, 1): (0.8, 0.5), (0.2, 2): (0.8, 0.5),
            (0.4, 0): (0.1, 8.0), (0.4, 1): (0.8, 0.4), (0.4, 2): (0.8, 0.4),
        }
    )  # fmt: skip
    chosen = _tuning.choose_trials(table, ("valid_top1", "valid_loss"))
    assert chosen[0] == (1e-3, 0.4)  # a tie of accuracies: the lower loss
    assert chosen[1] == (1e-3, 0.1)  # (0.9 + 0.5) / 2 against (0.1 + 0.8) / 2
    assert _tuning.choose_trials(table, ("valid_loss",))[0] == (1e-3, 0.4)


def test_a_trial_that_another_seed_lost_is_out_and_none_is_left_where_all_are():
    lost = trials({(lr, seed): (np.nan, np.nan) if (lr, seed) == (0.2, 0) else (lr, 1 - lr)
                   for lr in (0.1, 0.2) for seed in range(3)})  # fmt: skip
    chosen = _tuning.choose_trials(lost, ("valid_top1", "valid_loss"))
    assert chosen == {0: (1e-3, 0.2), 1: (1e-3, 0.1), 2: (1e-3, 0.1)}
    assert _tuning.choose_trials(lost.assign(valid_loss=np.nan), ("valid_loss",)) == {}
    assert _tuning.choose_trials(lost[lost.seed == 1], ("valid_loss",)) == {}


def test_every_optimizer_of_table_1_has_as_many_trials(asked):
    table_1.table_1(SMALL)
    counts = pd.DataFrame(asked).groupby(["method", "seed"]).size()
    assert set(counts) == {6} and len(counts) == 6
    assert {p["schedule"] for p in asked} == {"decayed"}


def test_trials_of_other_methods_move_as_far_and_shrink_as_much():
    """Displacement a step in the long run under a constant gradient without decay, and without a gradient by decay."""
    import torch

    def per_step(method, gradient, start, decay):
        settings = replace(SMALL, momentum=0.9, weight_decay=decay, k=1)
        w = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
        optimizer = _methods.IMAGE_METHODS[method].make([w], settings, 1e-3)
        path = []
        for _ in range(400):
            w.grad = torch.full_like(w, gradient)
            optimizer.step()
            z = optimizer.state[w].get("z", w)
            path.append(float(z.detach()))
        return path[-1] - path[-2]

    for method in ("sgd", "schedule-free", "outer-nesterov"):
        assert per_step(method, 1.0, 0.0, 0.0) == pytest.approx(-1e-2, rel=0.02), method
    for method in ("sgd", "adamw"):
        assert per_step(method, 0.0, 1.0, 0.01) == pytest.approx(-1e-4, rel=0.1), method


def test_a_method_is_judged_by_its_slow_or_averaged_weights():
    """Between two pulls, and after two steps, under a gradient of 1 without momentum or decay."""
    import torch

    settings = replace(SMALL, momentum=0.0, weight_decay=0.0, k=5)
    shown = {}
    for name, method in _methods.IMAGE_METHODS.items():
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = method.make([w], settings, 0.1)
        for _ in range(2):
            w.grad = torch.ones_like(w)
            optimizer.step()
        with method.show(optimizer):
            shown[name] = float(w.detach())
    assert shown["sgd"] == pytest.approx(-0.2)
    assert shown["lookahead"] == 0 and shown["outer-nesterov"] == 0  # where the cycle began
    assert shown["schedule-free"] == pytest.approx(-0.15)  # the mean of -0.1 and -0.2
    assert shown["adamw"] == pytest.approx(-0.002, rel=1e-3)


# Table 1.

SEEDS = 8
RATES = [0.1, 0.2, 0.4, 0.8]


def ends(offsets: dict, spreads=None, shuffled=False) -> pd.DataFrame:
    """Trials with every metric its own offset (arm, metric) plus noise; best at 0.2 for each arm."""
    noise = np.random.Generator(np.random.Philox(3))
    rows = []
    for seed in range(SEEDS):
        for lr in RATES:
            names = list(noise.permutation(table_1.ROWS)) if shuffled else table_1.ROWS
            for arm, named in zip(table_1.ROWS, names, strict=True):
                row = {"seed": seed, "lr": lr, "weight_decay": 1e-3, "arm": arm}
                for i, metric in enumerate(_networks.ALL_METRICS):
                    spread = (spreads or {}).get(named, 0.004)
                    offset = offsets.get((named, metric), 0.0)
                    row[metric] = 1 + i + offset + spread * noise.standard_normal()
                row["valid_top1"] = 0.9 - abs(np.log2(lr / 0.2))
                rows.append(row)
    return pd.DataFrame(rows)


OF_TABLE_1 = {
    "LOOK-29": ("lookahead", "top1", 0.05),
    "LOOK-16.adam": ("lookahead", "early_loss", -0.05),
}


@pytest.mark.parametrize("claim", OF_TABLE_1)
def test_claims_of_table_1(claim):
    arm, metric, size = OF_TABLE_1[claim]
    found = [
        judged("table_1", ends(*made), "night", "cifar10").verdict[claim]
        for made in (
            ({(arm, metric): size},),
            ({(arm, metric): -size},),
            ({(arm, metric): size}, dict.fromkeys(table_1.ROWS, 0.05), True),
        )
    ]
    assert found == ["reproduced", "contradicted", "inconclusive"]


def test_a_stand_in_gives_table_1_itself_no_firm_word_and_the_band_has_room():
    rows = judged("table_1", ends({("lookahead", "top1"): 0.05}), "night", "cifar10")
    for claim in ("LOOK-14", "LOOK-14.polyak", "LOOK-14.adam"):
        assert rows.verdict[claim] == "inconclusive"
        assert "source's own setting" in rows.reason[claim]
        assert (
            rows.value[claim] == pytest.approx(0.05, abs=0.006) and rows.at_least[claim] == -0.0025
        )


def test_spreads_of_seeds_are_distances_from_their_mean():
    wide = dict.fromkeys(table_1.ROWS, 0.001) | {"sgd": 0.1}
    row = judged("table_1", ends({}, wide), "night", "cifar10").loc["LOOK-27"]
    assert row.value < -0.03 and row.verdict == "reproduced"
    derived = table_1.derive(ends({}, wide))
    tuned = derived[(derived.arm == "sgd") & (derived.regime == "tuned")]
    expected = (tuned.top1 - tuned.top1.mean()).abs().mean()
    assert tuned.deviation.mean() == pytest.approx(expected) and (tuned.lr == 0.2).all()
    assert (derived[derived.regime == "tuned higher"].lr == 0.4).all()


# Robustness.


def test_the_papers_rates_and_momenta_and_alpha_times_the_rate(asked):
    settings = replace(SMALL, robust_rates=(0.1, 0.2, 0.3), momenta=(0.9, 0.95, 0.98), alpha=0.5)
    table = robustness.robustness(settings)
    runs_of = pd.DataFrame(asked)
    of_lookahead = runs_of[(runs_of.method == "lookahead") & (runs_of.seed == 0)]
    assert list(zip(of_lookahead.lr, of_lookahead.momentum, strict=True)) == [
        (0.1, 0.9), (0.2, 0.9), (0.3, 0.9), (0.1, 0.95), (0.1, 0.98),
    ]  # fmt: skip
    lower = table[table.arm == "sgd-alpha"]
    assert len(lower) == 10 and (lower.train_loss == 0.5 * lower.place).all()
    assert (table[table.arm == "sgd"].train_loss == table[table.arm == "sgd"].place).all()
    assert (table.chance == log(10)).all()


def test_spread_is_over_the_pairs_and_a_lost_run_learned_nothing():
    losses = [0.1, 0.3, np.nan, 0.2, 5.0]
    table = pd.DataFrame({"seed": 0, "arm": "sgd", "train_loss": losses, "chance": log(10)})
    counted = [0.1, 0.3, log(10), 0.2, log(10)]
    (row,) = robustness.derive(table).to_dict("records")
    assert row["spread"] == pytest.approx(np.std(counted, ddof=1))
    assert row["log_spread"] == pytest.approx(np.std(np.log10(counted), ddof=1))
    assert row["worst"] == pytest.approx(log(10))


def pairs_with(spreads: dict, shuffled=False) -> pd.DataFrame:
    noise = np.random.Generator(np.random.Philox(5))
    rows = []
    for seed in range(SEEDS):
        names = list(noise.permutation(list(spreads))) if shuffled else list(spreads)
        for arm, named in zip(spreads, names, strict=True):
            for place in (-1, 0, 1):
                value = 1 + spreads[named] * place + 0.01 * noise.standard_normal()
                rows.append({"seed": seed, "arm": arm, "train_loss": value, "chance": log(10)})
    return pd.DataFrame(rows)


def test_claims_of_robustness():
    arms = ("sgd", "sgd-ema", "sgd-alpha", "tail", "lookahead")
    wide = dict.fromkeys(arms, 0.3)
    true = judged("robustness", pairs_with(wide | {"lookahead": 0.1}), "cpu", "digits")
    false = judged("robustness", pairs_with(wide | {"sgd": 0.1}), "cpu", "digits")
    mixed = judged("robustness", pairs_with(wide | {"sgd": 0.1}, shuffled=True), "cpu", "digits")
    assert true.verdict["LOOK-17"] == "reproduced" and true.value["LOOK-17"] == pytest.approx(
        -0.2, abs=0.02
    )
    assert (false.verdict["LOOK-17"], mixed.verdict["LOOK-17"]) == ("contradicted", "inconclusive")
    assert true.control_verdict["LOOK-17"] in ("undecided", "fails")


# k and alpha.


def test_sgd_belongs_to_every_pair_and_alpha_times_the_rate_to_every_k(asked):
    table = outer_grid.outer_grid(replace(SMALL, lr=0.1, ks=(5, 10), alphas=(0.5, 0.8)))
    pulled = table[table.arm == "lookahead"]
    assert sorted(zip(pulled.k, pulled.alpha, pulled.seed, strict=True)) == [
        (k, alpha, seed) for k in (5, 10) for alpha in (0.5, 0.8) for seed in (0, 1)
    ]
    lower = table[table.arm == "sgd-alpha"]
    assert sorted(set(zip(lower.alpha, lower.train_loss.round(9), strict=True))) == [
        (0.5, 0.05), (0.8, 0.08),
    ]  # fmt: skip
    assert lower.k.isna().all() and len(lower) == 4
    alone = table[table.arm.isin(["sgd", "sgd-ema", "tail"])]
    assert alone.k.isna().all() and alone.alpha.isna().all() and len(alone) == 6


def grid_with(early=lambda arm, k, alpha: 0.0, top1=lambda arm, k, alpha: 0.0) -> pd.DataFrame:
    noise = np.random.Generator(np.random.Philox(11))
    cells = [("lookahead", k, alpha) for k in (5, 10) for alpha in (0.5, 0.8)]
    cells += [("sgd-alpha", np.nan, alpha) for alpha in (0.5, 0.8)]
    cells += [("sgd", np.nan, np.nan), ("sgd-ema", np.nan, np.nan)]
    return pd.DataFrame(
        [
            {"seed": seed, "arm": arm, "k": k, "alpha": alpha}
            | {"early_loss": 1 + early(arm, k, alpha) + 0.005 * noise.standard_normal()}
            | {"top1": 0.7 + top1(arm, k, alpha) + 0.001 * noise.standard_normal()}
            for seed in range(SEEDS)
            for arm, k, alpha in cells
        ]
    )


def test_claims_of_k_and_alpha():
    def of_alpha(arm, k, alpha):
        return 0.3 * alpha * (arm == "lookahead")

    def of_k(arm, k, alpha):
        return 0.02 * k * (arm == "lookahead")

    by_alpha = judged("outer_grid", grid_with(of_alpha), "cpu", "digits")
    by_k = judged("outer_grid", grid_with(of_k), "cpu", "digits")
    other = judged("outer_grid", grid_with(lambda *cell: -of_alpha(*cell)), "cpu", "digits")
    assert (
        by_alpha.verdict["LOOK-18"] == "reproduced" and other.verdict["LOOK-18"] == "contradicted"
    )
    assert by_alpha.value["LOOK-18"] == pytest.approx(-0.09, abs=0.01)
    assert by_k.verdict["LOOK-18"] == "inconclusive"
    assert (
        by_alpha.verdict["LOOK-18.k"] == "reproduced"
        and by_k.verdict["LOOK-18.k"] == "contradicted"
    )
    assert by_alpha.control_verdict["LOOK-18"] == "undecided"


def test_the_least_of_both_k_is_held_against_sgd():
    table = grid_with(top1=lambda arm, k, alpha: {5: 0.05, 10: -0.02}.get(k, 0.0))
    row = judged("outer_grid", table, "night", "cifar100").loc["LOOK-18.accuracy"]
    assert row.value == pytest.approx(-0.02, abs=0.003)
    assert "source's own setting" in row.reason


# The inner state.


def test_every_treatment_around_both_and_what_has_none_beside_each(asked):
    table = inner_state.inner_state(SMALL)
    pulled = [p for p in asked if p["method"] == "lookahead"]
    assert sorted({(p["inner"], p["inner_state"]) for p in pulled}) == [
        (inner, state)
        for inner in ("adamw", "sgd")
        for state in ("interpolate", "maintain", "reset")
    ]
    assert len(pulled) == 12 and len(asked) == 16
    counts = table.groupby(["arm", "inner", "inner_state"]).size()
    assert set(counts) == {2} and len(counts) == 3 * 2 * 3
    assert set(table.arm) == {"inner", "inner-ema", "lookahead"}


def treatments_with(reset=0.0, early=-0.2) -> pd.DataFrame:
    noise = np.random.Generator(np.random.Philox(13))
    return pd.DataFrame(
        [
            {"seed": seed, "arm": arm, "inner": "sgd", "inner_state": state}
            | {"top1": 0.9 + reset * (state == "reset") + 0.001 * noise.standard_normal()}
            | {
                "early_loss": 1
                + early * (arm == "lookahead" and state == "interpolate")
                - 0.2 * (arm == "lookahead" and state != "interpolate")
                + 0.01 * noise.standard_normal()
            }
            for seed in range(SEEDS)
            for state in inner_state.TREATMENTS
            for arm in ("inner", "inner-ema", "lookahead")
        ]
    )


def test_claims_of_the_inner_state():
    same = judged("inner_state", treatments_with(), "cpu", "digits")
    other = judged("inner_state", treatments_with(0.02, 0.2), "cpu", "digits")
    names = ["LOOK-26", "LOOK-26.convergence"]
    assert same.verdict[names].tolist() == ["reproduced"] * 2
    assert other.verdict[names].tolist() == ["contradicted"] * 2
    assert other.value["LOOK-26.convergence"] == pytest.approx(-0.2, abs=0.02)


# The surface.


def test_places_are_means_over_cycles_and_the_fast_ones_have_a_mean():
    rows = [
        {"seed": 0, "cycle": cycle, "norm": "running", "place": place, "top1": value + cycle}
        for cycle in (0, 1)
        for place, value in (
            ("first", 1.0),
            ("middle", 2.0),
            ("last", 6.0),
            ("pull", 4.0),
            ("", 99.0),
        )
    ]
    derived = surface.derive(pd.DataFrame(rows).assign(test_loss=0.0)).set_index("place").top1
    assert derived.to_dict() == {"first": 1.5, "middle": 2.5, "last": 6.5, "pull": 4.5, "fast": 3.5}


@pytest.mark.parametrize("rise, verdict", [(0.02, "reproduced"), (-0.02, "contradicted")])
def test_claims_of_the_surface(rise, verdict):
    noise = np.random.Generator(np.random.Philox(17))
    table = pd.DataFrame(
        [
            {"seed": seed, "cycle": cycle, "norm": norm, "place": place, "test_loss": 1.0}
            | {"top1": 0.9 + rise * (place == "pull") + 0.002 * noise.standard_normal()}
            for seed in range(SEEDS)
            for cycle in range(2)
            for norm in surface.NORMS_OF_PLACES
            for place in surface.CYCLE_PLACES
        ]
    )
    assert judged("surface", surface.derive(table), "cpu", "digits").verdict["LOOK-04"] == verdict
