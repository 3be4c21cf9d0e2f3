"""The cosine of Figure 14, the rate inside the momentum buffer, and AdamW: every arm and metric
against a dull loop.
"""

import copy
import math

import dull_trajectories as dull
import numpy as np
import pytest
import torch
from dull_trajectories import LAST, NET, SEED
from torch.nn import functional

from replicate import datasets
from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import (
    _branches,
    decoupled_decay,
    figure_14,
    frozen_updates,
    momentum_inside,
)

SOURCE = Source("sandler2023trajectories")
LOSSES = ("train_loss", "train_top1", "test_loss", "top1")
KERNELS = {"two-point": two_point, "swa": swa, "ema": ema}


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(autouse=True)
def three_channels(monkeypatch, images):
    monkeypatch.setattr(datasets, "load", lambda name: images)


def mean(kernel, path):
    return sum(float(m) * theta for m, theta in zip(kernel, path, strict=True))


# Figure 14: 48 steps of a cosine, windows of 10 from steps 24 and 36.


def cosine_rate(step):
    return 4 * dull.main_rate(step) * (1 + math.cos(math.pi * step / 48)) / 2


def test_the_cosine_and_its_side_trips_are_those_of_a_dull_loop(images, tmp_path):
    end = figure_14.run_cosine(NET, {"seed": SEED}, tmp_path, [], "cpu")
    data = dull.batches(images)
    whole = dull.walk(data, dull.net(images), cosine_rate, 48)
    dull.agrees(end.iloc[0].to_dict(), dull.measure(images, whole[-1]), LOSSES, rel=5e-3)
    for branch, start in enumerate((24, 36)):
        table = figure_14.leave_cosine(
            NET, {"seed": SEED, "branch": branch}, tmp_path, [tmp_path], "cpu"
        )
        found = dull.rows_by(table, "arm", "k")
        model = dull.net(images)
        momenta = [torch.zeros_like(p) for p in model.parameters()]
        dull.walk(data, model, cosine_rate, start, momenta=momenta)
        factors = {"raw": np.ones(10), "side-trip": np.arange(10, 0, -1) / 10, "half-rate": np.full(10, 0.5)}  # fmt: skip
        ends = {}
        for arm, w in factors.items():
            net, buffers = copy.deepcopy((model, momenta))
            path = dull.walk(
                data, net, lambda step, w=w, s=start: cosine_rate(step) * w[step - s], 10, momenta=buffers, start=start,
            )  # fmt: skip
            ends[arm] = path[-1]
            if arm == "raw":
                ends["average"] = sum(path[1:]) / 10
        for arm, weights in ends.items():
            apart = {"apart": dull.distance(weights, ends["average"])}
            row = found.pop((arm, 10))
            dull.agrees(row, dull.measure(images, weights) | apart, LOSSES, rel=5e-3)
            assert row["apart"] == pytest.approx(apart["apart"], rel=1e-2, abs=1e-5)
            assert (row["start"], row["kernel"]) == (start, "swa")
            assert row["rate"] == pytest.approx(cosine_rate(start))
        assert not found


def test_a_cosine_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("replicate.progress.SAVE_SECONDS", 0)
    monkeypatch.setattr("replicate.progress.SAVE_SHARE", float("inf"))
    whole = figure_14.run_cosine(NET, {"seed": SEED}, tmp_path / "whole", [], "cpu")
    save, saved = figure_14.training.Checkpoints.save, []

    def save_and_stop(self, state, records):
        save(self, state, records)
        saved.append(state.step)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(figure_14.training.Checkpoints, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        figure_14.run_cosine(NET, {"seed": SEED}, tmp_path / "part", [], "cpu")
    again = figure_14.run_cosine(NET, {"seed": SEED}, tmp_path / "part", [], "cpu")
    assert saved[0] == 24 and again.equals(whole)
    late = "step-36.ckpt"
    assert (tmp_path / "whole" / late).read_bytes() == (tmp_path / "part" / late).read_bytes()


# Momentum inside the buffer: velocities, as Keras has them.


@pytest.fixture(scope="module")
def inside(images, tmp_path_factory):
    at = tmp_path_factory.mktemp("main")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: images)
        _branches.main_run(NET, {"seed": SEED}, at, [], "cpu")
        return momentum_inside.trip_inside(NET, {"seed": SEED}, at, [at], "cpu")


