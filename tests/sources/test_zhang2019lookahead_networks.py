"""The network experiments against plain loops."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate.app import registry
from replicate.models import use_group_norm
from replicate.sources import images as kit
from replicate.sources.zhang2019lookahead import _networks, within_cycle
from replicate.sources.zhang2019lookahead.presets import PRESETS

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
SMALL = replace(
    PRESETS["smoke"]["digits"],
    steps=12,
    batch=32,
    k=3,
    alpha=0.6,
    flip=True,
    pad=1,
    pixel_noise=0.1,
    label_noise=0.1,
    weight_decay=0.01,
    norm_batches=2,
    curve_images=50,
    tail=0.5,
    probes=(0.25, 0.5),
    cycles=1,
)


# Plain loops.


class Plain:
    """Every method as a list of iterates, from its page.

    fast: the weights of every step before a pull; seen: after it; averaged: the schedule-free x.
    """

    def __init__(self, settings, point, net="batch norm"):
        settings = replace(settings, **{n: v for n, v in point.items() if hasattr(settings, n)})
        self.settings = settings
        self.data = _networks.Data.load(settings, "cpu")
        self.model = kit.network(settings, point["seed"], self.data.images, "cpu")
        if net == "group norm":
            self.model = use_group_norm(self.model)
        parameters = list(self.model.parameters())
        method = point["method"]
        self.memory = [[torch.zeros_like(p) for _ in range(3)] for p in parameters]
        phi = [p.detach().clone() for p in parameters]
        self.seen = [[p.detach().clone() for p in parameters]]
        self.fast, self.averaged = [self.seen[0]], [self.seen[0]]
        self.buffers, self.losses = [self.copy_buffers()], []
        squares = 0.0
        for t in range(settings.steps):
            images, labels = self.data.batches.batch(point["seed"], 0, t)
            self.model.train()
            loss = functional.cross_entropy(self.model(images), labels)
            self.losses.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, parameters)
            rate = point["lr"]
            if point["schedule"] == "decayed":
                rate *= settings.drop ** sum(
                    t >= share * settings.steps for share in settings.drops
                )
            inner = settings.inner if method == "lookahead" else method
            with torch.no_grad():
                if method == "schedule-free":
                    gamma = rate / (1 - settings.momentum)
                    squares += gamma**2
                    self.move_schedule_free(parameters, gradients, gamma, gamma**2 / squares)
                elif inner == "adamw":
                    self.move_adamw(parameters, gradients, 0.01 * rate, t + 1)
                else:
                    if method == "outer-nesterov":
                        rate *= (1 - settings.outer_momentum) / settings.outer_rate
                    for p, (v, *_), g in zip(parameters, self.memory, gradients, strict=True):
                        v.mul_(settings.momentum).add_(g + settings.weight_decay * p)
                        p.sub_(rate * v)
                self.fast.append([p.clone() for p in parameters])
                if (t + 1) % settings.k == 0 and method in ("lookahead", "outer-nesterov"):
                    self.pull(parameters, phi, method)
            self.seen.append([p.detach().clone() for p in parameters])
            self.buffers.append(self.copy_buffers())

    def move_schedule_free(self, parameters, gradients, gamma, share):
        x = [p.clone() for p in self.averaged[-1]]
        for p, (z, _, begun), g, mean in zip(parameters, self.memory, gradients, x, strict=True):
            if not begun.any():
                z.copy_(p), begun.fill_(1)
            z.sub_(gamma * (g + self.settings.weight_decay * p))
            mean.copy_((1 - share) * mean + share * z)
            p.copy_(0.1 * z + 0.9 * mean)
        self.averaged.append(x)

    def move_adamw(self, parameters, gradients, rate, t):
        decay = self.settings.weight_decay / (0.01 * (1 - self.settings.momentum))
        for p, (m, v, _), g in zip(parameters, self.memory, gradients, strict=True):
            p.mul_(1 - rate * decay)
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g**2)
            p.sub_(rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))

    def pull(self, parameters, phi, method):
        s = self.settings
        for p, slow, (m, v, outer) in zip(parameters, phi, self.memory, strict=True):
            if method == "outer-nesterov":
                outer.mul_(s.outer_momentum).add_(p - slow)
                slow.add_(s.outer_rate * (p - slow + s.outer_momentum * outer))
            else:
                slow.copy_((1 - s.alpha) * slow + s.alpha * p)
                if s.inner_state == "interpolate":  # what the momentum was after the last pull
                    outer.copy_((1 - s.alpha) * outer + s.alpha * m)
                    m.copy_(outer)
                if s.inner_state == "reset":
                    m.zero_(), v.zero_()
            p.copy_(slow)

    def copy_buffers(self):
        return [b.clone() for b in self.model.buffers()]

    def look(self, weights, images, labels, buffers=None):
        """Loss and accuracy at weights; BatchNorm's statistics those given, or estimated anew."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p, value in zip(model.parameters(), weights, strict=True):
                p.copy_(value)
            if buffers is not None:
                for b, value in zip(model.buffers(), buffers, strict=True):
                    b.copy_(value)
            else:
                for layer in model.modules():
                    if isinstance(layer, nn.BatchNorm2d):
                        layer.reset_running_stats()
                        layer.momentum = None
                model.train()
                for batch in self.data.norm:
                    model(batch)
            model.eval()
            outputs = model(images)
        loss = functional.cross_entropy(outputs, labels)
        return float(loss), float((outputs.argmax(1) == labels).float().mean())


def forget(iterates, beta):
    """The running mean of iterates, from the first on."""
    mean = [p.clone() for p in iterates[0]]
    for weights in iterates[1:]:
        mean = [beta * m + (1 - beta) * p for m, p in zip(mean, weights, strict=True)]
    return mean


def mean_of(iterates):
    return [torch.stack(ps).mean(0) for ps in zip(*iterates, strict=True)]


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
