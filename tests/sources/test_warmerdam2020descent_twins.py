"""Figures, mini-batches, tests of few rows and clocks against loops written out over rows in NumPy."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from replicate import descent, paths, training
from replicate.app import registry
from replicate.sources.warmerdam2020descent import _tasks, break_even, overfit, shares, solvers
from replicate.streams import rng

SOURCE = registry.source("warmerdam2020descent")
STARTED = ("SGD", "ADAM", "KS_50_0 published", "KS_50_2 published", "KS_50_2 corrected", "KS_50_2 rollback",
           "KV_10 published", "KV_10 corrected")  # fmt: skip
TINY = replace(
    SOURCE.presets["smoke"]["figure9"],
    rows=40, tuning_rows=20, columns=3, width=2, maps=3, lr=0.02, steps=12, walk_gradients=6, seeds=(0, 3), batches=(8,),
    grid=(0.003, 0.01, 0.03, 0.1), arms=STARTED, tuned=("SGD", "ADAM", "KS_50_2 corrected", "KV_10 corrected"),
)  # fmt: skip
PRICES = {
    "forward": 1.0,
    "check": 0.625,
    "printed check": 1.5,
    "backward": 2.25,
    "step": 0.125,
    "adam": 0.25,
}
POINTS = 21


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")


def say_prices(model, x, y, repeats) -> dict[str, np.ndarray]:
    """A clock whose median is PRICES, and twice that of the same work again."""
    twice = PRICES | {f"{part} again": 2 * price for part, price in PRICES.items()}
    return {part: np.array([9.0, 1.0, 0.5]) * price for part, price in twice.items()}


@pytest.fixture
def prices(monkeypatch):
    monkeypatch.setattr(training.full_batch, "clock", say_prices)


@dataclass
class Task:
    """A linear net over rows, with its passes counted. dims: its widths; flat: torch's layout."""

    dims: tuple
    x: np.ndarray
    y: np.ndarray
    gradients: int = 0
    checks: int = 0
    updates: int = 0
    history: list = field(default_factory=list)

    def maps(self, flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        pieces = []
        for inputs, outputs in itertools.pairwise(self.dims):
            w, b, flat = np.split(flat, [inputs * outputs, inputs * outputs + outputs])
            pieces.append((w.reshape(outputs, inputs), b))
        return pieces

    def loss(self, flat: np.ndarray) -> float:
        z = self.x
        for w, b in self.maps(flat):
            z = z @ w.T + b
        return float(np.mean((z[:, 0] - self.y) ** 2))

    def check(self, flat: np.ndarray) -> float:
        self.checks += 1
        return self.loss(flat)

    def gradient(self, flat: np.ndarray) -> np.ndarray:
        self.gradients += 1
        z = [self.x]
        for w, b in self.maps(flat):
            z.append(z[-1] @ w.T + b)
        delta, parts = 2 * (z[-1] - self.y[:, None]) / len(self.y), []
        for (w, _), before in zip(reversed(self.maps(flat)), reversed(z[:-1]), strict=True):
            parts.append(np.concatenate([(delta.T @ before).ravel(), delta.sum(0)]))
            delta = delta @ w
        return np.concatenate(parts[::-1])

    def note(self, flat: np.ndarray) -> None:
        self.history.append((self.loss(flat), self.gradients, self.checks, self.updates))


class Loop:
    """One of the post's optimizers, line by line."""

    def __init__(self, name: str, lr: float):
        self.name, _, self.variant = name.partition(" ")
        self.lr, self.m, self.v, self.t = lr, 0.0, 0.0, 0
        parts = self.name.split("_")
        self.most = int(parts[1]) if len(parts) > 1 else 0
        self.scale_i = float(parts[2]) if len(parts) > 2 else 0.0

    def step(self, w: np.ndarray, task: Task) -> np.ndarray:
        loss, g = task.loss(w), task.gradient(w)
        kind = self.name.split("_")[0]
        return {"SGD": self.sgd, "ADAM": self.adam, "KS": self.walk, "KV": self.vault}[kind](
            w, g, loss, task
        )

    def sgd(self, w, g, loss, task):
        task.updates += 1
        return w - self.lr * g

    def adam(self, w, g, loss, task):
        task.updates += 1
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return w - self.lr * m / (np.sqrt(v) + 1e-8)

    def walk(self, w, g, loss, task):
        if self.variant == "published":
            old = task.check(w)
            w = w - self.lr * g
            task.updates += 1
            new, i = task.check(w), 0
            while new < old and i < self.most:
                scale = -self.lr * self.scale_i * np.sqrt(i)
                w = w + (-self.lr - scale) * g
                task.updates += 1
                old, new, i = new, task.check(w), i + 1
            return w
        old = loss
        for i in range(self.most):
            there = w - self.lr * (1 + self.scale_i * np.sqrt(i)) * g
            task.updates += 1
            new = task.check(there)
            if not new < old:
                return w if self.variant == "rollback" else there
            w, old = there, new
        return w

    def vault(self, w, g, loss, task):
        if self.variant == "published":
            old = task.check(w)
            w = w - self.lr * g
            task.updates += 1
            new, i = task.check(w), 0
            while new < old and i < self.most:
                f1 = (new - old) / self.lr
                f2 = (new - f1) / self.lr
                w = w - self.lr * (-f2 / f1 * self.lr) * g
                task.updates += 1
                old, new, i = new, task.check(w), i + 1
            return w
        slope, t, best, lowest = self.lr * g @ g, 1.0, 0.0, loss
        for _ in range(self.most):
            new = task.check(w - t * self.lr * g)
            task.updates += 1
            if new < lowest:
                best, lowest = t, new
            elif best > 0:
                break
            # The parabola through (0, loss) with that slope and (t, new).
            above = new - loss + slope * t
            wanted = slope * t**2 / (2 * above) if above > 0 else np.inf
            if abs(wanted - t) <= 0.1 * t:
                break
            t = min(max(wanted, t / 10), 10 * t)
        return w - best * self.lr * g


def run(name: str, lr: float, seed: int, settings, start=None, rows=None) -> np.ndarray:
    """Losses and counts before each step, (steps + 1, 4), for as long as any budget lasts."""
    data = _tasks.draw_rows(settings, seed, rows or settings.rows)
    net = descent.Net(settings.dims)
    task, loop = Task(settings.dims, data.x.T, data.y), Loop(name, lr)
    w = descent.initial_weights(net, seed) if start is None else start
    with np.errstate(over="ignore", invalid="ignore"):
        task.note(w)
        while len(task.history) <= 3 * settings.steps:
            w = loop.step(w, task)
            task.note(w)
    return np.array(task.history)


def costs(history: np.ndarray, name: str) -> dict[str, np.ndarray]:
    _, gradients, checks, updates = history.T
    check = PRICES["printed check"] if "published" in name else PRICES["check"]
    update = PRICES["adam"] if name == "ADAM" else PRICES["step"]
    seconds = (
        gradients * (PRICES["forward"] + PRICES["backward"]) + checks * check + updates * update
    )
    return {
        "gradients": gradients,
        "forward-equivalents": 3 * gradients + checks,
        "modelled seconds": seconds,
    }


def budgets(settings) -> dict[str, float]:
    step = PRICES["forward"] + PRICES["backward"] + PRICES["adam"]
    return {"gradients": settings.walk_gradients, "forward-equivalents": 3 * settings.steps,
            "modelled seconds": step * settings.steps}  # fmt: skip


def sampled(history: np.ndarray, cost: np.ndarray, budget: float) -> list[float]:
    """log10 of the loss over the first, of the newest step paid for, at each share of a budget; 2
    from the first loss on that is not finite, and at most.
    """
    lost = np.cumsum(~np.isfinite(history[:, 0])) > 0
    logs = np.log10(np.where(lost, 100 * history[0, 0], history[:, 0]) / history[0, 0]).clip(-10, 2)
    shares = [budget * share / (POINTS - 1) for share in range(POINTS)]
    return [
        float(logs[max(i for i in range(len(cost)) if cost[i] <= place + 1e-9)]) for place in shares
    ]


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        patch.setenv("REPLICATE_JOBS", "1")
        patch.setattr(training.full_batch, "clock", say_prices)
        yield SOURCE["figure_9"](TINY)


def part_of(
    table: pd.DataFrame, arm: str, rate: str, seed: int, start: str = "source"
) -> pd.DataFrame:
    chosen = (
        (table.arm == arm) & (table.rate == rate) & (table.seed == seed) & (table.start == start)
    )
    assert chosen.sum() == 3 * POINTS
    return table[chosen]


def differences(part: pd.DataFrame, history: np.ndarray, name: str) -> list[str]:
    """The axes on which a run's rows have another budget or other losses than the loop's history,
    and "price again" unless that is twice the price.
    """
    cost, budget = costs(history, name), budgets(TINY)
    differ = []
    for axis, rows in part.groupby("axis"):
        losses = sampled(history, cost[axis], budget[axis])
        if set(rows.budget) != {budget[axis]} or not np.allclose(rows.loss, losses, 1e-7, 1e-7):
            differ.append(axis)
    return differ + ["price again"] * (
        not np.allclose(part["price again"], 2 * part.price, 1e-7, 0)
    )


@pytest.mark.parametrize("name", STARTED)
def test_an_arm_at_the_source_s_rate_is_the_printed_loop(figure, name):
    for seed in TINY.seeds:
        part = part_of(figure, name, "source", seed)
        assert differences(part, run(name, TINY.lr, seed, TINY), name) == []


def height(name: str, lr: float, seed: int) -> float:
    history = run(name, lr, seed, TINY, rows=TINY.tuning_rows)
    budget = budgets(TINY)["forward-equivalents"]
    return float(np.mean(sampled(history, costs(history, name)["forward-equivalents"], budget)))


@pytest.mark.parametrize("name", TINY.tuned)
def test_a_tuned_arm_runs_at_the_best_rate_of_another_seed_and_at_its_neighbours(figure, name):
    grid = TINY.grid
    for seed in TINY.seeds:
        heights = [height(name, lr, 1000 + seed) for lr in grid]
        best = int(np.argmin(heights))
        wider = [grid[0] ** 2 / grid[1], *grid, grid[-1] ** 2 / grid[-2]]
        for rate, place in (("tuned", 0), ("tuned lower", -1), ("tuned higher", 1)):
            part = part_of(figure, name, rate, seed)
            np.testing.assert_allclose(part.lr, wider[best + 1 + place], err_msg=rate)
            assert set(part.at_edge) == {int(best in (0, len(grid) - 1))}
            assert differences(part, run(name, wider[best + 1 + place], seed, TINY), name) == []


def test_the_plain_enlarger_and_the_start_without_a_plateau(figure):
    for seed in TINY.seeds:
        enlarged = part_of(figure, "SGD", "enlarged", seed)
        assert differences(enlarged, run("SGD", 10 * TINY.lr, seed, TINY), "SGD") == []
        flat = _tasks.orthogonal_start(TINY, seed)
        for name in ("SGD", "ADAM", "KS_50_2 published"):
            history = run(name, TINY.lr, seed, TINY, start=flat)
            part = part_of(figure, name, "source", seed, "orthogonal")
            assert differences(part, history, name) == []
    kept = figure[(figure.rate != "source") & (figure.start == "orthogonal")]
    assert kept.empty and (figure[~figure.rate.str.startswith("tuned")].at_edge == 0).all()


# Mini-batches.


def walked_on_batches(settings, size: int, seed: int, checks: str) -> tuple[float, float]:
    """Bias and log loss of a corrected walk, over rows."""
    data = _tasks.draw_rows(settings, seed, settings.rows)
    whole = Task(settings.dims, data.x.T, data.y)
    model = _tasks.make_torch_task(settings, seed)[2]
    w = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]).astype(float)
    first, spent, found = whole.loss(w), 0, []
    for gradient_rows, checked in minibatch_order(settings, size, seed, checks):
        own = Task(settings.dims, data.x.T[gradient_rows], data.y[gradient_rows])
        other = Task(settings.dims, data.x.T[checked], data.y[checked])
        before = whole.loss(w), own.loss(w)
        g = own.gradient(w)
        old, more = (own.loss(w), 0) if checks == "same" else (other.loss(w), 1)
        for i in range(50):
            w = w - settings.lr * (1 + 2 * np.sqrt(i)) * g
            new, more = other.loss(w), more + 1
            if not new < old:
                break
            old = new
        found.append((before[1] - own.loss(w)) - (before[0] - whole.loss(w)))
        spent += 3 + more
        if spent >= 3 * settings.steps:
            break
    return float(np.mean(found[len(found) // 2 :])), float(np.log10(whole.loss(w) / first))


def minibatch_order(settings, size, seed, checks):
    for t in range(settings.steps):
        own = rng(seed, "order", t, 0).permutation(settings.rows)[:size]
        yield (
            own,
            (
                rng(seed, "order", t, 1).permutation(settings.rows)[:size]
                if checks == "fresh"
                else own
            ),
        )


def test_walks_on_mini_batches_are_a_loop_over_rows(build):
    settings = replace(
        SOURCE.presets["smoke"]["minibatch"], rows=40, columns=3, width=2, maps=3, lr=0.02, steps=12, batches=(8, 40),
        seeds=(0, 3), tuning_rows=20,
    )  # fmt: skip
    table = SOURCE["minibatches"](settings)
    assert len(table) == 2 * 3
    for row in table.itertuples():
        bias, loss = walked_on_batches(settings, row.batch, row.seed, row.checks)
        assert (row.bias, row.loss) == (
            pytest.approx(bias, abs=2e-5),
            pytest.approx(loss, abs=1e-5),
        )
    biased = table[(table.batch == 8) & (table.checks == "same")].bias
    assert (biased > 0.01).all() and table[table.batch == 40].bias.abs().max() < 1e-5


def test_cosines_of_mini_batches_are_those_of_sgd_on_its_way(build):
    settings = replace(
        SOURCE.presets["smoke"]["minibatch"], rows=40, columns=3, width=2, maps=3, lr=0.05, steps=9, batches=(8,),
        seeds=(1,), tuning_rows=20,
    )  # fmt: skip
    (cosine,) = set(SOURCE["minibatches"](settings).cosine)
    data = _tasks.draw_rows(settings, 1, 40)
    w = np.concatenate(
        [p.detach().numpy().ravel() for p in _tasks.make_torch_task(settings, 1)[2].parameters()]
    )
    gradients = []
    for own, _ in minibatch_order(settings, 8, 1, "same"):
        gradients.append(Task(settings.dims, data.x.T[own], data.y[own]).gradient(w.astype(float)))
        w = w - 0.05 * gradients[-1]
    dull = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.pairwise(gradients)]
    assert cosine == pytest.approx(np.mean(dull), abs=1e-4)


# Few rows and a test set; the direction.


def test_few_rows_are_fitted_at_half_a_decade_below_the_tuned_rate(build):
    settings = replace(
        SOURCE.presets["smoke"]["overfit"], rows=30, columns=3, width=2, maps=2, steps=200, seeds=(0,), batches=(30,),
        grid=(0.01, 0.03, 0.1), tuning_rows=30, test_rows=50,
    )  # fmt: skip
    table = SOURCE["overfit"](settings)
    assert list(table.arm.unique()) == list(overfit.COMPARED_METHODS)
    data, seen = _tasks.draw_rows(settings, 0, 30), _tasks.draw_rows(settings, 2**31, 50)
    train, test = (Task(settings.dims, rows.x.T, rows.y) for rows in (data, seen))
    design = np.column_stack([data.x.T, np.ones(30)])
    least = np.mean((design @ np.linalg.lstsq(design, data.y, rcond=None)[0] - data.y) ** 2)
    ended = 0
    for row in table.itertuples():
        tuned = table[(table.arm == row.arm) & (table.rate == "tuned")].lr.iloc[0] * 10**0.5
        assert min(abs(tuned / lr - 1) for lr in settings.grid) < 1e-9
        w, loop, t = (
            descent.initial_weights(descent.Net(settings.dims), 0),
            Loop(row.arm, row.lr),
            0,
        )
        while t < settings.steps and train.loss(w) > 1.1 * least:
            w, t = loop.step(w, train), t + 1
        if train.loss(w) <= 1.1 * least:
            ended += 1
            assert row.train == pytest.approx(train.loss(w) / least, rel=1e-6)
            assert row.test == pytest.approx(test.loss(w), rel=1e-6)
        else:
            assert np.isnan(row.train) and np.isnan(row.test)
    assert ended >= 3


def test_cosines_are_those_of_successive_gradients_tenth_by_tenth(build):
    settings = replace(TINY, steps=20, lr=0.05, arms=("SGD",), tuned=("SGD",), seeds=(2,))
    table = SOURCE["directions"](settings)
    heights = [height_at(lr, settings) for lr in settings.grid]
    best = settings.grid[int(np.argmin(heights))]
    for rate, lr in (("source", 0.05), ("tuned", best)):
        data = _tasks.draw_rows(settings, 2, settings.rows)
        task, w = (
            Task(settings.dims, data.x.T, data.y),
            descent.initial_weights(descent.Net(settings.dims), 2),
        )
        gradients = []
        for _ in range(21):
            gradients.append(task.gradient(w))
            w = w - lr * gradients[-1]
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.pairwise(gradients)
        ]
        dull = np.reshape(cosines, (10, 2)).mean(1)
        np.testing.assert_allclose(
            table[table.rate == rate].sort_values("tenth").cosine, dull, atol=1e-7
        )
    source = table[table.rate == "source"].set_index("tenth").cosine
    assert source[0] != pytest.approx(source[9], abs=1e-6)


def height_at(lr: float, settings) -> float:
    history = run("SGD", lr, 1002, settings, rows=settings.tuning_rows)
    return float(np.mean(sampled(history, 3 * history[:, 1], 3 * settings.steps)))


# Clocks.


def test_shares_are_medians_of_what_the_clock_says_of_both_turns(build, prices):
    table = SOURCE["shares"](replace(TINY, blocks=2, tuned=("SGD",), arms=("SGD",)))
    found = shares.derive(table)
    assert found["check"].tolist() == [0.625] * 2 and found["check again"].tolist() == [1.25] * 2
    assert found.gradient.tolist() == [3.25] * 2 and found["gradient again"].tolist() == [6.5] * 2
    assert found.loop.tolist() == [3.375] * 2 and found["loop with Adam"].tolist() == [3.5] * 2


def test_a_check_is_worth_its_price_and_the_update_s(build, prices, monkeypatch):
    """r = (check + update) / (forward + backward + update); the loops on both sides of a walk count."""
    taken = iter([4.0, 1.0, 6.0, 8.0, 2.0, 12.0, 3.0, 0.5, 5.0])
    asked = []
    monkeypatch.setattr(
        break_even, "seconds_per_step", lambda *given: asked.append(given[4]) or next(taken)
    )
    table = SOURCE["break_even"](replace(TINY, blocks=1, tuned=("SGD",), arms=("SGD",)))
    assert asked == [0, 2, 0, 0, 8, 0, 0, 32, 0]
    r = (0.625 + 0.125) / (1.0 + 2.25 + 0.125)
    assert table.r.tolist() == pytest.approx([r] * 3)
    assert table.predicted.tolist() == pytest.approx([j / (1 + r * j) for j in (2, 8, 32)])
    assert table.measured.tolist() == [5.0, 5.0, 8.0]
    assert table.plain.tolist() == [4, 8, 3] and table["plain again"].tolist() == [6, 12, 5]


def test_a_solver_s_seconds_are_the_median_of_its_repeats_and_small_steps_are_counted(
    build, monkeypatch
):
    given = {}

    def clock(x, y, lr, repeats, dtype, beside):
        given.update(x=x, lr=lr, jobs=set(beside), dtype=dtype)
        names = [*solvers.IN_JAX, *beside, "newton as printed again"]
        return {name: np.array([90.0, 2.0, 1.0]) * (i + 1) for i, name in enumerate(names)}

    monkeypatch.setattr(descent, "regression_seconds", clock)
    settings = replace(
        SOURCE.presets["smoke"]["regression"], rows=200, columns=3, seeds=(4,), tuning_rows=100
    )
    table = SOURCE["solvers"](settings).set_index("solver")
    assert table.seconds[["loss", "gradient", "step", "newton", "newton as printed"]].tolist() == [
        2,
        4,
        6,
        8,
        10,
    ]
    assert table.seconds["lapack"] == 2 * 8 and table.seconds["newton as printed again"] == 2 * 9
    assert (
        given["jobs"] == {"scikit-learn", "normal equations", "lapack"}
        and given["lr"] == settings.lr
    )
    data, start = descent.regression(200, 3, 4), descent.regression_start(3, 4)
    for name, lr in (("gradient descent", settings.lr), ("gradient descent at 1/2", 0.5)):
        w, count = start, 0
        first = np.mean((data.x @ w - data.y) ** 2)
        while np.mean((data.x @ w - data.y) ** 2) > 1e-9 * first:
            w, count = w - lr * 2 * data.x.T @ (data.x @ w - data.y) / 200, count + 1
        assert table.seconds[name] == count * (4 + 6)
    assert table["drop"][["scikit-learn", "normal equations", "lapack"]].max() < -9
    assert table["drop"].drop(["scikit-learn", "normal equations", "lapack"]).isna().all()
    assert (table["newton drop"] < -8).all()


def test_neighbours_are_left_out_where_nobody_asks_for_them(build, prices):
    settings = replace(TINY, neighbours=False, seeds=(0,), arms=("SGD",), tuned=("SGD",))
    assert set(SOURCE["figure_9"](settings).rate) == {"source", "tuned", "enlarged"}
