"""Derivations that can fail, runs against dull loops, and checks against inputs whose truth is
known.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from replicate import datasets, models, optim, paths
from replicate.app import registry
from replicate.optim.stencils import step_coefficients
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation import (
    _printed,
    basins,
    behaviour,
    derivations,
    presets,
    rate_search,
    resolution,
)
from replicate.sources.fabi2021extrapolation import paths as toy_paths

NAME = "fabi2021extrapolation"
SOURCE = registry.source(NAME)
CLAIMS = registry.claims_of(SOURCE)
ALGEBRA = presets.ALGEBRA["quadratic"]
SMALL = replace(
    presets.PRESETS["smoke"]["digits"],
    width=16,
    steps=20,
    arms=("plain", "plain again", "dt=1e-10", "s=0.5", "every=3", "s=1 late", "rate-1.5",
          "heavy-ball", "double"),
    rates=(0.05, 0.2),
    batches=(32,),
    rows=2,
    seeds=(0, 1, 2),
)  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")


# Derivations.


def values(table: pd.DataFrame, column: str = "value") -> dict[str, float]:
    return dict(zip(table.claim, table[column], strict=True))


def test_every_printed_line_is_held_against_algebra_and_the_slips_are_found():
    found = values(SOURCE["derivations"](ALGEBRA))
    right = [name for name in found if name.startswith("EXTRA") and name != "EXTRA-04.first"]
    assert len(right) == 11 and {found[name] for name in right} == {0.0}
    assert (found["X-3.sign"], found["X-3.solution"], found["X-4.second"], found["X-4.third"]) == (
        -1,
        1.5,
        6,
        4,
    )
    assert {
        one for one in values(SOURCE["derivations"](ALGEBRA), "control").values() if one == 0
    } == set()


@pytest.mark.parametrize(
    "place, key, wrong, claim",
    [
        (_printed.UPDATE, "bdf", _printed.UPDATE["bdf"] + _printed.s * _printed.g[2], "EXTRA-12"),
        (_printed.UPDATE, "backward", _printed.UPDATE["backward"] * 2, "EXTRA-04"),
        (_printed.GRADIENTS, 1, _printed.GRADIENTS[1] + _printed.g[0], "EXTRA-08"),
        (_printed.GRADIENTS, 2, -_printed.GRADIENTS[2], "EXTRA-09"),
        (
            _printed.GRADIENTS,
            3,
            _printed.GRADIENTS[3].subs(_printed.g[1], _printed.g[0]),
            "EXTRA-10",
        ),
    ],
)
def test_another_line_on_the_page_would_be_noticed(monkeypatch, place, key, wrong, claim):
    monkeypatch.setitem(place, key, wrong)
    assert values(SOURCE["derivations"](ALGEBRA))[claim] > 0


@pytest.mark.parametrize(
    "name, value, claim",
    [("TAYLOR", ((-1, 1, -1), *_printed.TAYLOR[1:]), "EXTRA-06"), ("FIRST", (2, -3, 1, 0), "EXTRA-07"),
     ("MATRIX", _printed.MATRIX + sympy.eye(4), "EXTRA-07")],
)  # fmt: skip
def test_another_system_on_the_page_would_be_noticed(monkeypatch, name, value, claim):
    monkeypatch.setattr(_printed, name, value)
    assert values(SOURCE["derivations"](ALGEBRA))[claim] > 0


def test_lines_are_a_table_of_formulas():
    text = derivations.lines(SOURCE["derivations"](ALGEBRA)).splitlines()
    assert len(text) == 2 + len(SOURCE["derivations"](ALGEBRA)) and all(
        line.count("|") == 4 for line in text
    )


# What the class does.


def test_the_published_class_against_a_loop_that_reads_the_page_in_three_passes():
    """Three passes over the weights, as the source's class makes them."""
    w, history, path = behaviour.START[0].copy(), [], [behaviour.START[0].copy()]
    eta, dt = behaviour.ETA, behaviour.S * behaviour.ETA
    for call in range(1, behaviour.STEPS + 1):
        g = behaviour.CURVATURE * w
        w = w - eta * g
        if call > 3:
            g1, g2 = history[-1], history[-2]
            w = w - dt * eta / (6 * eta) * (11 * g - 7 * g1 + 2 * g2)
            w = w - dt**2 * eta / (2 * eta**2) * (2 * g - 3 * g1 + g2)
            w = w - dt**3 * eta / (6 * eta**3) * (g - 2 * g1 + g2)
        history.append(g)
        path.append(w)
    np.testing.assert_allclose(behaviour._by_formula("bdf"), path, rtol=1e-12)
    made = behaviour._path(behaviour._taylor(variant="published"))
    np.testing.assert_allclose(made, path, rtol=1e-10, atol=1e-14)


