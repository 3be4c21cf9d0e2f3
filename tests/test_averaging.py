"""Averages are schedules: exactly, in float64, for any kernel, through the real training loop."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from replicate.averaging import (
    KernelAverages,
    ema,
    equivalent_schedule,
    kernel_weights,
    recompute_batch_norm,
    swa,
    two_point,
)
from replicate.optim import SGD
from replicate.training import State, branch, flat_weights, steps
from replicate.training.schedules import constant, cosine

KERNELS = {"swa": swa(30), "two-point": two_point(30), "ema": ema(30, 0.2), "any": np.linspace(1, 3, 31) / 62}


@pytest.mark.parametrize("mu", KERNELS.values(), ids=KERNELS)
def test_tail_sums_are_what_an_average_leaves_of_each_step(mu):
    path = np.random.default_rng(0).standard_normal((len(mu), 5)).cumsum(0)
    w = np.array([mu[t + 1 :].sum() for t in range(len(mu) - 1)])
    assert np.abs(kernel_weights(mu) - w).max() < 1e-14
    assert np.abs(mu @ path - (path[0] + w @ np.diff(path, axis=0))).max() < 1e-12


def test_the_three_kernels_are_the_rows_of_table_1():
    k, delta, i = 12, 0.3, np.arange(12)
    assert np.allclose(kernel_weights(swa(k)), (k - i) / k, atol=1e-15)  # (k + 1 - i) / k with i = 1..k
    assert np.allclose(kernel_weights(two_point(k)), 0.5, atol=1e-15)
    assert np.allclose(kernel_weights(ema(k, delta)), 1 - (1 - delta) ** (k - i), atol=1e-15)
    assert np.array_equal(ema(10), ema(10, 0.5))


def test_an_ema_kernel_is_the_recursion_begun_at_the_start():
    path, average = np.random.default_rng(1).standard_normal(21), None
    for theta in path:
        average = theta if average is None else 0.9 * average + 0.1 * theta
    assert ema(20, 0.1) @ path == pytest.approx(average, rel=1e-13)


class FrozenGradients:
    """Data whose loss is linear in the weights, so that each step's gradient is the same wherever it is taken."""

    def batch(self, seed, stream, step):
        """A random direction for this step, and nothing to compare with."""
        draw = np.random.default_rng([seed, stream, step]).standard_normal(7)
        return torch.from_numpy(draw), torch.zeros(())

    @staticmethod
    def loss(outputs, targets):
        """The output itself."""
        return outputs - targets


