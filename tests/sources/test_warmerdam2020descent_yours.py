"""Runs on a reader's images against loops written out: a small ResNet with BatchNorm on cropped and
mirrored images, every arm, axis and metric; how rates are chosen, and what is judged of it.
"""

import copy
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
from replicate.sources.warmerdam2020descent import _spending, your_dataset
from replicate.sources.warmerdam2020descent._images import ARMS_OFFERED, ImageTask

SOURCE = registry.source("warmerdam2020descent")
NORM_STREAM = 2**31  # mini-batches that nobody trains on
TINY = ImageTask(
    model="resnet8", width=2, stem="cifar", pad=1, flip=True, batch=16, steps=9, walk_gradients=5,
    seeds=(1,), grid=(0.03, 0.3, 3.0), shares=2, curve_images=100, test_images=80, norm_batches=2,
)  # fmt: skip
FACTORS = {"SGD": 1, "SGD again": 1, "ADAM": 0.01, "KS_50_2 corrected": 0.03,
           "KS_50_2 published": 1, "KV_50 corrected": 0.1, "KV_50 published": 0.1}  # fmt: skip
BUDGETS = {"gradients": 5, "forward-equivalents": 27, "seconds": 9 * 1.5}
METRICS = ("train_loss", "valid_loss", "valid_top1", "test_loss", "top1")


@pytest.fixture(scope="module", autouse=True)
def coloured():
    """Few digits in three colours, since a ResNet takes no grey image, and a clock of ticks: half a
    second a step and one a forward pass.
    """
    every = datasets.load("digits")
    tint = np.array([1.0, 0.6, 0.3])

    def paint(x):
        return np.round(x * tint).astype(np.uint8)

    small = replace(
        every, train_x=paint(every.train_x[:400]), train_y=every.train_y[:400],
        test_x=paint(every.test_x[:200]), test_y=every.test_y[:200],
    )  # fmt: skip
    passes = [0]

    def count(outputs, labels):
        passes[0] += 1
        return functional.cross_entropy(outputs, labels)

    def watch(device):
        begin = passes[0]
        return lambda: 0.5 + passes[0] - begin

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: small)
        patch.setattr(datasets.Batches, "loss", staticmethod(count))
        patch.setattr(_spending, "stopwatch", watch)
        patch.setenv("REPLICATE_JOBS", "1")
        patch.setenv("REPLICATE_DEVICE", "cpu")
        yield small


@pytest.fixture(scope="module")
def made(coloured, tmp_path_factory) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        yield SOURCE["your_dataset"](TINY)


class Loop:
    """Plain tensors: a run at whose every step weights and costs are noted."""

    def __init__(self, seed: int):
        self.images = datasets.load("digits")
        self.kept = 320  # a fifth of 400 is held out
        self.seed = seed
        self.data = datasets.Batches(
            self.images.train_x[:320], self.images.train_y[:320], 16, 10, "cpu", 1, True
        )
        shape = self.images.train_x.shape[1:]
        self.model = models.build(
            models.Specification("resnet8", 2, "cifar", False), shape, 10, seed
        )
        self.checks = 0

    def put(self, w) -> None:
        place = 0
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(w[place : place + p.numel()].view_as(p))
                place += p.numel()

    def loss(self, w):
        self.put(w)
        self.model.train()
        return functional.cross_entropy(self.model(self.x), self.y)

    def check(self, w) -> float:
        self.checks += 1
        with torch.no_grad():
            return self.loss(w).item()

    def run(self, arm: str, lr: float) -> list[tuple]:
        """(weights, gradients, forward-equivalents, seconds), until every budget is spent."""
        name, _, variant = arm.partition(" ")
        w = torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])
        self.m, self.v, gradients, passes, seconds = 0.0, 0.0, 0, 0, 0.0
        notes = [(w, 0, 0, 0.0)]
        while gradients < 5 or passes < 27 or seconds < 13.5:
            self.x, self.y = self.data.batch(self.seed, 0, gradients)
            gradients, self.checks = gradients + 1, 0
            self.model.zero_grad()
            loss = self.loss(w)
            loss.backward()
            g = torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])
            move = {"SGD": self.sgd, "ADAM": self.adam, "KS_50_2": self.walk, "KV_50": self.vault}
            w = move[name](w, g, lr, loss.item(), variant, gradients)
            passes, seconds = passes + 3 + self.checks, seconds + 0.5 + 1 + self.checks
            notes.append((w, gradients, passes, seconds))
        return notes

    def sgd(self, w, g, lr, loss, variant, t):
        return w - lr * g

    def adam(self, w, g, lr, loss, variant, t):
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        return w - lr * (self.m / (1 - 0.9**t)) / ((self.v / (1 - 0.999**t)).sqrt() + 1e-8)

    def walk(self, w, g, lr, loss, variant, t):
        if variant == "published":
            old, w = self.check(w), w - lr * g
            new, i = self.check(w), 0
            while new < old and i < 50:
                w = w - lr * (1 - 2 * math.sqrt(i)) * g
                old, new, i = new, self.check(w), i + 1
            return w
        old = loss
        for i in range(50):
            w = w - lr * (1 + 2 * math.sqrt(i)) * g
            new = self.check(w)
            if not new < old:
                break
            old = new
        return w

    def vault(self, w, g, lr, loss, variant, t):
        if variant == "published":
            old, w = self.check(w), w - lr * g
            new, i = self.check(w), 0
            while new < old and i < 50:
                slope = (new - old) / lr
                w = w - lr * (-((new - slope) / lr) / slope * lr) * g
                old, new, i = new, self.check(w), i + 1
            return w
        fall = lr * float(g.double() @ g.double())
        length, best, lowest = 1.0, 0.0, loss
        for _ in range(50):
            new = self.check(w - lr * length * g)
            if new < lowest:
                best, lowest = length, new
            elif best > 0:
                break
            above = new - loss + fall * length  # of the parabola through loss, its slope and new
            wanted = fall * length**2 / (2 * above) if above > 0 else math.inf
            if abs(wanted - length) <= 0.1 * length:
                break
            length = min(max(wanted, length / 10), 10 * length)
        return w - lr * best * g

    @torch.no_grad()
    def look(self, w) -> dict[str, float]:
        """Losses and accuracies of weights, BatchNorm's statistics taken anew."""
        self.put(w)
        model, images = copy.deepcopy(self.model), self.images
        batches = [self.data.resize(256).batch(0, NORM_STREAM, i)[0] for i in range(2)]
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        model.train()
        for batch in batches:
            model(batch)
        model.eval()
        sets = {"train": (images.train_x[:100], images.train_y[:100]),
                "valid": (images.train_x[320:][:100], images.train_y[320:][:100]),
                "test": (images.test_x[:80], images.test_y[:80])}  # fmt: skip
        numbers = {}
        for name, (x, y) in sets.items():
            pixels, labels = self.data.plain(x, y)
            outputs = model(pixels)
            numbers[f"{name}_loss"] = float(functional.cross_entropy(outputs, labels))
            numbers[f"{name}_top1"] = float((outputs.argmax(1) == labels).float().mean())
        return numbers | {"top1": numbers["test_top1"]}

    def newest(self, notes: list, axis: str, share: float) -> tuple:
        """The note of the newest step that a share of a budget pays for."""
        place = 1 + list(BUDGETS).index(axis)
        return [note for note in notes if note[place] <= BUDGETS[axis] * share + 1e-9][-1]