def test_calls_that_extrapolate_are_told_from_those_that_do_not():
    path = behaviour._path(behaviour._taylor(every=4))
    np.testing.assert_array_equal(
        behaviour._extrapolating(path), np.arange(4, behaviour.STEPS + 1, 4)
    )
    assert not len(behaviour._extrapolating(behaviour._path(lambda theta: [plain_sgd(theta)])))


def plain_sgd(theta):
    return torch.optim.SGD(theta, lr=behaviour.ETA)


def test_a_history_that_a_late_parameter_never_had_is_seen_and_the_corrected_class_has_none(
    monkeypatch,
):
    found = dict((claim, value) for claim, _, value, _ in behaviour._check_late_and_stale())
    assert found["X-10"] == 2 and found["X-11"] == pytest.approx(10, rel=1e-4)
    class_of = optim.TaylorExtrapolation
    monkeypatch.setattr(optim, "TaylorExtrapolation", lambda *args, variant: class_of(*args))
    found = dict((claim, value) for claim, _, value, _ in behaviour._check_late_and_stale())
    assert found["X-10"] == 3 and found["X-11"] != pytest.approx(10, rel=0.1)


# Toy functions.

TOY = replace(
    presets.TOYS["rosenbrock"],
    steps=60,
    strides=(1e-3,),
    arms=("adam", "GD+", "gradient", "weights", "rate"),
)