class Linear(nn.Module):
    """theta . x, in float64."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))

    def forward(self, x):
        """The inner product."""
        return self.theta @ x


def warm_state(momentum=0.9):
    model = Linear()
    optimizer = SGD(model.parameters(), lr=1.0, momentum=momentum)
    for _ in steps(model, FrozenGradients(), optimizer, constant(0.1), 5, 0, 0, 40):
        pass
    return State(model, optimizer, (), 40)


@pytest.mark.parametrize("base", [constant(0.1), cosine(0.3, 200)], ids=["constant", "cosine"])
@pytest.mark.parametrize("name", KERNELS)
def test_with_frozen_gradients_and_a_warm_buffer_average_and_side_trip_end_together(name, base):
    start, mu = warm_state(), KERNELS[name]
    averages = KernelAverages({name: mu}, flat_weights(start.model))
    branch(start, FrozenGradients(), base, 5, 0, 70, (averages,))
    side = branch(start, FrozenGradients(), equivalent_schedule(base, mu, 40), 5, 0, 70)
    assert (flat_weights(side.model) - averages[name]).abs().max() < 1e-12


def test_the_same_check_fails_for_another_kernels_schedule_other_batches_and_a_cold_buffer():
    start, mu = warm_state(), swa(30)
    averages = KernelAverages({"swa": mu}, flat_weights(start.model))
    branch(start, FrozenGradients(), constant(0.1), 5, 0, 70, (averages,))
    rate = equivalent_schedule(constant(0.1), mu, 40)
    cold = copy.deepcopy(start)
    cold.optimizer.state.clear()
    ends = [
        branch(start, FrozenGradients(), equivalent_schedule(constant(0.1), two_point(30), 40), 5, 0, 70),
        branch(start, FrozenGradients(), rate, 5, 1, 70),
        branch(cold, FrozenGradients(), rate, 5, 0, 70),
    ]
    # The cold one needs its optimizer bound to its own weights, which deepcopy of the pair does.
    assert all((flat_weights(end.model) - averages["swa"]).abs().max() > 1e-3 for end in ends)


MANY = KERNELS | {"short": swa(3), "adjacent": two_point(1), "long": ema(70, 0.1), "block": swa(16)}


def walk(dtype=torch.float64, steps=90, size=1000):
    """A trajectory whose displacements are small beside its weights, as in training: (steps + 1, size)."""
    generator = torch.Generator().manual_seed(0)
    steps = 1e-3 * torch.randn(steps, size, generator=generator, dtype=torch.float64)
    start = torch.randn(1, size, generator=generator, dtype=torch.float64)
    return torch.cat([start, start + steps.cumsum(0)]).to(dtype)


def told(path, kernels=MANY):
    averages = KernelAverages(kernels, path[0])
    for weights in path[1:]:
        averages.update(weights)
    return averages


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-14), (torch.float32, 1e-8)])
def test_many_kernels_at_once_are_the_plain_sums_in_float64(dtype, error):
    path = walk(dtype)
    averages = told(path)
    for name, mu in MANY.items():
        expected = mu @ path[: len(mu)].double().numpy()
        assert np.abs(averages[name].numpy() - expected).max() < error, name  # weights of size 1, ways of 1e-2


def test_an_average_is_ready_as_soon_as_its_window_is_over_and_stays():
    path = walk()
    averages = KernelAverages(MANY, path[0])
    for step, weights in enumerate(path[1:], 1):
        averages.update(weights)
        for name, mu in MANY.items():
            if step >= len(mu) - 1:
                expected = mu @ path[: len(mu)].numpy()
                assert np.abs(averages[name].numpy() - expected).max() < 1e-14, (name, step)


def test_sums_are_float32_whatever_precision_the_training_asks_for():
    path, before = walk(torch.float32), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            lower = told(path)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(lower[name], told(path)[name]) for name in MANY)


@pytest.mark.parametrize("cut", [0, 1, 7, 16, 37])
def test_averages_go_on_from_their_state_to_the_bit(cut):
    path = walk(torch.float32)
    first, second = KernelAverages(MANY, path[0]), KernelAverages(MANY, torch.zeros_like(path[0]))
    for weights in path[1 : cut + 1]:
        first.update(weights)
    second.load_state_dict(first.state_dict())
    for weights in path[cut + 1 :]:
        second.update(weights)
    assert all(torch.equal(second[name], told(path)[name]) for name in MANY)


@pytest.mark.parametrize("kernels", [{"swa": swa(4)}, {"other": swa(3)}, {"swa": ema(3)}, {"swa": swa(3), "b": swa(3)}])
def test_a_state_of_other_averages_is_refused(kernels):
    with pytest.raises(ValueError, match="state_dict must be of the"):
        KernelAverages({"swa": swa(3)}, torch.zeros(2)).load_state_dict(
            KernelAverages(kernels, torch.zeros(2)).state_dict()
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_in_half_precision_are_refused(dtype):
    with pytest.raises(ValueError, match="weights must be float32 or float64, sums lose digits in less"):
        KernelAverages({"swa": swa(3)}, torch.zeros(2, dtype=dtype))


def test_an_average_whose_window_is_open_is_refused():
    averages = KernelAverages({"swa": swa(3)}, torch.zeros(2))
    averages.update(torch.ones(2))
    with pytest.raises(ValueError, match="needs 3 steps, got 1"):
        averages["swa"]


@pytest.mark.parametrize("step", [39, 70, -1])
def test_a_side_trip_cannot_leave_its_window(step):
    with pytest.raises(ValueError, match=r"step must be in \[40, 70\)"):
        equivalent_schedule(constant(0.1), swa(30), 40)(step)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: swa(0),
        lambda: two_point(-1),
        lambda: ema(10, 0.0),
        lambda: ema(10, 1.5),
        lambda: ema(0),
        lambda: kernel_weights(np.array([0.5, 0.6])),
        lambda: kernel_weights(np.array([1.0])),
        lambda: kernel_weights(np.array([np.nan, 1.0])),
        lambda: KernelAverages({}, torch.zeros(2)),
    ],
)
def test_kernels_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        wrong()


def test_batch_norm_is_re_estimated_as_equal_weight_means_over_the_batches():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.0))
    batches = [torch.randn(16, 4, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    model(batches[0] * 9)  # statistics that belong to something else
    model.eval()
    recompute_batch_norm(model, batches)
    with torch.no_grad():
        inner = torch.stack([model[0](batch).double() for batch in batches])
    assert torch.allclose(model[1].running_mean.double(), inner.mean((0, 1)), atol=1e-6)
    assert torch.allclose(model[1].running_var.double(), inner.var(1).mean(0), atol=1e-5)
    assert not model.training and model[1].momentum == 0.1


def test_a_model_without_batch_norm_is_left_alone():
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    recompute_batch_norm(model, [torch.full((4, 2), torch.nan)])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
