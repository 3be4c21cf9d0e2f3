"""The runs on networks against a loop written out: a small ResNet with BatchNorm on cropped and
mirrored images, every arm, every metric, chosen rates and times to a target.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate import datasets, models, paths
from replicate.app import registry
from replicate.sources.fabi2021extrapolation import (
    _arms,
    _networks,
    batch_sizes,
    networks,
    presets,
)

SOURCE = registry.source("fabi2021extrapolation")
NORM_STREAM = 2**31  # mini-batches that nobody trains on
NET = replace(
    presets.PRESETS["smoke"]["digits"],
    model="resnet8",
    width=2,
    stem="cifar",
    flip=True,
    pad=1,
    batch=16,
    steps=20,
    lr=0.2,
    arms=tuple(_arms.ARMS),
    searched=("plain", "s=0.5"),
    rates=(0.05, 0.2, 0.8),
    batches=(16, 32),
    seeds=(0, 1, 2),
    rows=2,
    curve_images=100,
    norm_batches=2,
)
# What an arm does, written again: coefficients of the three newest displacements for s, from which
# share of the run, after every how many steps, times the rate, momentum, times the length.
WRITTEN = {
    "plain": {}, "plain again": {}, "dt=1e-10": {"s": 1e-10 / 0.2}, "s=0.1": {"s": 0.1},
    "s=0.5": {"s": 0.5}, "s=1": {"s": 1.0}, "backward": {"s": 0.5, "backward": True},
    "s=1/3": {"s": 1 / 3}, "every=3": {"s": 1.0, "every": 3}, "s=1 late": {"s": 1.0, "begin": 0.8},
    "rate-1.1": {"factor": 1.1}, "rate-1.25": {"factor": 1.25}, "rate-4/3": {"factor": 4 / 3},
    "rate-1.5": {"factor": 1.5}, "rate-2": {"factor": 2.0},
    "rate-2 late": {"factor": 2.0, "begin": 0.8}, "heavy-ball": {"momentum": 0.9},
    "double": {"length": 2},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def coloured():
    """Digits in three colours, few of them: a ResNet takes no grey image."""
    found = datasets.load("digits")
    tint = np.array([1.0, 0.6, 0.3])

    def paint(x):
        return np.round(x * tint).astype(np.uint8)

    small = replace(
        found, train_x=paint(found.train_x[:400]), train_y=found.train_y[:400],
        test_x=paint(found.test_x[:200]), test_y=found.test_y[:200],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: small)
        yield small


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")


def coefficients(s: float, backward: bool) -> tuple[float, float, float]:
    """Of the three newest displacements, from the printed equations."""
    if backward:
        return (s + s**2 / 2 + s**3 / 6, -(s**2) / 2 - s**3 / 3, s**3 / 6)
    return (
        11 * s / 6 + s**2 + s**3 / 6,
        -7 * s / 6 - 3 * s**2 / 2 - s**3 / 3,
        s / 3 + s**2 / 2 + s**3 / 6,
    )


class Loop:
    """Plain tensors: one run, looked at where it is told to."""

    def __init__(self, settings, seed: int):
        self.found = datasets.load(settings.dataset)
        self.kept = round(len(self.found.train_x) * 0.8)
        self.settings = settings
        self.seed = seed
        self.data = datasets.Batches(
            self.found.train_x[: self.kept], self.found.train_y[: self.kept], settings.batch,
            self.found.classes, "cpu", settings.pad, settings.flip,
        )  # fmt: skip

    def run(self, arm: str, lr: float, marks: tuple[int, ...]) -> dict[int, dict]:
        about = WRITTEN[arm]
        specification = models.Specification("resnet8", self.settings.width, "cifar", False)
        shape = self.found.train_x.shape[1:]
        model = models.build(specification, shape, self.found.classes, self.seed)
        steps = self.settings.steps * about.get("length", 1)
        begin = round(about.get("begin", 0) * steps)
        moves, velocity, seen = [], 0.0, {}
        if 0 in marks:
            seen[0] = self.look(model, steps == 0)
        for step in range(steps):
            x, y = self.data.batch(self.seed, 0, step)
            model.train()
            model.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
            late = step >= begin
            velocity = about.get("momentum", 0) * velocity + gradient
            move = -lr * (about.get("factor", 1) if late else 1) * velocity
            moves = [move, *moves[:2]] if late else []
            s = about.get("s", 0)
            if s and len(moves) == 3 and (step + 1 - begin) % about.get("every", 1) == 0:
                weights = coefficients(s, about.get("backward", False))
                move = move + sum(c * d for c, d in zip(weights, moves, strict=True))
            place = 0
            with torch.no_grad():
                for p in model.parameters():
                    p += move[place : place + p.numel()].view_as(p)
                    place += p.numel()
            if step + 1 in marks:
                seen[step + 1] = self.look(model, step + 1 == steps)
        return seen

    @torch.no_grad()
    def look(self, model, at_end: bool) -> dict[str, float]:
        """Losses and accuracies with BatchNorm's statistics taken anew, which training gets back."""
        kept = {name: value.clone() for name, value in model.named_buffers()}
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        batches = [
            self.data.resize(256).batch(0, NORM_STREAM, i)[0]
            for i in range(self.settings.norm_batches)
        ]
        before = [layer.momentum for layer in norms]
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None
        model.train()
        for batch in batches:
            model(batch)
        model.eval()
        found, kept_count, few = self.found, self.kept, self.settings.curve_images
        sets = {
            "train": (found.train_x[:kept_count][:few], found.train_y[:kept_count][:few]),
            "valid": (found.train_x[kept_count:][:few], found.train_y[kept_count:][:few]),
            "test": (
                found.test_x[: None if at_end else few],
                found.test_y[: None if at_end else few],
            ),
        }
        numbers = {}
        for name, (x, y) in sets.items():
            pixels, labels = self.data.plain(x, y)
            outputs = model(pixels)
            numbers[f"{name}_loss"] = float(functional.cross_entropy(outputs, labels))
            numbers[f"{name}_top1"] = float((outputs.argmax(1) == labels).float().mean())
        for layer, momentum in zip(norms, before, strict=True):
            layer.momentum = momentum
        for name, value in model.named_buffers():
            value.copy_(kept[name])
        model.train()
        return {
            "train_loss": numbers["train_loss"], "valid_loss": numbers["valid_loss"],
            "test_loss": numbers["test_loss"], "valid_top1": numbers["valid_top1"],
            "top1": numbers["test_top1"],
        }  # fmt: skip