def walk_velocities(data, model, velocities, rates):
    """theta after each step of u <- beta u - lambda g, theta <- theta + u."""
    path = [dull.join(model)]
    model.train()
    for place, rate in enumerate(rates):
        images, labels = data.batch(SEED, 0, LAST + place)
        model.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for p, u in zip(model.parameters(), velocities, strict=True):
                u.mul_(NET.momentum).sub_(rate * (p.grad + NET.weight_decay * p))
                p.add_(u)
        path.append(dull.join(model))
    return path


def corrected(w, beta):
    """Factors and the buffer's factor, from the future coefficient of every gradient."""
    k = len(w)
    total = [sum(beta**j for j in range(k - i)) for i in range(k)]
    wanted = [sum(w[t] * beta ** (t - i) for t in range(i, k)) for i in range(k)]
    return np.array(wanted) / total, wanted[0] / total[0]


@pytest.mark.parametrize("name, k", [(name, k) for name in ("two-point", "swa") for k in (10, 30)])
def test_side_trips_inside_are_those_of_velocities(inside, images, name, k):
    part = inside[(inside.kernel == name) & (inside.k == k)]
    found, data, model = dull.rows_by(part, "arm"), dull.batches(images), dull.net(images)
    momenta = [torch.zeros_like(p) for p in model.parameters()]
    dull.walk(data, model, dull.main_rate, LAST, momenta=momenta)
    mu, lr = KERNELS[name](k), NET.lr
    w = kernel_weights(mu)
    other, factor = corrected(w, NET.momentum)

    def outside(factors):
        net, buffers = copy.deepcopy((model, momenta))
        return dull.walk(data, net, lambda step: lr * factors[step - LAST], k, momenta=buffers, start=LAST)  # fmt: skip

    def within(factors, inherited):
        return walk_velocities(data, copy.deepcopy(model), [-lr * inherited * v for v in momenta], lr * factors)[-1]  # fmt: skip

    raw = outside(np.ones(k))
    average = mean(mu, raw)
    ends = {
        "raw": raw[-1], "average": average, "outside": outside(w)[-1], "inside": within(w, 1.0),
        "inside, corrected": within(other, factor), "inside, buffer as it was": within(other, 1.0),
    }  # fmt: skip
    for arm, weights in ends.items():
        row = found.pop((arm,))
        dull.agrees(row, dull.measure(images, weights), LOSSES, rel=5e-3)
        assert row["to_average"] == pytest.approx(
            dull.distance(weights, average), rel=1e-2, abs=1e-5
        )
        assert row["travelled"] == pytest.approx(dull.distance(average, raw[0]), rel=1e-3)
    assert not found


# AdamW, with its decay outside the gradient.

STRONG = 10.0  # decay that 30 steps feel, so that both schedules end apart


def walk_adamw(data, model, moments, rate, start, steps, stream=0):
    """theta_start .. ; Loshchilov and Hutter 2019, algorithm 2. moments: (m, v) of each weight."""
    path = [dull.join(model)]
    model.train()
    for step in range(start, start + steps):
        images, labels = data.batch(SEED, stream, step)
        model.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for p, (m, v) in zip(model.parameters(), moments, strict=True):
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                unbiased = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                p.mul_(1 - rate(step) * STRONG)
                p.sub_(rate(step) * unbiased[0] / (unbiased[1].sqrt() + 1e-8))
        path.append(dull.join(model))
    return path


