"""Races of all methods against loops written out, on a small ResNet with BatchNorm, crops, flips and
noise: every arm, budget and metric.
"""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate import datasets, models
from replicate.sources.across import _contenders, _racing
from replicate.sources.across._data import Data
from replicate.sources.across._prices import PriceList
from replicate.sources.across._racing import RACE_AXES, RACE_METRICS, Race
from replicate.sources.across._task import Task

NORM_STREAM = 2**31  # mini-batches that nobody trains on
SEED, STEPS = 3, 12
TASK = Task(
    model="resnet8", width=2, stem="cifar", pad=1, flip=True, pixel_noise=0.1, label_noise=0.2, batch=16,
    steps=STEPS, checks=4, seeds=(3, 4), paces=(0.02, 0.1), curve_images=80, norm_batches=2,
)  # fmt: skip
UPDATES = {name: 0.75 for name in _contenders.list_contenders(TASK)} | {"SGD": 0.5}
PARTS = {"gradient": 1.0, "check": 0.25, "average": 0.1} | UPDATES
OWN_UPDATES = {
    name: name for name in UPDATES if name not in ("SGD, falling rate", "KeepStepping", "KeepVaulting")
} | {"SGD, falling rate": "SGD"}  # fmt: skip
PRICES = PriceList(PARTS, OWN_UPDATES, PriceList({k: 2 * v for k, v in PARTS.items()}, OWN_UPDATES))
PACES = {  # rate over SGD's at the same pace, by hand
    "SGD": 1, "SGD, falling rate": 1, "momentum": 0.1, "Nesterov": 0.1, "Lookahead": 2,
    "extrapolation, first order": 2 / 3, "extrapolation, second order": 2 / 3,
    "extrapolation, third order": 2 / 3, "Lookahead, momentum, maintain": 0.2, "schedule-free": 1,
    "Adam": 0.01, "KeepStepping": 0.003, "KeepVaulting": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def coloured():
    """Few digits in three colours, since a ResNet takes no grey image."""
    every = datasets.load("digits")
    tint = np.array([1.0, 0.6, 0.3])
    x, test_x = (np.round(each * tint).astype(np.uint8) for each in (every.train_x, every.test_x))
    small = replace(
        every, train_x=x[:300], train_y=every.train_y[:300], test_x=test_x, test_y=every.test_y
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: small)
        yield small


class Loop:
    """Plain tensors: a run at whose every step the iterate, the judged weights and costs are noted."""

    def __init__(self):
        self.images = datasets.load("digits")
        x, y = self.images.train_x[:240], self.images.train_y[:240]  # a fifth of 300 is held out
        self.data = datasets.Batches(x, y, 16, 10, "cpu", 1, True, 0.1, 0.2)
        shape = self.images.train_x.shape[1:]
        specification = models.Specification("resnet8", 2, "cifar", False)
        self.model = models.build(specification, shape, 10, SEED)
        self.w = torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])
        self.memory: list = [self.w]
        self.slow = self.mean = self.w
        self.m = self.v = torch.zeros_like(self.w)
        self.checks = 0

    def put(self, w) -> None:
        torch.nn.utils.vector_to_parameters(w.clone(), self.model.parameters())

    def check(self, w) -> float:
        self.checks += 1
        self.put(w)
        with torch.no_grad():
            return functional.cross_entropy(self.model.train()(self.x), self.y).item()

    def gradient(self, step: int):
        self.x, self.y = self.data.batch(SEED, 0, step)
        self.put(self.w)
        self.model.zero_grad()
        loss = functional.cross_entropy(self.model.train()(self.x), self.y)
        loss.backward()
        self.loss = loss.item()
        return torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])

    def run(self, method: str, lr: float, steps: int) -> list[tuple]:
        """(iterate, judged weights, gradients, checks) after 0, 1, ... steps."""
        notes = [(self.w, self.w, 0, 0)]
        for t in range(steps):
            g = self.gradient(t)
            MOVES[method](self, g, lr, t)
            judged = {"slow": self.slow, "mean": self.mean}.get(JUDGED.get(method), self.w)
            notes.append((self.w, judged, t + 1, self.checks))
        return notes

    def sgd(self, g, lr, t):
        self.w = self.w - lr * g

    def fall(self, g, lr, t):
        self.sgd(g, lr * min(1.0, (STEPS - t) / 3), t)  # a quarter of 12 steps: 1, 2/3, 1/3

    def momentum(self, g, lr, t):
        self.m = 0.9 * self.m + g
        self.w = self.w - lr * self.m

    def nesterov(self, g, lr, t):
        self.m = 0.9 * self.m + g
        self.w = self.w - lr * (g + 0.9 * self.m)

    def extrapolate(self, g, lr, order):
        """A step, and Taylor's series by backward differences from the step where there are enough."""
        moved = self.w - lr * g
        self.memory.append(moved)
        d = [-lr * g, *self.moves[: order - 1]] if hasattr(self, "moves") else [-lr * g]
        self.moves = d
        s = 0.5
        steps = {
            1: [s],
            2: [3 * s / 2 + s**2 / 2, -(s / 2 + s**2 / 2)],
            3: [11 * s / 6 + s**2 + s**3 / 6, -(7 * s / 6 + 3 * s**2 / 2 + s**3 / 3),
                s / 3 + s**2 / 2 + s**3 / 6],
        }[order]  # fmt: skip
        enough = len(d) == order
        self.w = (
            moved + sum(c * each for c, each in zip(steps, d, strict=True)) if enough else moved
        )

    def pull(self, t):
        if (t + 1) % 5 == 0:
            self.slow = self.slow + 0.5 * (self.w - self.slow)
            self.w = self.slow

    def lookahead(self, g, lr, t):
        self.sgd(g, lr, t)
        self.pull(t)

    def lookahead_momentum(self, g, lr, t):
        self.momentum(g, lr, t)
        self.pull(t)

    def schedule_free(self, g, lr, t):
        self.slow = self.slow - lr * g  # z
        self.mean = self.mean + (self.slow - self.mean) / (t + 1)
        self.w = 0.1 * self.slow + 0.9 * self.mean

    def adam(self, g, lr, t):
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g * g
        root = (self.v / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8
        self.w = self.w - lr * self.m / (1 - 0.9 ** (t + 1)) / root

    def walk(self, g, lr, t):
        before = self.loss
        for i in range(4):
            self.w = self.w - lr * (1 + 2 * math.sqrt(i)) * g
            after = self.check(self.w)
            if not after < before:
                break
            before = after

    def vault(self, g, lr, t):
        fall = lr * float(g.double() @ g.double())
        length, best, lowest = 1.0, 0.0, self.loss
        for _ in range(4):
            after = self.check(self.w - lr * length * g)
            if after < lowest:
                best, lowest = length, after
            elif best > 0:
                break
            above = after - self.loss + fall * length
            wanted = fall * length**2 / (2 * above) if above > 0 else math.inf
            if abs(wanted - length) <= 0.1 * length:
                break
            length = min(max(wanted, length / 10), 10 * length)
        self.w = self.w - lr * best * g

    @torch.no_grad()
    def look(self, w) -> dict[str, float]:
        """Losses and accuracies of weights, BatchNorm's statistics taken anew."""
        self.put(w)
        model, images = copy.deepcopy(self.model), self.images
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        model.train()
        for i in range(2):
            model(self.data.resize(240).batch(0, NORM_STREAM, i)[0])
        model.eval()
        sets = {"train": (images.train_x[:80], images.train_y[:80]),
                "valid": (images.train_x[240:], images.train_y[240:]),
                "test": (images.test_x[:80], images.test_y[:80])}  # fmt: skip
        numbers = {}
        for name, (x, y) in sets.items():
            pixels, labels = self.data.plain(x, y)
            outputs = model(pixels)
            numbers[f"{name}_loss"] = float(functional.cross_entropy(outputs, labels))
            numbers[f"{name}_top1"] = float((outputs.argmax(1) == labels).float().mean())
        return numbers | {"top1": numbers["test_top1"]}


MOVES = {
    "SGD": Loop.sgd, "SGD, falling rate": Loop.fall, "momentum": Loop.momentum,
    "Nesterov": Loop.nesterov, "Lookahead": Loop.lookahead,
    "Lookahead, momentum, maintain": Loop.lookahead_momentum, "schedule-free": Loop.schedule_free,
    "extrapolation, first order": lambda loop, g, lr, t: loop.extrapolate(g, lr, 1),
    "extrapolation, second order": lambda loop, g, lr, t: loop.extrapolate(g, lr, 2),
    "extrapolation, third order": lambda loop, g, lr, t: loop.extrapolate(g, lr, 3),
    "Adam": Loop.adam, "KeepStepping": Loop.walk, "KeepVaulting": Loop.vault,
}  # fmt: skip
JUDGED = {"Lookahead": "slow", "Lookahead, momentum, maintain": "slow", "schedule-free": "mean"}
# Steps that 18 seconds pay for at 1.75 a step: 10; at SGD's 1.5: 12.
PAID = {"SGD": 12, "SGD, falling rate": 12}


def race(method: str, pace: float = 0.1, task: Task = TASK) -> list[dict]:
    lr = pace * PACES[method]
    return Race(task, Data.load(task, "cpu"), SEED, PRICES, method, lr, "cpu").run()


def agree(row: dict, loop: Loop, w, seconds: float, rel: float = 3e-4) -> None:
    assert row["seconds"] == pytest.approx(seconds), row
    assert row["seconds again"] == pytest.approx(2 * seconds)
    expected = loop.look(w)
    for metric in RACE_METRICS:
        near = {"abs": 0.013} if metric.endswith("top1") else {"rel": rel}  # an image of 80
        assert row[metric] == pytest.approx(expected[metric], **near), (metric, row)


@pytest.mark.parametrize("method", [name for name in MOVES if not name.startswith("Keep")])
def test_every_budget_and_metric_is_that_of_a_loop_written_out(method):
    loop = Loop()
    notes = loop.run(method, 0.1 * PACES[method], STEPS)
    rows = {row["axis"]: row for row in race(method) if row["arm"] == method}
    assert set(rows) == set(RACE_AXES)
    for axis, row in rows.items():
        steps = PAID.get(method, 10) if axis == "modelled seconds" else STEPS
        assert (row["gradients"], row["checks"]) == (steps, 0)
        agree(row, loop, notes[steps][1], steps * (1.5 if method in PAID else 1.75))


@pytest.mark.parametrize("pace", [0.02, 0.1])
@pytest.mark.parametrize("method", ["KeepStepping", "KeepVaulting"])
def test_a_walk_ends_with_the_newest_step_that_a_budget_pays_for(method, pace):
    """Few steps: a search whose decisions rounding changes goes elsewhere later on."""
    few = 4
    loop = Loop()
    notes = loop.run(method, pace * PACES[method], few)
    budgets = (few, 3 * few, 1.5 * few)
    costs = [(n, 3 * n + c, n + c / 4) for _, _, n, c in notes]
    for row in race(method, pace, replace(TASK, steps=few)):
        place = RACE_AXES.index(row["axis"])
        steps = max(i for i, cost in enumerate(costs) if cost[place] <= budgets[place] + 1e-9)
        assert row["gradients"] == steps
        assert row["checks"] == pytest.approx(notes[steps][3] / steps)
        agree(row, loop, notes[steps][0], costs[steps][2], rel=2e-3)  # long steps lose digits


@pytest.mark.parametrize("method, names", [("SGD", "average, {}"), ("momentum", "momentum, average, {}")])  # fmt: skip
def test_means_are_those_of_the_iterates_of_their_tail(method, names):
    # Of half a run, which is 8 of 16 steps: over fewer an EMA of 5 / k would be the last iterate, and
    # over more steps rounding grows into what tells two means apart.
    loop, steps = Loop(), 16
    path = [note[0] for note in loop.run(method, 0.3 * PACES[method], steps)]
    # At a tenth a step told, 24 seconds pay for 15 of SGD's steps and 13 of momentum's, of which 8 and 6
    # are averaged: 22.5 + 0.8, 22.75 + 0.6.
    price, paid, told = {"SGD": (1.5, 15, 8), "momentum": (1.75, 13, 6)}[method]
    longer = race(method, 0.3, replace(TASK, steps=steps, tail=0.5))
    rows = {(row["arm"], row["axis"]): row for row in longer}
    arms = {method, *(names.format(kernel) for kernel in ("swa", "ema"))}
    assert set(rows) == {(arm, axis) for arm in arms for axis in RACE_AXES}
    for axis in RACE_AXES:
        losses = [rows[arm, axis]["test_loss"] for arm in arms]
        # Twice what `agree` lets pass, or one could stand for another.
        assert min(np.diff(sorted(losses))) > 2 * 3e-5 * max(losses)
        end, k = (paid, told) if axis == "modelled seconds" else (steps, 8)
        mean, delta = path[end - k], min(1.0, 5 / k)
        for w in path[end - k + 1 : end + 1]:
            mean = mean + delta * (w - mean)
        means = {"swa": sum(path[end - k + 1 : end + 1]) / k, "ema": mean}
        for name, w in means.items():
            agree(rows[names.format(name), axis], loop, w, end * price + 0.1 * k, rel=3e-5)


def test_every_method_is_raced_by_a_loop_or_is_one_of_momentum_kept_otherwise():
    others = {"Lookahead, momentum, reset", "Lookahead, momentum, interpolate"}
    assert set(MOVES) | others == set(_contenders.list_contenders(TASK))
    assert set(PACES) == set(MOVES)


@pytest.mark.parametrize("method", PACES)
def test_a_trial_has_the_pace_of_sgd_at_that_rate(method):
    rates = _contenders.list_rates(TASK, _contenders.list_contenders(TASK)[method])
    assert rates == pytest.approx(np.array([0.02, 0.1]) * PACES[method])


def test_a_run_that_is_lost_has_no_number_on_any_axis():
    for method in ("SGD", "KeepStepping"):
        rows = race(method, 1e30)
        assert len(rows) == (9 if method == "SGD" else 3)
        assert all(math.isnan(row[metric]) for row in rows for metric in RACE_METRICS)


def test_newtons_steps_are_the_budget_over_a_gradient_and_two_a_column():
    weights = len(Loop().w)
    assert race("SGD")[0]["newton_steps"] == pytest.approx(12 / (1 + 2 * weights))


def test_what_is_charged():
    work = _racing.Work(gradients=4, checks=6, averaged=2)
    assert _racing.charge(PRICES, "KeepStepping", work) == {
        "gradients": 4, "forward passes": 18, "modelled seconds": pytest.approx(4 + 1.5 + 0.2),
    }  # fmt: skip
    assert PRICES.of("SGD, falling rate", 4, 0, 0) == PRICES.of("SGD", 4, 0, 0) == 6.0
