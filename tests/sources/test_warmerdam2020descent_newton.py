"""Newton's method on nets against loops over rows in torch: every arm, every metric."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from replicate import descent, paths
from replicate.app import registry
from replicate.sources.warmerdam2020descent import _tasks

SOURCE = registry.source("warmerdam2020descent")
STEPS = 30  # of a second-order method
TINY = replace(
    SOURCE.presets["smoke"]["overfit"], rows=30, columns=3, width=2, maps=2, steps=60, seeds=(4,), batches=(30,),
    grid=(0.003, 0.01, 0.03, 0.1), tuning_rows=30, test_rows=50,
)  # fmt: skip


@pytest.fixture(scope="module", params=["linear", "relu"])
def case(request, tmp_path_factory):
    """(settings, table of the experiment)."""
    settings = replace(TINY, activation=request.param, columns=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        patch.setenv("REPLICATE_JOBS", "1")
        yield settings, SOURCE["newton_on_nets"](settings)


class Net:
    """The settings' net in torch, in double precision, at the starting weights of seed 4."""

    def __init__(self, settings):
        widths = settings.dims
        self.shapes = [s for i, o in zip(widths, widths[1:]) for s in ((o, i), (o,))]
        self.relu = settings.activation == "relu"
        start = descent.initial_weights(_tasks.net_of(settings), 4)
        self.start = torch.tensor(start, dtype=torch.float64)
        self.train, self.test = (
            [
                torch.tensor(each, dtype=torch.float64)
                for each in _tasks.draw_rows(settings, seed, count)
            ]
            for seed, count in ((4, 30), (4 + 2**31, 50))
        )

    def residuals(self, w, rows):
        x, y = rows
        pieces = [
            p.reshape(s)
            for p, s in zip(w.split([int(np.prod(s)) for s in self.shapes]), self.shapes)
        ]
        hidden = pieces[0] @ x + pieces[1][:, None]
        hidden = hidden.clamp(min=0) if self.relu else hidden
        return (pieces[2] @ hidden + pieces[3][:, None])[0] - y

    def loss(self, w, rows):
        return (self.residuals(w, rows) ** 2).mean()

    def gradient(self, w):
        return torch.autograd.functional.jacobian(lambda v: self.loss(v, self.train), w)

    def hessian(self, w):
        return torch.autograd.functional.hessian(lambda v: self.loss(v, self.train), w)

    def gauss_newton(self, w):
        jacobian = torch.autograd.functional.jacobian(lambda v: self.residuals(v, self.train), w)
        return 2 * jacobian.T @ jacobian / 30


def walk_by_gradients(net, arm, lr, steps):
    w = net.start.clone().requires_grad_()
    kind = {"SGD": torch.optim.SGD, "ADAM": torch.optim.Adam}[arm]
    optimizer, points = kind([w], lr=lr), [net.start]
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss(w, net.train).backward()
        optimizer.step()
        points.append(w.detach().clone())
    return points, np.arange(steps + 1.0)


def walk_damped(net, curvature, steps=STEPS):
    """Levenberg's and Marquardt's walk; it stops where no damping lowers the loss."""
    points, paid, mu = [net.start], [0.0], None
    for _ in range(steps):
        w, matrix = points[-1], curvature(points[-1])
        mu = 1e-3 * float(matrix.diagonal().abs().max()) if mu is None else mu
        cost = 1 + 2 * len(w)
        for _ in range(30):
            new = w - torch.linalg.solve(matrix + mu * torch.eye(len(w)), net.gradient(w))
            cost += 1 / 3
            if net.loss(new, net.train) < net.loss(w, net.train):
                mu /= 10
                break
            mu *= 10
        else:
            return points, np.array(paid)
        points.append(new)
        paid.append(paid[-1] + cost)
    return points, np.array(paid)


def measure(net, points, paid):
    """first, train, test, overfit and price, written out."""
    train, test = (
        np.array([float(net.loss(w, rows)) for w in points]) for rows in (net.train, net.test)
    )
    logs, tests = (np.clip(np.log10(each / each[0]), -10, 2) for each in (train, test))
    reached = [cost for log, cost in zip(logs, paid) if log <= -2]
    price = np.log10(reached[0]) if reached else np.nan
    return {
        "first": logs[1],
        "train": logs[-1],
        "test": tests[-1],
        "overfit": tests[-1] - min(tests),
        "price": price,
    }


def row_of(table, arm, rate="tuned"):
    return table[(table.arm == arm) & (table.rate == rate)].iloc[0]


@pytest.mark.parametrize("rate", ["tuned", "tuned lower"])  # the higher one swings without end
@pytest.mark.parametrize("arm", ["SGD", "ADAM"])
def test_first_order_arms_are_plain_loops(case, arm, rate):
    settings, table = case
    net, row = Net(settings), row_of(table, arm, rate)
    dull = measure(net, *walk_by_gradients(net, arm, row.lr, settings.steps))
    for name, value in dull.items():
        close = 1e-6 if settings.activation == "linear" else 2e-3  # with ReLU the rows are float32
        assert row[name] == pytest.approx(value, abs=close, nan_ok=True), name


@pytest.mark.parametrize("arm", ["DAMPED", "GAUSS-NEWTON"])
def test_damped_arms_are_plain_loops(case, arm):
    settings, table = case
    net, row = Net(settings), row_of(table, arm)
    curvature = net.hessian if arm == "DAMPED" else net.gauss_newton
    dull = measure(net, *walk_damped(net, curvature))
    for name in ("first", "train", "test", "overfit", "price"):
        assert row[name] == pytest.approx(dull[name], abs=5e-3, nan_ok=True), name


def test_newton_s_first_step_is_the_pseudo_inverse_s(case):
    settings, table = case
    net = Net(settings)
    step = torch.linalg.pinv(net.hessian(net.start), rtol=1e-14, hermitian=True) @ net.gradient(
        net.start
    )
    ratio = float(net.loss(net.start - step, net.train) / net.loss(net.start, net.train))
    assert row_of(table, "NEWTON")["first"] == pytest.approx(
        np.clip(np.log10(ratio), -10, 2), abs=1e-4
    )


def test_the_regression_ends_where_least_squares_does(case):
    settings, table = case
    rows = _tasks.draw_rows(settings, 4, 30)
    design = np.vstack([rows.x, np.ones(30)]).T
    least = np.mean((design @ np.linalg.lstsq(design, rows.y, rcond=None)[0] - rows.y) ** 2)
    start = descent.initial_weights(descent.Net((3, 1)), 4)
    first = np.mean((design @ start - rows.y) ** 2)
    row = row_of(table, "REGRESSION")
    assert row["first"] == row["train"] == pytest.approx(np.log10(least / first), abs=1e-6)


def test_a_method_without_a_rate_stands_under_each(case):
    _, table = case
    for arm in ("NEWTON", "DAMPED", "GAUSS-NEWTON", "REGRESSION"):
        rows = table[table.arm == arm]
        assert sorted(rows.rate) == ["tuned", "tuned higher", "tuned lower"]
        assert rows.lr.isna().all() and (rows.at_edge == 0).all()
    tuned = table[table.arm.isin(["SGD", "ADAM"]) & (table.rate == "tuned")]
    assert isinstance(tuned, pd.DataFrame) and set(tuned.lr) <= set(TINY.grid)