def shrunk(mu, rates):
    """The rates of the side-trip that allows for the decay: coefficients of every update in the
    average, and in the trip, solved from the last one on.
    """
    k, trip = len(mu) - 1, np.zeros(len(mu) - 1)
    for i in reversed(range(k)):
        in_average = sum(
            mu[t] * np.prod([1 - STRONG * rates[j] for j in range(i + 1, t)]) for t in range(i + 1, k + 1)
        )  # fmt: skip
        later = np.prod([1 - STRONG * trip[j] for j in range(i + 1, k)])
        trip[i] = rates[i] * in_average / later
    return trip


def test_adamws_averages_and_side_trips_are_those_of_a_dull_loop(images, tmp_path, monkeypatch):
    monkeypatch.setattr(decoupled_decay, "DECAY", STRONG)
    table = decoupled_decay.train_adamw(NET, {"seed": SEED}, tmp_path, [], "cpu")
    found, data, model = dull.rows_by(table, "arm", "kernel", "k"), dull.batches(images), dull.net(images)  # fmt: skip
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
    start, k = NET.first_branch // 2, 30
    rate = lambda step: 1e-3 * min(1.0, (step + 1) / NET.warmup)  # noqa: E731
    walk_adamw(data, model, moments, rate, 0, start)

    def trip(rates, stream=0):
        net, kept = copy.deepcopy((model, moments))
        return walk_adamw(data, net, kept, lambda step: rates[step - start], start, k, stream)

    flat = np.full(k, 1e-3)
    raw = trip(flat)
    ends = {("raw", ""): raw[-1], ("constant-rate", ""): trip(flat, stream=1)[-1]}
    for name in KERNELS:
        mu = KERNELS[name](k)
        ends["average", name] = mean(mu, raw)
        ends["table-1", name] = trip(flat * kernel_weights(mu))[-1]
        ends["side-trip", name] = trip(shrunk(mu, flat))[-1]
    for (arm, name), weights in ends.items():
        row = found.pop((arm, name, k))
        average = ends["average", name] if name else raw[0]
        dull.agrees(row, dull.measure(images, weights), LOSSES, rel=5e-3)
        assert row["to_average"] == pytest.approx(
            dull.distance(weights, average), rel=1e-2, abs=1e-5
        )
        assert row["travelled"] == pytest.approx(dull.distance(average, raw[0]), rel=1e-3)
    assert not found


def test_with_frozen_updates_the_corrected_schedule_is_exact_and_table_1_is_not():
    table = frozen_updates.frozen_updates(SOURCE["frozen_updates"].settings["quadratic"])
    assert len(table) == 9 and (table.value < 1e-12).all() and (table.control > 5e-6).all()
    longest = table[table.case == "quadratic two-point k=1000"].control.iloc[0]
    assert longest == pytest.approx(0.025, rel=0.05)  # lambda d k / 4 of 0.1, for half of the way


def test_an_error_is_that_of_a_run_with_two_updates():
    """theta_0 = a, updates u_0, u_1 at rate r and shrink s a step, by hand; Table 1's factors are 1
    and 1/2.
    """
    generator = frozen_updates.rng(0, "eval", 2)
    a, u = generator.standard_normal(50), generator.standard_normal((2, 50))
    s, r = 1e-4, 1e-3
    first = (1 - s) * a - r * u[0]
    average = (first + (1 - s) * first - r * u[1]) / 2
    end = (1 - s / 2) * first - r / 2 * u[1]
    expected = np.linalg.norm(end - average) / np.linalg.norm(average - a)
    assert expected == pytest.approx(frozen_updates._find_error(swa(2), 0.0), abs=1e-13)
    in_two = (a + (1 - s) * first - r * u[1]) / 2
    end = (1 - s / 2) * ((1 - s / 2) * a - r / 2 * u[0]) - r / 2 * u[1]
    expected = np.linalg.norm(end - in_two) / np.linalg.norm(in_two - a)
    assert expected > 1e-5
    assert frozen_updates._find_error(two_point(2), 0.0) == pytest.approx(expected, rel=1e-6)