def test_every_arm_is_written_out_here():
    assert set(FACTORS) == set(_spending.BY_NAME) == {*ARMS_OFFERED, "SGD again"}


def agree(part: pd.DataFrame, loop: Loop, arm: str, lr: float) -> int:
    """How many rows of a run are those of the loop; the first that is not is an error."""
    notes = loop.run(arm, lr)
    for row in part.itertuples():
        w, gradients, passes, seconds = loop.newest(notes, row.axis, row.share)
        assert (row.gradients, row.seconds) == (gradients, seconds), row
        assert part.loc[row.Index, "forward-equivalents"] == passes, row
        expected = loop.look(w)
        for metric in METRICS:
            near = {"abs": 0.013} if metric.endswith("top1") else {"rel": 2e-4}  # an image of 80
            assert getattr(row, metric) == pytest.approx(expected[metric], **near), (metric, row)
    return len(part)


@pytest.mark.parametrize("arm", FACTORS)
def test_every_axis_share_and_metric_is_that_of_a_loop_written_out(made, arm):
    of_arm = made[(made.arm == arm) & (made.lr < 2 * FACTORS[arm])]
    lr = of_arm.lr.mode()[0]
    part = of_arm[of_arm.lr == lr].drop_duplicates(["axis", "share"])
    assert agree(part, Loop(1), arm, lr) >= 2 and of_arm.lost.isna().all()


@pytest.mark.parametrize("arm", ARMS_OFFERED)
def test_rates_are_chosen_on_a_seed_of_their_own_by_the_loss_at_the_end_of_the_same_budget(
    made, arm
):
    rates = [float(f"{FACTORS[arm] * lr:.6g}") for lr in TINY.grid]
    looks = []
    for lr in rates:
        loop = Loop(1001)
        notes = loop.run(arm, lr)
        looks.append({axis: loop.look(loop.newest(notes, axis, 1.0)[0]) for axis in BUDGETS})
    for axis in BUDGETS:
        for kind, metric in (("tuned", "train_loss"), ("validated", "valid_loss")):
            losses = np.nan_to_num([look[axis][metric] for look in looks], nan=np.inf)
            best = int(np.argmin(losses))
            part = made[(made.arm == arm) & (made.axis == axis)]
            lr = {rate: set(rows.lr) for rate, rows in part.groupby("rate")}
            assert lr[kind] == {rates[best]}
            assert lr.get(f"{kind} lower", set()) == set(rates[best - 1 : best] if best else [])
            assert lr.get(f"{kind} higher", set()) == set(rates[best + 1 : best + 2])
            assert set(part[part.rate == kind].at_edge) == {int(best != 1)}


