"""Averages that run along with a run, and its cool-downs, against a dull loop."""

from copy import deepcopy
from dataclasses import replace

import dull_trajectories as dull
import numpy as np
import pandas as pd
import pytest
from dull_trajectories import NET, SEED

from replicate import claims, datasets, paths
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import _branches, cooldowns
from replicate.sources.sandler2023trajectories.presets import PRESETS

SETTINGS = replace(NET, first_branch=36, swa=(3, 8), controls=())
FIELDS = ("train_loss", "test_loss", "top1")


@pytest.fixture
def images(monkeypatch):
    coloured = dull.coloured()
    monkeypatch.setattr(datasets, "load", lambda name: coloured)
    return coloured


def cool(data, model, momenta, step: int, k: int):
    """The weights after a straight fall to 0."""
    falling = lambda at: dull.main_rate(at) * (step + k - at) / k  # noqa: E731
    return dull.walk(data, deepcopy(model), falling, k, momenta=deepcopy(momenta), start=step)[-1]


def average_all_along(path: list, step: int, delta: float, longest: int):
    """An exponential moving average over twice the longest window."""
    value = path[step - 2 * longest]
    for weights in path[step - 2 * longest + 1 : step + 1]:
        value = (1 - delta) * value + delta * weights
    return value


def test_every_arm_is_that_of_a_dull_loop(images, tmp_path):
    rows = cooldowns.foretell_cooldowns(SETTINGS, {"seed": SEED}, tmp_path, [], "cpu")
    table = dull.rows_by(rows, "step", "k", "arm")
    data, model = dull.batches(images), dull.net(images)
    momenta = [0 * p.detach() for p in model.parameters()]
    looks, path = {6: [3], 18: [3, 8], 36: [3, 8]}, []
    for step, windows in looks.items():
        path = path[:-1] + dull.walk(data, model, dull.main_rate, step - max(0, len(path) - 1),
                                     momenta=momenta, start=max(0, len(path) - 1))  # fmt: skip
        for k in windows:
            points = {
                "raw": path[step],
                "short average": sum(path[step - 2 : step + 1]) / 3,
                "average": sum(path[step - k + 1 : step + 1]) / k,
                "moving average": average_all_along(path, step, min(1, 5 / k), max(windows)),
                "cooled": cool(data, model, momenta, step, k),
            }
            expected = {arm: dull.measure(images, weights) for arm, weights in points.items()}
            before = dull.measure(images, sum(path[step - 2 * k + 1 : step - k + 1]) / k)
            expected["extrapolated"] = {
                name: 2 * expected["average"][name] - before[name] for name in FIELDS
            }
            for arm, values in expected.items():
                row = table.pop((step, k, arm))
                dull.agrees(row, values, FIELDS)
                error = abs(row["train_loss"] - table_loss(rows, step, k))
                assert row["error"] == pytest.approx(error, abs=1e-12)
    assert not table


def table_loss(rows, step: int, k: int) -> float:
    """The training loss of a cool-down."""
    return rows[(rows.step == step) & (rows.k == k) & (rows.arm == "cooled")].train_loss.item()


def test_windows_fit_in_twice_before_their_time():
    looks = cooldowns.plan(PRESETS["cpu"]["digits"])
    assert looks == {"1/24": (250, [10, 100]), "1/6": (1000, [10, 100]), "1/2": (3000, [10, 100, 1000]),
                     "1": (6000, [10, 100, 1000])}  # fmt: skip
    night = cooldowns.plan(PRESETS["night"]["cifar10-1000"])
    assert night["1"] == (3910, [10, 100, 300, 1000]) and night["1/6"] == (652, [10, 100, 300])
    assert "1/24" not in cooldowns.plan(SETTINGS)


def test_each_look_and_cool_down_is_counted(monkeypatch):
    """36 steps; cool-downs of 3, 3 + 8 and 3 + 8; two points a look and four points a window."""
    monkeypatch.setattr(_branches, "count_training", lambda settings, steps: steps)
    monkeypatch.setattr(_branches, "count_evaluation", lambda settings, rows: 1000 * rows)
    assert cooldowns.operations(SETTINGS) == 36 + 25 + 1000 * (2 * 3 + 4 * 5)


# Claims, on tables that are known.

FALLS = {  # k, time -> how far arms lie above the cool-down where all claims hold, as ARMS
    (100, "1/24"): (0.09, 0.08, 0.04, 0.05, -0.05), (1000, "1/2"): (0.02, 0.018, 0.002, 0.003, -0.01),
    (100, "1"): (0.009, 0.008, 0.0004, 0.0005, -0.001), (1000, "1"): (0.009, 0.008, 0.0003, 0.0006, -0.002),
}  # fmt: skip


def make_table(changes: dict) -> pd.DataFrame:
    """Eight seeds with noise. changes: (k, time, arm) -> another distance from the cool-down."""
    drawn, rows = np.random.default_rng(0), []
    for seed in range(8):
        for (k, time), away in FALLS.items():
            level = 0.5 + 0.05 * drawn.standard_normal()
            for arm, above in zip(cooldowns.ARMS, (*away, 0.0), strict=True):
                above = changes.get((k, time, arm), above) + 2e-4 * drawn.standard_normal() * (arm != "cooled")  # fmt: skip
                rows.append({"dataset": "digits", "seed": seed, "time": time, "k": k, "arm": arm,
                             "train_loss": level + above, "test_loss": 9 * seed, "top1": 0.9 - above,
                             "error": abs(above)})  # fmt: skip
    return pd.DataFrame(rows).assign(commit="", device="", setting="stand-in")


def judge(table: pd.DataFrame) -> pd.DataFrame:
    rows = [each for each in claims.load(paths.CLAIMS, "sandler2023trajectories")
            if each.experiments == ("cooldowns",)]  # fmt: skip
    experiment = Source("sandler2023trajectories")["cooldowns"]
    decided = claims.Decided(table, tuple(experiment.fields), experiment.measures)
    measured = claims.measure(rows, lambda names: decided)
    verdicts = claims.judge("sandler2023trajectories", rows, measured, "cpu")
    return verdicts[verdicts.role == "primary"].set_index("claim")


def test_rows_hold_on_a_table_on_which_they_are_true():
    verdicts = judge(make_table({}))
    assert set(verdicts.verdict) == {"reproduced"} and len(verdicts) == 5
    assert set(verdicts.control_verdict) == {"fails"}


@pytest.mark.parametrize("claim, changes", [
    ("gain", {(1000, "1", "average"): 0.004}), ("top1", {(1000, "1", "average"): 0.02}),
    ("lag", {(100, "1/24", "average"): 0.001}), ("bracket", {(100, "1/24", "extrapolated"): 0.01}),
    ("error", {(1000, "1", "average"): 0.02}),
], ids=str)  # fmt: skip
def test_a_row_falls_where_its_own_number_is_another(claim, changes):
    wrong = judge(make_table(changes)).verdict
    assert wrong[f"BEYOND-cooldown.{claim}"] == "contradicted"
    spared = {"gain", "top1"} if claim in ("lag", "bracket") else {"lag", "bracket"}
    assert {wrong[f"BEYOND-cooldown.{each}"] for each in spared} == {"reproduced"}
