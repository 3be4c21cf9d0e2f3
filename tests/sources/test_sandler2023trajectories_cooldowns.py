"""Averages that run along with a run, and its cool-downs, against a dull loop."""

from copy import deepcopy
from dataclasses import replace

import dull_trajectories as dull
import pytest
from dull_trajectories import NET, SEED

from replicate import datasets
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
    """36 steps; cool-downs of 3, 3 + 8 and 3 + 8; the run's weights and four points a window."""
    monkeypatch.setattr(_branches, "count_training", lambda settings, steps: steps)
    monkeypatch.setattr(_branches, "count_evaluation", lambda settings, rows: 1000 * rows)
    assert cooldowns.operations(SETTINGS) == 36 + 25 + 1000 * (3 + 4 * 5)
