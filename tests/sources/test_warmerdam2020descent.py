"""Curves and their costs against dull loops, derivations, and settings."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from replicate import descent, paths
from replicate.app import registry
from replicate.sources.warmerdam2020descent import _arms, _curves, _judging, _regression, _tasks
from replicate.sources.warmerdam2020descent._vault import parabola_step, step_as_printed, vault
from replicate.sources.warmerdam2020descent.presets import ALGEBRA, OF_THE_POST, PAPER

SOURCE = registry.source("warmerdam2020descent")
SMALL = replace(
    SOURCE.presets["smoke"]["figure9"],
    rows=200, tuning_rows=100, columns=4, width=3, lr=0.02, steps=60, walk_gradients=8, grid=(0.01, 0.05, 0.1), blocks=1,
    arms=("SGD", "KS_50_2 published"), tuned=("SGD",),
)  # fmt: skip


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")


# What a run costs and what is kept of it.


def test_costs_are_counts_times_prices_and_a_published_check_builds_a_graph():
    one = _arms.Trace(np.ones(3), np.array([0, 1, 2]), np.array([0, 5, 7]), np.array([0, 4, 6]))
    clock = {
        "forward": 10.0,
        "check": 7.0,
        "printed check": 11.0,
        "backward": 20.0,
        "step": 1.0,
        "adam": 2.0,
    }
    assert _arms.forward_equivalents(one).tolist() == [0, 8, 13]
    assert _arms.seconds("KS_50_0 corrected", one, clock).tolist() == [0, 30 + 35 + 4, 60 + 49 + 6]
    assert _arms.seconds("KS_50_0 published", one, clock).tolist() == [0, 30 + 55 + 4, 60 + 77 + 6]
    assert _arms.seconds("ADAM", one, clock).tolist() == [0, 30 + 35 + 8, 60 + 49 + 12]


def test_at_a_point_of_the_budget_counts_the_newest_step_that_is_paid_for():
    logs, cost = np.array([0.0, -1.0, -2.0, -3.0]), np.array([0, 30, 59, 100])
    found = _curves.sample(logs, cost, 100.0)
    dull = [max(i for i in range(4) if cost[i] <= 5 * place) for place in range(21)]
    assert found.tolist() == [logs[i] for i in dull]


def test_log_losses_have_a_floor_and_a_ceiling_and_a_diverged_run_never_comes_back():
    losses = np.array([10.0, 1.0, 1e-20, 0.0, np.inf, 1.0])
    assert _curves.log_loss(losses).tolist() == [0, -1, -10, -10, 2, 2]
    assert _curves.log_loss(np.array([1.0, np.nan, 1e-5])).tolist() == [0, 2, 2]
    assert _curves.log_loss(np.array([1.0, 1e9])).tolist() == [0, 2]


def test_rises_are_summed_up_to_where_the_loss_is_low_and_targets_are_first_passages():
    logs = np.array([0.0, -1.0, -0.5, -3.0, -2.0, -7.0, -3.0])
    assert _curves._rises(logs) == pytest.approx(1.5)
    cost = np.arange(7.0)
    assert [_curves._cost_to(t, logs, cost, 4.0) for t in (-1, -2)] == [1, 3]
    assert np.isnan(_curves._cost_to(-5, logs, cost, 4.0))


@pytest.mark.parametrize("dims", [(20, 10, 10, 1), (3, 5, 1), (7, 1)])
def test_orthogonal_starts_are_isometries_with_zero_biases(dims):
    settings = replace(
        SMALL, columns=dims[0], width=dims[1] if len(dims) > 2 else 1, maps=len(dims) - 1
    )
    flat = _tasks.orthogonal_start(settings, 0)
    for inputs, outputs in zip(dims, dims[1:], strict=False):
        w, b, flat = np.split(flat, [inputs * outputs, inputs * outputs + outputs])
        w = w.reshape(outputs, inputs)
        gram = w @ w.T if outputs <= inputs else w.T @ w
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)
        assert not b.any()
    assert not len(flat)


@pytest.mark.parametrize("heights, best, lower, higher, at_edge", [
    ([0.0, -1.0, -3.0, -1.0], 0.1, 0.01, 0.3, False),
    ([-2.0, -1.0, 0.0, 2.0], 0.001, 0.0001, 0.01, True),
    ([0.0, -1.0, -2.0, -4.0], 0.3, 0.1, 0.9, True),
    ([0.0, -2.0, -2.0, -2.0], 0.1, 0.01, 0.3, False),
    ([-2.0, -2.0, -2.0, -2.0], 0.01, 0.001, 0.1, False),
])  # fmt: skip
def test_a_tuned_rate_has_neighbours_and_says_whether_it_ends_the_grid(
    heights, best, lower, higher, at_edge
):
    """The best of the grid, of equally good ones the middle one."""
    table = pd.DataFrame({"arm": "A", "lr": [0.001, 0.01, 0.1, 0.3], "height": heights})
    other = pd.DataFrame({"arm": "B", "lr": [0.001, 0.01, 0.1, 0.3], "height": [0.0, -1.0, 0, 0]})
    found = _curves.choose_rates([table, other])
    assert found["B"].best == 0.01 and _curves.choose_rates([]) == {}
    assert list(found["A"].kinds()) == ["tuned", "tuned lower", "tuned higher"]
    assert list(found["A"].kinds().values()) == pytest.approx([best, lower, higher])
    assert found["A"].at_edge == at_edge


def test_every_seed_is_tuned_on_a_seed_of_its_own(build, monkeypatch):
    drawn = []
    draw = _tasks.make_task
    monkeypatch.setattr(_tasks, "make_task", lambda *given: drawn.append(given[1]) or draw(*given))
    runs = _curves.run_tuning(SMALL, ("SGD", "ARMIJO", "LBFGS"))
    assert set(runs.table.arm) == {"SGD"}  # the others find their lengths themselves
    assert sorted(drawn) == [1000 + seed for seed in SMALL.seeds]
    assert [len(runs.parents({"seed": seed})) for seed in SMALL.seeds] == [1, 1]


def forward(flat: np.ndarray, dims: tuple, x: np.ndarray) -> tuple[list, list]:
    """Weights and activations of a linear net, written out: torch's layout."""
    z, maps = [x], []
    for inputs, outputs in zip(dims, dims[1:], strict=False):
        w, b, flat = np.split(flat, [inputs * outputs, inputs * outputs + outputs])
        maps.append(w.reshape(outputs, inputs))
        z.append(z[-1] @ maps[-1].T + b)
    return maps, z


