"""The side-trip ends at the average: for torch's and Keras' momentum and for decoupled decay, each
with the schedule that the next simpler case would take as its control.
"""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.averaging import (
    buffer_factor,
    ema,
    equivalent_schedule,
    kernel_weights,
    swa,
    two_point,
)

KERNELS = {
    "swa": swa,
    "two-point": two_point,
    "ema": ema,
    "any": lambda k: np.arange(k + 1.0) / (k * (k + 1) / 2),
}
RATE, BETA, K, D = 0.05, 0.9, 30, 7


def noise(key: int = 0, steps: int = K) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key)).standard_normal((steps, D))


def warming(step: int) -> float:
    return RATE * min(1.0, (step + 1) / 20)


def error(end: np.ndarray, average: np.ndarray, start: np.ndarray) -> float:
    return float(np.linalg.norm(end - average) / np.linalg.norm(average - start))


def keras(gradients: np.ndarray, rates, start: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """v <- beta v - lambda g, theta <- theta + v."""
    path, v = [start], buffer
    for rate, gradient in zip(rates, gradients, strict=True):
        v = BETA * v - rate * gradient
        path.append(path[-1] + v)
    return np.array(path)


@pytest.mark.parametrize("name", KERNELS)
def test_inside_kerass_buffer_the_corrected_schedule_is_exact(name):
    mu, gradients, start, buffer = KERNELS[name](K), noise(1), noise(2, 1)[0], noise(3, 1)[0]
    average = mu @ keras(gradients, np.full(K, RATE), start, buffer)
    trips = {}
    for convention in ("torch", "keras"):
        rate = equivalent_schedule(lambda step: RATE, mu, 40, BETA, convention)
        factor = buffer_factor(mu, BETA, convention)
        path = keras(gradients, [rate(40 + i) for i in range(K)], start, factor * buffer)
        trips[convention] = error(path[-1], average, start)
    assert trips["keras"] < 1e-12 and trips["torch"] > 0.01


@pytest.mark.parametrize("name", KERNELS)
def test_outside_the_buffer_momentum_changes_nothing(name):
    mu = KERNELS[name](K)
    plain = equivalent_schedule(warming, mu, 0)
    heavy = equivalent_schedule(warming, mu, 0, momentum=BETA)
    expected = [warming(i) * w for i, w in enumerate(kernel_weights(mu))]
    assert [heavy(i) for i in range(K)] == [plain(i) for i in range(K)] == expected
    assert buffer_factor(mu, BETA, "torch") == 1.0


def decayed(updates: np.ndarray, rates, start: np.ndarray, decay: float) -> np.ndarray:
    path = [start]
    for rate, update in zip(rates, updates, strict=True):
        path.append((1 - rate * decay) * path[-1] - rate * update)
    return np.array(path)


@pytest.mark.parametrize("base", [warming, lambda step: RATE])
@pytest.mark.parametrize("decay", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("name", KERNELS)
def test_with_decoupled_decay_the_solved_schedule_is_exact(name, decay, base):
    mu, updates, start = KERNELS[name](K), noise(4), 3 + noise(5, 1)[0]
    average = mu @ decayed(updates, [base(i) for i in range(K)], start, decay)
    solved, plain = equivalent_schedule(base, mu, 0, decay=decay), equivalent_schedule(base, mu, 0)
    ends = [
        decayed(updates, [rate(i) for i in range(K)], start, decay)[-1] for rate in (solved, plain)
    ]
    errors = [error(end, average, start) for end in ends]
    assert errors[0] < 1e-12 and errors[1] > 1e-4 * decay


def test_without_decay_the_schedule_is_the_tail_sums_to_the_limit():
    rates = [equivalent_schedule(warming, ema(K), 0, decay=decay) for decay in (1e-9, 0.0)]
    np.testing.assert_allclose(*([rate(i) for i in range(K)] for rate in rates), rtol=1e-7)


class Frozen(nn.Module):
    """A loss whose gradient is known at every step, whatever the weights."""

    def __init__(self, start: np.ndarray):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(start))

    def backward(self, gradient: np.ndarray) -> None:
        self.weights.grad = torch.tensor(gradient)


@pytest.mark.parametrize("decay, exact", [(0.5, True), (0.0, False)])
def test_torchs_adamw_ends_at_its_average_under_frozen_gradients(decay, exact):
    """Adam's updates depend on gradients alone, so they are frozen too; `decay` 0 ignores AdamW's."""
    mu, gradients, start = swa(K), noise(6), 3 + noise(7, 1)[0]

    def run(rate) -> np.ndarray:
        model = Frozen(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
        path = [start]
        for i, gradient in enumerate(gradients):
            optimizer.param_groups[0]["lr"] = rate(i)
            model.backward(gradient)
            optimizer.step()
            path.append(model.weights.detach().numpy().copy())
        return np.array(path)

    average = mu @ run(warming)
    end = run(equivalent_schedule(warming, mu, 0, decay=decay))[-1]
    assert (error(end, average, start) < 1e-12) == exact


@pytest.mark.parametrize("changes, message", [
    ({"convention": "jax"}, "convention must be one of torch, keras, got 'jax'"),
    ({"momentum": 1.0}, "momentum must be in"),
    ({"decay": -0.1}, "decay at least 0"),
    ({"decay": float("nan")}, "decay at least 0"),
    ({"decay": 0.1, "momentum": 0.9, "convention": "keras"}, "has no equivalent schedule"),
    ({"mu": np.ones(3)}, "weights that sum to 1"),
])  # fmt: skip
def test_what_has_no_schedule_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        equivalent_schedule(**{"base": warming, "mu": swa(5), "start": 0} | changes)