@pytest.fixture(scope="module")
def made(coloured) -> pd.DataFrame:
    return _networks.seed_run(NET, {"seed": 1}, None, [], "cpu").assign(seed=1)


def test_every_arm_is_written_out_here():
    assert set(WRITTEN) == set(_arms.ARMS)


@pytest.mark.parametrize("arm", WRITTEN)
def test_every_arm_and_metric_is_that_of_a_loop_written_out(made, arm):
    rates = NET.rates if arm in NET.searched else (NET.lr,)
    for lr in rates[:2]:
        own = made[(made.arm == arm) & (made.lr == lr)].set_index("step")
        steps = 20 * WRITTEN[arm].get("length", 1)
        assert own.index.tolist() == [0, steps // 2, steps]
        expected = Loop(NET, 1).run(arm, lr, (0, steps // 2, steps))
        for step, numbers in expected.items():
            for metric, value in numbers.items():
                near = (
                    {"abs": 0.011} if metric.endswith("top1") else {"rel": 1e-4}
                )  # an image of 100
                assert own[metric][step] == pytest.approx(value, **near), (step, metric)
        assert own.lost.isna().all() and (own.seconds.diff().dropna() > 0).all()


def test_arms_that_differ_end_apart_by_more_than_a_loop_may(made):
    ends = made[made.source].groupby("arm").train_loss.last()
    same = {"plain again", "dt=1e-10"}
    assert ends[list(same)].to_numpy() == pytest.approx(ends["plain"], rel=1e-6)
    apart = abs(ends.drop([*same, "plain"]) / ends["plain"] - 1)
    assert apart.min() > 1e-3, apart.to_dict()


def test_every_arm_has_the_sources_rate_and_searched_ones_the_grid(made):
    assert set(made[made.source].arm) == set(NET.arms)
    grid = made[made.searched].groupby("arm").lr.unique()
    assert {arm: set(rates) for arm, rates in grid.items()} == {
        arm: set(NET.rates) for arm in NET.searched
    }
    assert not made.duplicated(["arm", "lr", "step"]).any()


def test_arms_take_turns_from_point_to_point(monkeypatch):
    """No arm is a point ahead of another, and another one goes first each time."""
    order = []
    whole = _networks._segments

    def noting(model, data, arm, lr, *rest):
        for mark in whole(model, data, arm, lr, *rest):
            order.append((lr, mark))
            yield mark

    monkeypatch.setattr(_networks, "_segments", noting)
    plan = [("plain", lr) for lr in (0.1, 0.2, 0.3)]
    _networks._advance_in_turn(NET, plan, 0, 16, 2, "cpu")
    turns = [order[i : i + 3] for i in range(0, 9, 3)]
    assert [{mark for _, mark in turn} for turn in turns] == [{0}, {10}, {20}]
    assert len({turn[0][0] for turn in turns}) == 3


def test_a_run_that_is_lost_is_known_by_its_step_and_has_no_number():
    rows = _networks._advance_in_turn(NET, [("plain", 1e30), ("plain", 0.05)], 0, 16, 2, "cpu")
    lost = rows[rows.lr == 1e30].set_index("step")
    assert math.isnan(lost.lost[0]) and lost.lost[10] == lost.lost[20]
    assert 1 <= lost.lost[10] <= 4  # the first loss after the first step
    assert lost.loc[[10, 20], list(_networks.METRICS)].isna().all(axis=None)
    assert rows[rows.lr == 0.05][list(_networks.METRICS)].notna().all(axis=None)


# Choosing. A table in which every column differs: seed 0 likes another rate than the others do.


def searched(losses: dict[tuple[str, float], list[float]], metric="train_loss") -> pd.DataFrame:
    rows = [
        (arm, lr, 64, seed, 0, step, 1.0 * step, loss * (3 if step == 0 else 1))
        for (arm, lr), values in losses.items()
        for seed, loss in enumerate(values)
        for step in (0, 10)
    ]
    table = pd.DataFrame(
        rows, columns=["arm", "lr", "batch", "seed", "branch", "step", "seconds", metric]
    )
    return table.assign(source=table.lr == 0.1, searched=True)  # fmt: skip


def test_a_seeds_rate_is_chosen_by_the_others():
    table = searched({
        ("plain", 0.1): [0.1, 2.0, 2.0], ("plain", 0.2): [9.0, 1.0, 1.1],
        ("plain", 0.4): [3.0, 1.2, 1.5], ("plain", 0.8): [5.0, 5.0, 5.0],
    })  # fmt: skip
    chosen = _networks.choose_rates(_networks.ends(table), "train_loss")
    best = chosen[chosen.move == ""].set_index("seed")
    # Seed 0: means over seeds 1 and 2 are 2, 1.05, 1.35, 5. Seed 1: over 0 and 2 1.05, 5.05, 2.25, 5.
    assert best.lr.to_dict() == {0: 0.2, 1: 0.1, 2: 0.1}
    assert best.at_edge.to_dict() == {0: 0, 1: 1, 2: 1}
    moved = chosen.set_index(["seed", "move"]).lr
    assert moved[0].to_dict() == {"": 0.2, "lower": 0.1, "higher": 0.4}
    assert moved[1].to_dict() == {"": 0.1, "higher": 0.2}


def test_a_rate_at_which_another_seed_was_lost_is_out_and_alone_a_seed_chooses_nothing():
    table = searched({
        ("plain", 0.1): [3.0, 3.0, 3.0], ("plain", 0.2): [1.0, np.nan, 1.0],
        ("plain", 0.4): [2.0, 2.0, 2.0],
    })  # fmt: skip
    chosen = _networks.choose_rates(_networks.ends(table), "train_loss")
    # Seed 1 itself was lost at the rate that the others choose: it is what befalls the arm.
    assert chosen[chosen.move == ""].set_index("seed").lr.to_dict() == {0: 0.4, 1: 0.2, 2: 0.4}
    assert _networks.choose_rates(_networks.ends(table[table.seed == 0]), "train_loss").empty


def test_regimes_hold_the_chosen_rates_and_neighbours_go_to_the_target_of_the_chosen_one():
    steps = (0, 10, 20, 30, 40)
    speed = {
        ("plain", 0.1): 1.0, ("plain", 0.2): 2.0, ("plain", 0.4): 1.5, ("plain", 0.8): 0.5,
        ("s=0.5", 0.1): 3.0, ("s=0.5", 0.2): 2.5, ("s=0.5", 0.4): 4.0, ("s=0.5", 0.8): 1.0,
    }  # fmt: skip
    rows = [
        (arm, lr, 64, seed, 0, step, 0.5 * step, np.exp(-rate * step / 40), np.exp(-1 / (1 + lr)),
         rate / 10, lr == 0.1, True)
        for (arm, lr), rate in speed.items() for seed in (0, 1, 2) for step in steps
    ]  # fmt: skip
    names = "arm lr batch seed branch step seconds train_loss valid_loss top1 source searched"
    table = pd.DataFrame(rows, columns=names.split())
    ends = networks.derive(table).groupby(["regime", "arm"]).first()
    tuned = {arm: ends.top1["tuned", arm] * 10 for arm in ("plain", "s=0.5")}
    assert tuned == pytest.approx({"plain": 2.0, "s=0.5": 4.0})
    assert ends.top1["tuned lower", "s=0.5"] * 10 == pytest.approx(2.5)
    assert ends.top1["tuned higher", "s=0.5"] * 10 == pytest.approx(1.0)
    assert ends.top1["plain-best", "s=0.5"] * 10 == pytest.approx(2.5)
    # By validation loss the first rate, where nothing is lower than it.
    assert ends.top1["validated", "s=0.5"] * 10 == pytest.approx(3.0)
    assert ends.at_edge["validated", "s=0.5"] == 1 and ends.at_edge["tuned", "s=0.5"] == 0
    assert ("validated lower", "s=0.5") not in ends.index
    # The target is exp(-2 * 30 / 40), plain SGD's at its tuned rate after three quarters.
    times = ends.steps_to_target
    assert times["tuned", "plain"] == pytest.approx(30)
    assert times["tuned", "s=0.5"] == pytest.approx(15)
    assert times["tuned lower", "plain"] != times["tuned lower", "plain"]  # it never gets there
    assert times["tuned higher", "plain"] == pytest.approx(40)
    assert times["tuned lower", "s=0.5"] == pytest.approx(24)
    assert times["plain-best", "s=0.5"] == pytest.approx(24)
    assert times["source", "s=0.5"] == pytest.approx(10)  # to exp(-30 / 40)
    seconds = ends.seconds_to_target / ends.steps_to_target
    assert seconds.dropna().to_numpy() == pytest.approx(0.5)
    assert ends.log_loss["tuned", "s=0.5"] == pytest.approx(-4 * np.log10(np.e))


def test_batch_sizes_have_rates_of_their_own_from_their_own_runs():
    made = _networks.batch_run(NET, {"seed": 1, "batch": 32}, None, [], "cpu")
    assert set(zip(made.arm, made.lr, strict=True)) == {
        (arm, lr) for arm in ("plain", "s=0.5") for lr in NET.rates
    }
    loop = Loop(replace(NET, batch=32), 1)
    for arm, lr in (("plain", 0.2), ("s=0.5", 0.05)):
        (row,) = made[(made.arm == arm) & (made.lr == lr)].itertuples()
        expected = loop.run(arm, lr, (20,))[20]
        assert row.train_loss == pytest.approx(expected["train_loss"], rel=1e-4)
        assert row.step == 20
    first = searched(
        {("plain", 0.1): [1, 1, 1], ("plain", 0.2): [2, 2, 2], ("plain", 0.4): [3, 3, 3]}
    )
    second = searched(
        {("plain", 0.1): [3, 3, 3], ("plain", 0.2): [2, 2, 2], ("plain", 0.4): [1, 1, 1]}
    )
    both = pd.concat([first, second.assign(batch=128)])
    both = both[both.step == 10]
    tuned = batch_sizes.derive(both)
    tuned = tuned[tuned.regime == "tuned"].groupby("batch").lr.unique()
    assert {batch: list(rates) for batch, rates in tuned.items()} == {64: [0.1], 128: [0.4]}


def test_the_cost_counts_every_run_once():
    one = replace(
        presets.PRESETS["smoke"]["digits"], width=16, steps=20, arms=("plain",), searched=("plain",),
        rates=(0.02, 0.2), seeds=(0,), batches=(),
    )  # fmt: skip
    unit = 20 * 64 * 2 * (3 * (64 * 16 + 16 * 16 + 16 * 10) - 64 * 16)
    cost = SOURCE["networks"].operations
    assert cost(replace(one, searched=(), rates=())) == unit
    assert cost(one) == 2 * unit  # the source's rate is on the grid
    assert cost(replace(one, seeds=(0, 1), arms=("plain", "double"))) == 8 * unit