def descended(
    flat: np.ndarray, dims: tuple, x: np.ndarray, y: np.ndarray, lr: float, steps: int
) -> list[float]:
    """Losses of gradient descent by backpropagation over rows."""
    losses = []
    for _ in range(steps + 1):
        maps, z = forward(flat, dims, x)
        losses.append(np.mean((z[-1][:, 0] - y) ** 2))
        delta, parts = 2 * (z[-1] - y[:, None]) / len(y), []
        for w, before in zip(reversed(maps), reversed(z[:-1]), strict=True):
            parts.append(np.concatenate([(delta.T @ before).ravel(), delta.sum(0)]))
            delta = delta @ w
        flat = flat - lr * np.concatenate(parts[::-1])
    return losses


def test_a_figure_has_the_losses_of_a_loop_over_rows(build):
    """And published KS_50_2 those of SGD, gradient by gradient, on the plateau: the sign error
    takes one step back.
    """
    table = SOURCE["figure_9"](SMALL)
    for seed in SMALL.seeds:
        rows = _tasks.draw_rows(SMALL, seed, SMALL.rows)
        start = _tasks.make_task(SMALL, seed).start
        losses = descended(start, SMALL.dims, rows.x.T, rows.y, SMALL.lr, SMALL.steps)
        part = table[(table.seed == seed) & (table.rate == "source") & (table.start == "source")]
        own = part[(part.arm == "SGD") & (part.axis == "forward-equivalents")]
        np.testing.assert_allclose(
            own.loss, np.log10(losses[:: SMALL.steps // 20] / losses[0]), atol=1e-8
        )
        by_gradient = part[part.axis == "gradients"].set_index(["arm", "share"]).loss
        assert by_gradient["KS_50_2 published", 1.0] == pytest.approx(
            by_gradient["SGD", 1.0], abs=1e-9
        )
    assert set(table.start) == set(_curves.STARTS) and set(table.rate) == set(_curves.RATE_KINDS)
    assert table[table.rate == "tuned"].lr.isin(SMALL.grid).all()
    assert not table.duplicated(["seed", "arm", "rate", "start", "axis", "share"]).any()


def test_tuning_and_claims_go_by_one_mean_log_loss(build):
    table = SOURCE["figure_9"](SMALL).assign(dataset="figure9")
    derived = _judging.derive(table).set_index(["seed", "arm", "rate", "start", "axis"])[
        "mean log loss"
    ]
    for seed in SMALL.seeds:
        lr = table[(table.seed == seed) & (table.rate == "tuned")].lr.iloc[0]
        for rate, rate_lr in (("source", SMALL.lr), ("tuned", lr)):
            tuned = _curves.run_to_mean_log_loss(
                "SGD", _tasks.make_task(SMALL, seed), rate_lr, SMALL
            )
            judged_by = derived[seed, "SGD", rate, "source", "forward-equivalents"]
            assert judged_by == pytest.approx(tuned, rel=1e-12) and tuned < -0.01


@pytest.mark.parametrize("name", _arms.ARMS)
def test_what_is_said_of_an_arm_is_what_its_method_does(name):
    """The variant in the table of arms is that of the method, and its check costs what that
    variant's check does.
    """
    arm = _arms.ARMS[name]
    if arm.method:
        variant = getattr(_arms.method_of(name, 3), "variant", "")
        assert variant == ("corrected" if arm.variant == "rollback" else arm.variant)
        numbers = [
            int(part) for part in name.split()[0].split("_")[1:]
        ]  # KS_50_2: the post's names
        held = [getattr(_arms.method_of(name, 3), each) for each in ("max_steps", "scale_i")[: len(numbers)]]  # fmt: skip
        assert held == numbers
    assert arm.check == ("printed check" if arm.variant == "published" else "check")
    assert arm.update == ("adam" if name in ("ADAM", "LBFGS") else "step")


def test_a_run_that_diverges_is_a_row_at_the_ceiling(build):
    table = SOURCE["figure_9"](replace(SMALL, lr=50.0))
    ends = table[(table.arm == "SGD") & (table.rate == "source") & (table.share == 1.0)]
    assert len(ends) and (ends.loss == _curves.CEILING).all() and not table.loss.isna().any()


# Derivations.


def test_the_printed_jump_depends_on_the_unit_of_the_rate():
    """L0 = 1, L1 = 1/2: a step of 1 + rate, at twice the rate not twice as long."""
    rows = {claim: value for claim, _, value in vault()}
    assert rows["Y11.unit"] == pytest.approx(1.2 / (2 * 1.1))


def test_the_printed_jump_counts_steps_to_loss_zero_and_the_right_one_ends_at_the_minimum():
    def bowl(t):
        return 3.0 + 2 * (t - 5) ** 2

    assert step_as_printed(4.0, 3.0, 0.1) == pytest.approx(1 + 0.1 * 3)
    assert parabola_step(bowl(0), bowl(0.1), -20.0, 0.1) == pytest.approx(5.0)
    assert step_as_printed(bowl(0) - 3, bowl(0.1) - 3, 0.1) != pytest.approx(
        step_as_printed(bowl(0), bowl(0.1), 0.1)
    )


def test_a_published_newton_step_fails_where_the_hessian_has_no_inverse(build):
    found = SOURCE["shapes"](SOURCE.presets["smoke"]["regression"])
    few = found.rows <= found["columns"]
    assert found[few].singular.all() and not found[~few & (found.asked < 1e8)].singular.any()
    assert (found[~few & (found.asked == 1)]["drop"] < -9).all() and (found[few]["drop"] > -9).all()


@pytest.mark.parametrize("lr", [0.02, 0.1])
def test_steps_to_the_bullseye_are_those_of_a_loop(lr):
    data = descent.regression(300, 3, 1)
    start = descent.regression_start(3, 1)
    w, losses = start, []
    while not losses or losses[-1] > 1e-9 * losses[0]:
        off = data.x @ w - data.y
        losses.append(np.mean(off**2))
        w = w - lr * 2 * data.x.T @ off / len(off)
    assert _regression.count_steps(data, start, lr, -9.0) == len(losses) - 1
    with pytest.raises(ValueError, match="lr must be below"):
        _regression.count_steps(data, start, 5.0, -9.0)


def test_a_drop_that_is_not_finite_counts_as_the_worst():
    assert _regression.drop([1.0, np.nan]) == 10 and _regression.drop([1.0, 0.0]) == -30
    assert _regression.drop([1.0, 1e-3]) == pytest.approx(-3)


# Settings.


@pytest.mark.parametrize(
    "change",
    [
        {"lr": -0.1}, {"lr": float("nan")}, {"rows": 0}, {"maps": 0}, {"seeds": ()}, {"seeds": (1, 1)},
        {"grid": (0.0,)}, {"grid": (0.1,)}, {"grid": (0.1, 0.01)}, {"seeds": (1000,)}, {"sweep_seeds": (1001,)}, {"tuned": ("SGD", "SGDD")}, {"batches": (100_000,)},
        {"activation": "tanh"},
        {"arms": ("SGD", "NEWTON")}, {"sweep_arms": ("newton",)},
    ],
    ids=str,
)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SOURCE.presets["cpu"]["figure9"], **change)


def test_every_arm_of_a_figure_is_tuned_on_one_grid_and_all_arms_of_the_post_are_run():
    for preset in ("cpu", "gpu", "paper"):
        for name, settings in SOURCE.presets[preset].items():
            assert len(settings.seeds) >= 5, name
            if not isinstance(settings, type(PAPER)):
                continue  # a reader's images, which have rates of their own
            assert settings.grid == PAPER.grid and len(settings.grid) == 16, name
            if name.startswith("figure"):
                assert set(settings.arms) >= set(OF_THE_POST) and len(OF_THE_POST) == 8


@pytest.mark.parametrize("entry, expected", [
    ("figure9", "the source's"), ("figure12", "the source's"), ("regression", "the source's"),
    ("resnet18", "stand-in: ResNet-18 on noise"), ("minibatch", "stand-in: mini-batches with noise on y"),
])  # fmt: skip
def test_a_task_of_the_post_is_the_source_s_whatever_its_seeds_and_arms(entry, expected):
    assert SOURCE.setting(entry, asdict(SOURCE.presets["cpu"][entry])) == expected


def test_a_task_that_is_changed_stands_in_and_says_how():
    tiny = SOURCE.setting("figure9", asdict(SOURCE.tiny(PAPER)))
    assert tiny == "stand-in: rows 1000, maps 2, steps 20, walk_gradients 5"
    assert (
        SOURCE.setting("figure10", asdict(replace(SOURCE.presets["cpu"]["figure10"], lr=0.1)))
        == "stand-in: lr 0.1"
    )
    assert SOURCE.setting("algebra", asdict(ALGEBRA["algebra"])) == "the source's"