def dull_toy(arm: str, lr: float, dt: float, steps: int) -> np.ndarray:
    """Adam written out, and after each of its steps what the arm adds."""
    x, m, v, path = np.array(TOY.start), np.zeros(2), np.zeros(2), [np.array(TOY.start)]
    rate, gradients, moves = lr + dt * (arm == "rate"), [], []
    c = step_coefficients(dt / lr, 3)
    for t in range(1, steps + 1):
        g = behaviour.rosenbrock_slope(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        move = -rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        gradients, moves = [g, *gradients[:2]], [move, *moves[:2]]
        x = x + move
        if arm == "gradient" and t > 3:
            x = x - dt * g
        if arm == "GD+" and t > 3:
            x = x - lr * sum(a * b for a, b in zip(c, gradients, strict=True))
        if arm == "weights" and t > 2:
            x = x + sum(a * b for a, b in zip(c, moves, strict=True))
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("arm", TOY.arms)
def test_toy_paths_are_those_of_a_loop_written_out(arm):
    table = toy_paths.path_run(TOY, {"arm": arm}, None, [], "cpu")
    for dt in table.dt.unique():
        own = table[table.dt == dt]
        np.testing.assert_allclose(own[["x", "y"]], dull_toy(arm, TOY.lr, dt, 60), rtol=1e-7)
        np.testing.assert_allclose(own.distance, ((own[["x", "y"]] - 1) ** 2).sum(axis=1))
    assert arm == "adam" or set(table.dt) == {1e-5, 1e-4, 1e-3}


def test_the_search_has_the_sources_grid_and_goes_on_to_three():
    rates = rate_search._rates(0.1)
    np.testing.assert_allclose(rates[:10], np.geomspace(0.001, 0.1, 10))
    np.testing.assert_allclose(rates[1:] / rates[:-1], rates[1] / rates[0])
    assert rates[-2] < 3 <= rates[-1] * (1 + 1e-12)
    table = rate_search.search_run(
        replace(TOY, steps=30), {"arm": "adam", "dt": 0.0}, None, [], "cpu"
    )
    for lr, distance in zip(table.lr[[3, 12]], table.distance[[3, 12]], strict=True):
        end = dull_toy("adam", lr, 0.0, 30)[-1]
        assert distance == pytest.approx(((end - 1) ** 2).sum(), rel=1e-6)


def test_basins_count_the_starts_that_reach_each_minimum():
    settings = replace(presets.TOYS["goldstein-price"], steps=3000, lr=0.01, basin_starts=40)
    table = basins.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert len(table) == basins.SETS and table.seed.tolist() == list(range(10))
    assert (
        table.share + table.elsewhere + table.lost <= 1
    ).all() and 0.1 < table.share.mean() < 0.9
    assert table.elsewhere.mean() > 0.1
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # the local minimum taken for the global one exchanges the shares
        problem = PROBLEMS["goldstein-price"]
        patch.setitem(
            PROBLEMS,
            "goldstein-price",
            replace(problem, minima=problem.minima[1:2] + problem.minima[:1]),
        )
        swapped = basins.basin_run(settings, {"arm": "adam", "dt": 0.0}, None, [], "cpu")
    assert (swapped.elsewhere == table.share).all()


# What arrives in the weights.


def test_what_arrives_in_the_weights():
    table = resolution.resolution_run(SMALL, {"seed": 0}, None, [], "cpu")
    own = table[table.dt.notna()].set_index("dt")
    assert (
        own.what.value_counts().to_dict() == {"dt": 6, "printed": 1}
        and own.what[1e-10] == "printed"
    )
    assert (
        own.changed[1e-10] < 0.01 < 0.9 < own.changed[1e-2] and own.changed.is_monotonic_increasing
    )
    assert own.length[1e-8] / own.length[1e-10] == pytest.approx(100, rel=1e-3)
    # With independent displacements of equal length the prediction is exact on average.
    noise = np.random.Generator(np.random.Philox(3)).standard_normal((3, 400, 500))
    long = np.mean([np.sum(resolution._combine(list(noise[:, i]), 1.0) ** 2) for i in range(400)])
    assert long / (19 * 500) == pytest.approx(1, abs=0.02)


def test_the_states_of_a_weight_are_those_of_plain_sgd():
    table = resolution.resolution_run(SMALL, {"seed": 0}, None, [], "cpu")
    own = table[table.what == "weight"]
    assert own.step.tolist() == list(range(45, 52))
    found = datasets.load("digits")
    count = round(len(found.train_x) * 0.8)
    data = datasets.Batches(found.train_x[:count], found.train_y[:count], 64, found.classes)
    model = models.mlp(64, (16, 16), 10, seed=0)
    states, turns = [], []
    for step in range(52):
        states.append(
            torch.cat([p.detach().reshape(-1).double() for p in model.parameters()]).numpy()
        )
        x, y = data.batch(0, 0, step)
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.02 * p.grad
        if step > 1:
            now, before = states[-1] - states[-2], states[-2] - states[-3]
            turns.append(np.sqrt(1 - (now @ before) ** 2 / (now @ now) / (before @ before)))
    near = np.abs(np.array(states)[45:52] - own.weight.to_numpy()[:, None]).max(0)
    assert near.min() < 1e-6  # some weight went this way
    # The first and the last tenth of 20 steps, from the third on: two each.
    (volatility,) = table[table.what == "volatility"].itertuples()
    assert volatility.first == pytest.approx(np.mean(turns[1:3]), rel=1e-3)
    assert volatility.last == pytest.approx(np.mean(turns[17:19]), rel=1e-3)


# Settings.


def test_tiny_settings_run_every_experiment_and_a_setting_is_named():
    for preset in ("smoke", "cpu", "night", "gpu"):
        for entry, settings in presets.PRESETS[preset].items():
            small = SOURCE.tiny(settings)
            assert (small.dataset, small.model == "mlp") == (entry, settings.model == "mlp")
            assert (
                small.steps <= 200 and small.steps * small.batch < settings.steps * settings.batch
            )
    for settings in (SMALL, presets.TOYS["beale"]):
        for experiment in SOURCE.values():
            for tiny in experiment.chosen({settings.dataset: SOURCE.tiny(settings)}).values():
                if experiment.settings is None:
                    experiment(tiny)
    setting = {
        name: presets.setting(name, asdict(value)) for name, value in presets.PRESETS["cpu"].items()
    }
    assert (
        setting["digits"] == "stand-in: a perceptron on digits"
        and setting["beale"] == "the source's"
    )
    assert (
        presets.setting("beale", asdict(replace(presets.TOYS["beale"], lr=1.0))) != "the source's"
    )


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.0}, {"dt": -1.0}, {"dt": float("nan")}, {"seeds": ()}, {"seeds": (0, 0)},
     {"arms": ("s=0.5",)}, {"searched": ("plain", "s=7")}, {"searched": ("s=0.5",)}, {"dataset": "mnist"},
     {"validation": 1.0}],
    ids=str,
)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(presets.PRESETS["cpu"]["digits"], **change)
