"""What an extrapolation changes in the weights of a small ResNet with BatchNorm, against plain SGD whose
every state is kept.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_fabi2021extrapolation_networks import NET, Loop, coefficients, coloured
from torch.nn import functional

from replicate import models
from replicate.sources.fabi2021extrapolation import resolution

__all__ = ["coloured"]  # a fixture of this module, too
SETTINGS = replace(NET, steps=24, lr=0.1, batches=(16, 256))
SEED = 1


@pytest.fixture(scope="module")
def table(coloured):
    made = resolution.resolution_run(SETTINGS, {"seed": SEED}, None, [], "cpu")
    assert (made.branch == 0).all()
    return made


def keep_states(batch: int, steps: int) -> np.ndarray:
    """Every state of plain SGD, (steps + 1, parameters) float64."""
    loop = Loop(replace(SETTINGS, batch=batch), SEED)
    specification = models.Specification("resnet8", SETTINGS.width, "cifar", False)
    model = models.build(specification, loop.found.train_x.shape[1:], loop.found.classes, SEED)
    states = []
    model.train()
    for step in range(steps + 1):
        states.append(torch.cat([p.detach().double().reshape(-1) for p in model.parameters()]))
        x, y = loop.data.batch(SEED, 0, step)
        model.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= SETTINGS.lr * p.grad
    return torch.stack(states).numpy()


def extend(moves: np.ndarray, s: float) -> np.ndarray:
    """The extrapolation from the three newest of some moves, the newest last."""
    return sum(c * d for c, d in zip(coefficients(s, False), moves[:-4:-1], strict=True))


def test_lengths_and_changed_weights_after_fifty_steps(table):
    states = keep_states(SETTINGS.batch, 51)
    moves = np.diff(states[:51], axis=0)
    rows = table[table.dt.notna()].set_index("dt")
    assert set(rows.what) == {"printed", "dt"} and rows.what[SETTINGS.dt] == "printed"
    for dt, row in rows.iterrows():
        further = extend(moves, dt / SETTINGS.lr)
        assert row.s == dt / SETTINGS.lr
        length = np.linalg.norm(further) / np.linalg.norm(moves[-1])
        assert row.length == pytest.approx(length, rel=5e-3)
        now = states[50].astype(np.float32)
        changed = np.mean(now + further.astype(np.float32) != now)
        assert row.changed == pytest.approx(changed, abs=0.02)
    drawn = table[table.what == "weight"]
    assert drawn.step.tolist() == list(range(45, 52))
    bent = np.abs(np.diff(states[47:51], n=3, axis=0)[0]).argmax()
    assert drawn.weight.to_numpy() == pytest.approx(states[45:52, bent], rel=1e-3)


def test_volatility_and_the_length_of_noise(table):
    moves = np.diff(keep_states(16, 24), axis=0)
    sines = []
    for t in range(2, 24):
        along = moves[t] @ moves[t - 1] / np.linalg.norm(moves[t - 1])
        sines.append(np.sqrt(1 - (along / np.linalg.norm(moves[t])) ** 2))
    row = table[table.what == "volatility"].iloc[0]
    assert row["first"] == pytest.approx(np.mean(sines[:2]), rel=1e-3)
    assert row["last"] == pytest.approx(np.mean(sines[-2:]), rel=1e-3)
    for name, batch in {"noise": 16, "quiet": 256}.items():
        moves = np.diff(keep_states(batch, 24), axis=0)
        late = range(18, 24)  # the last quarter
        squares = [np.sum(extend(moves[: t + 1], 1.0) ** 2) for t in late]
        row = table[table.what == name].iloc[0]
        assert row.extrapolation == pytest.approx(np.mean(squares), rel=5e-3)
        predicted = 19 * np.mean([np.sum(moves[t] ** 2) for t in late])  # 3^2 + 3^2 + 1
        assert row.predicted == pytest.approx(predicted, rel=5e-3)
