"""Kernels on continuations against a dull loop, what is measured against gradients that are kept, and
the slope on tables whose truth is known.
"""

from dataclasses import replace
from types import SimpleNamespace

import dull_trajectories as dull
import numpy as np
import pandas as pd
import pytest
from dull_trajectories import LAST, NET, SEED

from replicate import claims, datasets, paths, problems
from replicate.claims import Decided
from replicate.claims.contrasts import Contrast
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import _branches, _hessian, optimal_kernel
from replicate.training import load_tensor_file

SOURCE = Source("sandler2023trajectories")
KAPPA, NOISE = np.array([6.0, 0.5]), np.array([0.2, 0.1])


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(autouse=True)
def three_channels(monkeypatch, images):
    monkeypatch.setattr(datasets, "load", lambda name: images)
    monkeypatch.setattr(optimal_kernel, "CONTINUATIONS", 2)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Where the main run left its states."""
    return dull.leave_states(NET, images, tmp_path_factory.mktemp("main"))


def test_every_arm_is_that_of_a_dull_loop(images, folder, monkeypatch):
    monkeypatch.setattr(optimal_kernel, "_measure", lambda main, weights: (KAPPA, NOISE))
    rows = optimal_kernel.try_kernels(NET, {"seed": SEED}, folder, [folder], "cpu")
    table, data, model = dull.rows_by(rows, "continuation", "k", "arm"), dull.batches(images), dull.net(images)  # fmt: skip
    momenta = [0 * p.detach() for p in model.parameters()]
    origin = dull.walk(data, model, dull.main_rate, LAST, momenta=momenta)[-1]
    for i in range(2):
        dull.fill(model, origin)
        path = dull.walk(data, model, dull.main_rate, 30, lambda step, i=i: 200 + i,
                         momenta=[v.clone() for v in momenta], start=LAST)  # fmt: skip
        for k in (10, 30):
            exponential, weights = path[0], np.arange(1, k + 1) / sum(range(1, k + 1))
            for point in path[1 : k + 1]:
                exponential = exponential + min(1, 5 / k) * (point - exponential)
            best = problems.least_loss_kernel(KAPPA, NOISE, NET.lr, NET.momentum, k)
            points = {
                "raw": path[k],
                "uniform": sum(path[1 : k + 1]) / k,
                "linear": sum(w * point for w, point in zip(weights, path[1:], strict=False)),
                "exponential": exponential,
                "best": sum(w * point for w, point in zip(best, path, strict=False)),
            }
            for arm, point in points.items():
                dull.agrees(table.pop((i, k, arm)), dull.measure(images, point), ["train_loss"])
    assert not table


def test_predicted_losses_are_those_of_drawn_paths():
    """1000 runs of 20 steps along one direction, from the end of a long one."""
    k, kappa, c = 20, 3.0, 0.4
    mu, drawn = optimal_kernel.rise(k), np.random.default_rng(0)
    theta, v, ends = np.zeros(20_000), np.zeros(20_000), 0.0
    for step in range(200 + k + 1):
        if step >= 200:
            ends = ends + mu[step - 200] * theta
        v = NET.momentum * v + kappa * theta + np.sqrt(c) * drawn.standard_normal(len(v))
        theta = theta - NET.lr * v
    predicted = optimal_kernel.predict(NET, (np.array([kappa]), np.array([c])), mu)
    assert predicted == pytest.approx(kappa * (ends**2).mean() / 2, rel=0.04)


def test_noise_is_that_of_gradients_along_directions_that_settle(images, folder):
    settings = replace(NET, noise_gradients=4)
    main = _branches.Main.load(settings, SEED, "cpu")
    middle = load_tensor_file(folder / "branch-1-ends.ckpt")[0]["swa k=30"].float()
    directions = _hessian.find_directions(main, middle, settings.directions)
    model, data = dull.net(images, 0), dull.batches(images)
    kept = [dull.gradient(model, middle, data.batch(SEED, 199, step))[0] for step in range(4)]
    noise = (np.array(kept) @ directions.vectors.double().numpy().T).var(0, ddof=1)
    settles = (directions.values > 0) & (directions.values < 3.8 / NET.lr)
    kappa, c = optimal_kernel._measure(main, middle)
    np.testing.assert_allclose(kappa, directions.values[settles])
    np.testing.assert_allclose(c, noise[settles], rtol=1e-2)
    assert 0 < len(kappa)


def test_windows_are_those_that_the_run_has():
    assert optimal_kernel.list_windows(NET) == [10, 30]
    kernels = optimal_kernel.list_kernels(NET, (KAPPA, NOISE))
    assert set(kernels) == {(arm, k) for arm in optimal_kernel.ARMS for k in (10, 30)}
    assert all(len(mu) == k + 1 and mu.sum() == pytest.approx(1) for (_, k), mu in kernels.items())


def make_table(slope: float, sign: float = 1.0) -> pd.DataFrame:
    """Eight seeds, two continuations, three windows; measured gains are `slope` times predicted
    ones.
    """
    drawn, rows = np.random.default_rng(1), []
    for seed in range(8):
        for k, gain in ((10, 0.003), (30, 0.002), (100, 0.0004)):
            for i in range(2):
                level = 0.5 + 0.01 * drawn.standard_normal()
                losses = {"raw": 0.004, "uniform": 0.0035, "exponential": 0.0038, "linear": 0.0036}
                losses["best"] = 0.0035 - sign * gain
                for arm, loss in losses.items():
                    noisy = slope * loss + 0.0001 * drawn.standard_normal()
                    rows.append({"dataset": "digits", "seed": seed, "continuation": i, "k": k, "arm": arm,
                                 "train_loss": level + noisy, "predicted": loss})  # fmt: skip
    return pd.DataFrame(rows).assign(commit="", device="", setting="stand-in")


def judge(table: pd.DataFrame) -> pd.DataFrame:
    rows = [each for each in claims.load(paths.CLAIMS, "sandler2023trajectories")
            if each.experiments == ("optimal_kernel",)]  # fmt: skip
    experiment = SOURCE["optimal_kernel"]
    decided = Decided(experiment.derive_table(table), tuple(experiment.fields), experiment.measures)  # fmt: skip
    measured = claims.measure(rows, lambda names: decided)
    verdicts = claims.judge("sandler2023trajectories", rows, measured, "cpu")
    return verdicts[verdicts.role == "primary"].set_index("claim")


def test_rows_follow_the_truth():
    true, false = judge(make_table(1.0)), judge(make_table(1.0, -1.0))
    assert set(true.verdict) == {"reproduced"}
    gains = ["BEYOND-kernel.best", "BEYOND-kernel.window"]
    assert set(false.verdict[gains]) == {"contradicted"}
    assert judge(make_table(0.3)).verdict["BEYOND-kernel.slope"] == "contradicted"


def test_gains_shuffled_from_seed_to_seed_decide_nothing():
    """In every other seed the best kernel loses, or gains the opposite of what is predicted."""
    true, false = make_table(1.0), make_table(1.0, -1.0)
    odd = true.seed % 2 == 1
    gains = ["BEYOND-kernel.best", "BEYOND-kernel.window"]
    assert set(judge(true.where(~odd, false)).verdict[gains]) == {"inconclusive"}
    opposite = true.assign(train_loss=true.train_loss.where(~odd, false.train_loss))
    row = judge(opposite).loc["BEYOND-kernel.slope"]
    assert row.verdict != "reproduced" and row.low < 0 < row.high


def test_the_slope_is_that_of_its_definition():
    table = make_table(0.8)
    contrast = Contrast.read({"name": "slope of gains", "arms": ["best", "uniform"]})
    ((case, slopes),) = optimal_kernel.fit_gains(contrast, optimal_kernel.derive(table))
    seed = table[table.seed == 3]
    gained = {
        (name, k): seed[(seed.k == k) & (seed.arm == "uniform")][name].mean()
        - seed[(seed.k == k) & (seed.arm == "best")][name].mean()
        for name in ("predicted", "train_loss")
        for k in (10, 30, 100)
    }
    p, m = ([gained[name, k] for k in (10, 30, 100)] for name in ("predicted", "train_loss"))
    assert slopes[3, 0] == pytest.approx(np.polyfit(p, m, 1)[0])
    assert case == {"dataset": "digits"} and slopes.mean() == pytest.approx(0.8, rel=0.15)


def test_directions_count_as_far_as_heavy_ball_settles_in_them(monkeypatch):
    """That is where both roots of z^2 - (1 + momentum - rate kappa) z + momentum are below 1."""
    rate, momentum = 0.1, 0.5
    values = np.array([-1.0, 1.0, 29.9, 30.1])
    roots = [np.roots([1, rate * kappa - 1 - momentum, momentum]) for kappa in values]
    settled = values[[abs(pair).max() < 1 for pair in roots]]
    main = SimpleNamespace(
        settings=SimpleNamespace(lr=rate, momentum=momentum, directions=4, noise_gradients=0),
        images=None,
        device="cpu",
    )
    found = SimpleNamespace(values=values, vectors=None)
    monkeypatch.setattr(_hessian, "find_directions", lambda *_: found)
    monkeypatch.setattr(optimal_kernel.kit, "network", lambda *_: None)
    noise = SimpleNamespace(variances=np.arange(4.0))
    monkeypatch.setattr(optimal_kernel.curvature, "measure_noise", lambda *_: noise)
    kappa, variances = optimal_kernel._measure(main, None)
    assert kappa.tolist() == settled.tolist() == [1.0, 29.9] and variances.tolist() == [1.0, 2.0]
