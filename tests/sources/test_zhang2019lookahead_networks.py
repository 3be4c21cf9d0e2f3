"""The network experiments against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lookahead_loops import SMALL, Plain, forget, mean_of

from replicate.sources.zhang2019lookahead import _networks, surface, within_cycle


def expected_arms(plain, method):
    """(arm -> weights at the end, arm -> weights at the first drop)."""
    settings, early = plain.settings, round(0.3 * plain.settings.steps)  # step 4
    beta = (1 - settings.alpha) ** (1 / settings.k)
    if method in ("sgd", "adamw"):
        ends = {method: plain.seen[-1], f"{method}-ema": forget(plain.seen, beta)}
        starts = {method: plain.seen[early], f"{method}-ema": forget(plain.seen[: early + 1], beta)}
        return ends | ({"tail": mean_of(plain.seen[7:])} if method == "sgd" else {}), starts
    slow = plain.seen[:: settings.k]
    pulls = early // settings.k
    if method == "lookahead":
        ends = {"lookahead": slow[-1], "lookahead-ema": forget(slow, 1 - settings.alpha)}
        begun = forget(slow[: pulls + 1], 1 - settings.alpha)
        tail = mean_of(slow[len(slow) // 2 + 1 :])
        return ends | {"lookahead-tail": tail}, {"lookahead": slow[pulls], "lookahead-ema": begun}
    if method == "outer-nesterov":
        return {method: slow[-1]}, {method: slow[pulls]}
    return {method: plain.averaged[-1]}, {method: plain.averaged[early]}


RUNS = [
    {"method": "sgd", "schedule": "constant"},
    {"method": "sgd", "schedule": "decayed", "momentum": 0.5, "weight_decay": 0.02},
    {"method": "lookahead", "schedule": "constant"},
    {"method": "lookahead", "schedule": "decayed", "k": 2, "alpha": 0.8},
    {"method": "lookahead", "schedule": "decayed", "inner_state": "interpolate"},
    {"method": "lookahead", "schedule": "decayed", "inner": "adamw"},
    {"method": "lookahead", "schedule": "decayed", "inner_state": "reset"},
    {"method": "schedule-free", "schedule": "decayed"},
    {"method": "outer-nesterov", "schedule": "decayed"},
    {"method": "adamw", "schedule": "decayed"},
]


@pytest.mark.parametrize("point", RUNS, ids=lambda point: " ".join(map(str, point.values())))
def test_a_run_is_a_plain_loop(point):
    point = {"seed": 3, "lr": 0.05} | point
    plain = Plain(SMALL, point)
    ends, starts = expected_arms(plain, point["method"])
    made = _networks.train_run(SMALL, point, None, [], "cpu").set_index("arm")
    assert list(made.index) == list(ends)
    sets = plain.data.sets
    for arm, weights in ends.items():
        row = made.loc[arm]
        for name, columns in (
            ("train", ("train_loss", "train_top1")),
            ("valid", ("valid_loss", "valid_top1")),
            ("test", ("test_loss", "top1")),
        ):
            expected = plain.look(weights, *sets[name])
            assert list(row[list(columns)]) == pytest.approx(expected, rel=5e-4), (arm, name)
        expected = plain.look(weights, *sets["test"], plain.buffers[-1])
        assert list(row[["raw_loss", "raw_top1"]]) == pytest.approx(expected, rel=5e-4)
        if arm in starts:
            expected = plain.look(starts[arm], *sets["train"])[0]
            assert row.early_loss == pytest.approx(expected, rel=5e-4)
        else:
            assert np.isnan(row.early_loss)
    curve = [np.mean(piece) for piece in np.array_split(plain.losses, 10)]
    assert made.loc[point["method"], list(_networks.CURVE)].tolist() == pytest.approx(
        curve, rel=5e-4
    )


@pytest.mark.parametrize("net", ["batch norm", "group norm"])
def test_the_places_of_a_cycle_are_a_plain_loop(net):
    settings = replace(SMALL, drops=(0.4,))  # the second probe begins behind it
    about = {"seed": 2, "method": "lookahead", "schedule": "decayed", "lr": settings.lr}
    plain = Plain(settings, about, net)
    made = within_cycle.cycles_run(settings, {"seed": 2, "net": net}, None, [], "cpu")
    assert made.probe.unique().tolist() == ["0 drops", "1 drops"]
    sets = plain.data.sets
    for probe, begin in (("0 drops", 3), ("1 drops", 6)):
        places = {
            "0": (plain.seen[begin], begin),
            "1": (plain.seen[begin + 1], begin + 1),
            "2": (plain.seen[begin + 2], begin + 2),
            "3": (plain.fast[begin + 3], begin + 3),
            "pull": (plain.seen[begin + 3], begin + 3),
        }
        for place, (weights, step) in places.items():
            rows = made[(made.probe == probe) & (made.place == place)].set_index("norm")
            norms = {"running": plain.buffers[step], "re-estimated": None}
            norms = norms if net == "batch norm" else {"none": None}
            assert list(rows.index) == list(norms)
            for norm, buffers in norms.items():
                for name, columns in (
                    ("train", ["train_loss", "train_top1"]),
                    ("test", ["test_loss", "top1"]),
                ):
                    expected = plain.look(weights, *sets[name], buffers)
                    found = list(rows.loc[norm, columns])
                    assert found == pytest.approx(expected, rel=5e-4), (probe, place, norm, name)


def test_a_run_that_diverges_has_no_numbers():
    point = {"seed": 0, "method": "lookahead", "schedule": "constant", "lr": 100.0}
    made = _networks.train_run(replace(SMALL, weight_decay=10.0), point, None, [], "cpu")
    assert made.arm.tolist() == ["lookahead", "lookahead-ema", "lookahead-tail"]
    assert made[list(_networks.ALL_METRICS)].isna().all(axis=None)


def test_places_of_the_plane_are_a_plain_loop():
    settings = replace(SMALL, cut_at=0.5, planes=1, side=3)
    about = {"seed": 2, "method": "lookahead", "schedule": "decayed", "lr": settings.lr}
    pulled, free = Plain(settings, about), Plain(settings, about, last_pull=6)
    places = {
        "slow": pulled.seen[6],
        "first": pulled.fast[7],
        "middle": pulled.fast[8],
        "last": pulled.fast[9],
        "pull": pulled.seen[9],
        "mean of fast": mean_of(pulled.fast[7:10]),
        "sgd continued": free.seen[12],
        "lookahead continued": pulled.seen[12],
    }
    made = surface.planes_run(settings, {"seed": 2}, None, [], "cpu")
    flat = {name: torch.cat([p.reshape(-1) for p in ws]).double() for name, ws in places.items()}
    x = flat["last"] - flat["first"]
    for place, weights in places.items():
        rows = made[made.place == place].set_index("norm")
        expected = pulled.look(weights, *pulled.data.sets["test"])
        assert list(rows.loc["re-estimated", ["test_loss", "top1"]]) == pytest.approx(
            expected, rel=1e-3
        ), place
        away = flat[place] - flat["first"]
        assert rows.x.iloc[0] == pytest.approx(float(away @ x / (x @ x)), abs=1e-3)
    named = made[made.norm == "running"].set_index("place")
    assert set(named.index) == set(places) == set(surface.CYCLE_PLACES)
    assert named.loc[["first", "last"], ["x", "y"]].to_numpy().ravel() == pytest.approx(
        [0, 0, 1, 0], abs=1e-5
    )
    assert named.y["middle"] > 0


def test_the_grid_holds_every_place_and_is_the_plane_through_the_fast_weights():
    settings = replace(SMALL, cut_at=0.5, planes=1, side=3)
    about = {"seed": 2, "method": "lookahead", "schedule": "decayed", "lr": settings.lr}
    plain = Plain(settings, about)
    made = surface.planes_run(settings, {"seed": 2}, None, [], "cpu")
    grid, named = made[made.place == ""], made[made.place != ""]
    assert len(grid) == 9
    for axis in ("x", "y"):
        assert grid[axis].min() < named[axis].min() and named[axis].max() < grid[axis].max()
    first, middle, last = (
        torch.cat([p.reshape(-1) for p in plain.fast[step]]).double() for step in (7, 8, 9)
    )
    x = last - first
    y = (middle - first) - ((middle - first) @ x) / (x @ x) * x
    y = y * x.norm() / y.norm()
    point = grid.iloc[5]
    vector = (first + point.x * x + point.y * y).float()
    shapes = [p.shape for p in plain.seen[0]]
    parts = vector.split([s.numel() for s in shapes])
    weights = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    expected = plain.look(weights, *plain.data.sets["test"])
    assert [point.test_loss, point.top1] == pytest.approx(expected, rel=2e-3)


def test_fast_weights_on_a_line_still_have_a_plane():
    line = {
        name: torch.tensor([float(i), 0.0]) for i, name in enumerate(("first", "middle", "last"))
    }
    assert surface.project(line) == {
        "first": (0.0, 0.0),
        "middle": (0.5, 0.0),
        "last": (1.0, 0.0),
    }