def test_no_test_image_is_looked_at_while_rates_are_chosen(coloured, monkeypatch):
    blind = replace(coloured, test_x=None, test_y=None)
    monkeypatch.setattr(datasets, "load", lambda name: blind)
    few = replace(TINY, arms=("SGD",), steps=5, walk_gradients=2)
    table = your_dataset.tune(few, {"seed": 1}, None, [], "cpu")
    assert {"train_loss", "valid_loss"} < set(table) and not {"test_loss", "top1"} & set(table)
    with pytest.raises(TypeError):
        _spending.advance_in_turn(few, [("SGD", 0.1)], 1, 1, "cpu", test=True)


def test_runs_take_turns_of_equal_seconds_and_another_is_first_each_time(monkeypatch):
    order, step = [], _spending.Run.advance

    def noting(run):
        step(run)
        order.append((run.optimizer.param_groups[0]["lr"], run.spent["seconds"]))

    monkeypatch.setattr(_spending.Run, "advance", noting)
    plan = [("SGD", 0.1), ("KS_50_2 corrected", 0.2), ("ADAM", 0.3)]
    few = replace(TINY, steps=12, shares=3)
    _spending.advance_in_turn(few, plan, 1, 3, "cpu", test=False)
    order = order[_spending.CALIBRATION :]
    turns = [order[0]]
    for before, now in zip(order, order[1:], strict=False):
        turns += [now] if now[0] != before[0] else []
    ends = [before for before, now in zip(order, order[1:], strict=False) if now[0] != before[0]]
    assert [lr for lr, _ in turns] == [0.1, 0.2, 0.3, 0.2, 0.3, 0.1, 0.3, 0.1, 0.2]
    for number, (_, seconds) in enumerate(ends):
        assert seconds >= 18 * (number // 3 + 1) / 3  # 12 steps at a second and a half
    early = [s for lr, s in ends[:6] if lr != 0.2]
    assert early == pytest.approx([6, 6, 12, 12])


def test_a_run_that_is_lost_has_its_step_and_no_number_and_is_not_chosen():
    few = replace(TINY, arms=("SGD",), steps=5, walk_gradients=2)
    plan = [("SGD", 1e30), ("KS_50_2 corrected", 1e30), ("SGD", 0.1)]
    rows = _spending.advance_in_turn(few, plan, 1, 2, "cpu", test=True)
    lost = rows[rows.lr == 1e30]
    assert (
        len(lost) == 12
        and lost.lost.between(0, 3).all()
        and lost[list(METRICS)].isna().all(axis=None)
    )
    assert rows[rows.lr == 0.1][list(METRICS)].notna().all(axis=None)
    chosen = your_dataset.choose_rates(rows[rows.share == 1.0])
    assert set(chosen[chosen.rate.isin(["tuned", "validated"])].lr) == {0.1}
    assert your_dataset.choose_rates(lost).empty


def test_what_is_judged_is_the_end_of_a_budget():
    rows = [
        ("SGD", rate, axis, seed, share, 4.0 * share, 20.0 * share, 3.0 * share, 10.0 ** (-2 * share),
         10.0 ** -(share + seed), 0.5 + 0.25 * share, 0.1, 1)
        for rate in ("tuned", "validated") for axis in ("gradients", "seconds")
        for seed in (0, 1) for share in (0.5, 1.0)
    ]  # fmt: skip
    names = ["arm", "rate", "axis", "seed", "share", "gradients", "forward-equivalents", "seconds",
             "train_loss", "test_loss", "top1", "lr", "at_edge"]  # fmt: skip
    table = your_dataset.derive(pd.DataFrame(rows, columns=names))
    assert len(table) == 8 and set(table.share) == {1.0}
    first = table.set_index(["rate", "axis", "seed"]).loc[("tuned", "seconds", 1)]
    expected = {"log_loss": -2, "mean_log_loss": -1.5, "log_test_loss": -2, "error": 0.25, "checks": 2,
                "log_rate": -1, "seconds": 3, "at_edge": 1}  # fmt: skip
    assert first[list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize("change", [
    {"seeds": (1000,)}, {"seeds": (1, 1)}, {"grid": (0.1,)}, {"grid": (0.3, 0.1)}, {"arms": ("ADAM",)},
    {"arms": ("SGD", "SGD again")}, {"walk_gradients": 10}, {"validation": 1.0}, {"model": "mlpp"},
], ids=str)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(TINY, **change)


def test_the_cost_counts_tuning_and_judged_runs():
    task = replace(TINY, model="mlp", arms=("SGD", "ADAM"), seeds=(0, 1), neighbours=False)
    whole = SOURCE["your_dataset"].operations
    step = whole(task) / (2 * (2 * 3 + 3 * 2))
    assert whole(replace(task, seeds=(0,))) == whole(task) / 2
    assert whole(replace(task, neighbours=True)) == pytest.approx(2 * (2 * 3 + 3 * 4) * step)
    assert whole(replace(task, steps=18, batch=32)) == pytest.approx(4 * whole(task))
