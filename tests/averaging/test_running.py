"""Averages are schedules: exactly, in float64, for any kernel, through the real training loop."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, update_bn

from replicate.averaging import KernelAverages, ema, equivalent_schedule, swa, two_point
from replicate.models import resnet8
from replicate.optim import SGD
from replicate.training import Flat, State, branch, evaluate, flat_weights, steps
from replicate.training.schedules import constant, cosine

KERNELS = {
    "swa": swa(30),
    "two-point": two_point(30),
    "ema": ema(30, 0.2),
    "any": np.linspace(1, 3, 31) / 62,
}


class FrozenGradients:
    """Data whose loss is linear in the weights, so that each step's gradient is the same wherever
    it is taken.
    """

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
        branch(
            start,
            FrozenGradients(),
            equivalent_schedule(constant(0.1), two_point(30), 40),
            5,
            0,
            70,
        ),
        branch(start, FrozenGradients(), rate, 5, 1, 70),
        branch(cold, FrozenGradients(), rate, 5, 0, 70),
    ]
    # The cold one needs its optimizer bound to its own weights, which deepcopy of the pair does.
    assert all((flat_weights(end.model) - averages["swa"]).abs().max() > 1e-3 for end in ends)


MANY = KERNELS | {"short": swa(3), "adjacent": two_point(1), "long": ema(70, 0.1), "block": swa(16)}


def walk(dtype=torch.float64, steps=90, size=1000):
    """A trajectory whose displacements are small beside its weights, as in training: (steps + 1,
    size).
    """
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
        assert np.abs(averages[name].numpy() - expected).max() < error, (
            name
        )  # weights of size 1, ways of 1e-2


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


@pytest.mark.parametrize(
    "kernels", [{"swa": swa(4)}, {"other": swa(3)}, {"swa": ema(3)}, {"swa": swa(3), "b": swa(3)}]
)
def test_a_state_of_other_averages_is_refused(kernels):
    with pytest.raises(ValueError, match="state_dict must be of the"):
        KernelAverages({"swa": swa(3)}, torch.zeros(2)).load_state_dict(
            KernelAverages(kernels, torch.zeros(2)).state_dict()
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_in_half_precision_are_refused(dtype):
    with pytest.raises(
        ValueError, match="weights must be float32 or float64, sums lose digits in less"
    ):
        KernelAverages({"swa": swa(3)}, torch.zeros(2, dtype=dtype))


def test_an_average_whose_window_is_open_is_refused():
    averages = KernelAverages({"swa": swa(3)}, torch.zeros(2))
    averages.update(torch.ones(2))
    with pytest.raises(ValueError, match="needs 3 steps, got 1"):
        averages["swa"]


def test_averages_without_kernels_are_refused():
    with pytest.raises(ValueError, match="kernels must name at least one kernel, got none"):
        KernelAverages({}, torch.zeros(2))


def test_an_average_that_there_is_not_is_named_with_the_nearest_that_there_is():
    with pytest.raises(ValueError, match="unknown average 'sva'; did you mean 'swa'"):
        KernelAverages({"swa": swa(1)}, torch.zeros(2))["sva"]


# A window that is over stays over.


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
@pytest.mark.parametrize("length", [3, 8, 15, 16, 17, 20])
def test_iterates_that_are_not_finite_spoil_the_open_windows_and_no_other(length, wrong, count):
    """However many windows end in the block in which the walk diverges, and whenever they are
    read.
    """
    path = walk(size=4)[:60]
    path[length + 1 : length + 1 + count] = wrong
    kernels = {
        "over": swa(length),
        "before": two_point(2),
        "over too": ema(length, 0.3),
        "open": swa(40),
    }
    averages = told(path, kernels)
    for name, mu in kernels.items():
        expected = mu @ path[: len(mu)].numpy()
        assert bool(averages[name].isfinite().all()) == (name != "open")
        if name != "open":
            assert np.abs(averages[name].numpy() - expected).max() < 1e-14, name


# What users of torch's AveragedModel expect.


def small(seed=0):
    return resnet8(4, seed, width=4)


IMAGES = torch.randn(6, 20, 3, 8, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.randint(0, 4, (6, 20), generator=torch.Generator().manual_seed(4))


def trained(model, updates):
    """Plain SGD on the images; each of `updates` is called after every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for images, labels in zip(IMAGES, LABELS, strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        for update in updates:
            update()


def test_a_model_is_averaged_as_torchs_averaged_model_does_it():
    """Its running mean of all six iterates and its exponential average, BatchNorm re-estimated by
    its `update_bn`.
    """
    model = small()
    ours = KernelAverages({"swa": swa(6), "ema": ema(6, 0.3)}, model)
    peers = {"swa": AveragedModel(model), "ema": AveragedModel(model, avg_fn=get_ema_avg_fn(0.7))}
    peers["ema"].update_parameters(model)  # its first call only copies: theta_t1
    told = [
        lambda: ours.update_parameters(model),
        *(lambda p=p: p.update_parameters(model) for p in peers.values()),
    ]
    trained(model, told)
    for name, peer in peers.items():
        update_bn(list(IMAGES), peer)
        averaged = ours.model(name, IMAGES)
        for key, value in peer.module.state_dict().items():
            torch.testing.assert_close(
                averaged.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key
            )
        loss = evaluate(averaged, IMAGES[0], LABELS[0])[0]
        assert loss == pytest.approx(evaluate(peer.module, IMAGES[0], LABELS[0])[0], rel=1e-4)
        assert (
            abs(loss - evaluate(model, IMAGES[0], LABELS[0])[0]) > 1e-2
        )  # the dull thing: the last iterate


def test_a_model_its_parameters_and_its_weights_as_one_vector_are_the_same_averages():
    model = small()
    ways = {
        "model": (model, lambda: model),
        "parameters": (model.parameters(), lambda: model.parameters()),
        "list": (list(model.parameters()), lambda: list(model.parameters())),
        "vector": (flat_weights(model), lambda: flat_weights(model)),
        "model, told a vector": (model, lambda: flat_weights(model)),
    }
    averages = {
        name: KernelAverages({"ema": ema(5, 0.4)}, start) for name, (start, _) in ways.items()
    }
    trained(
        model, [lambda n=n, weights=w: averages[n].update(weights()) for n, (_, w) in ways.items()]
    )
    assert all(
        torch.equal(average["ema"], averages["vector"]["ema"]) for average in averages.values()
    )


def test_a_flat_model_gives_a_flat_model_at_the_average():
    plain, model = small(), Flat(small())
    averages = {one: KernelAverages({"swa": swa(4)}, one) for one in (plain, model)}
    trained(plain, [lambda: averages[plain].update(plain)])
    trained(model, [lambda: averages[model].update(model)])
    both = [averages[one].model("swa", IMAGES).eval()(IMAGES[0]) for one in (plain, model)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


def test_a_model_at_an_average_leaves_the_live_one_alone_and_has_its_layout():
    model = small()
    averages = KernelAverages({"swa": swa(6)}, model)
    trained(model, [lambda: averages.update(model)])
    before = copy.deepcopy(model.state_dict())
    averaged = averages.model("swa", IMAGES)
    assert (
        all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        and model.training
    )
    assert not any(layer.training for layer in averaged.modules())
    assert [p.stride() for p in averaged.parameters()] == [p.stride() for p in model.parameters()]
    torch.testing.assert_close(flat_weights(averaged), averages["swa"].float(), rtol=0, atol=0)


def test_without_batches_the_statistics_are_the_live_models_and_belong_to_other_weights():
    model = small()
    averages = KernelAverages({"two-point": two_point(6)}, model)
    trained(model, [lambda: averages.update(model)])
    stale, right = averages.model("two-point"), averages.model("two-point", IMAGES)
    assert torch.equal(stale.bn1.running_mean, model.bn1.running_mean)
    assert not torch.allclose(right.bn1.running_mean, model.bn1.running_mean, atol=1e-3)


def test_averages_of_bare_weights_have_no_model():
    averages = KernelAverages({"swa": swa(1)}, torch.zeros(2))
    averages.update(torch.ones(2))
    with pytest.raises(
        ValueError, match="averages of bare weights have no model; give KernelAverages the model"
    ):
        averages.model("swa")


def test_averages_lie_where_they_are_asked_to():
    assert KernelAverages({"swa": swa(1)}, torch.zeros(2), device="meta").device == torch.device(
        "meta"
    )
    assert KernelAverages({"swa": swa(1)}, torch.zeros(2)).device == torch.device("cpu")


@pytest.mark.parametrize(
    "weights", [torch.zeros(1), torch.zeros(4), [torch.zeros(2), torch.zeros(2)], nn.Linear(1, 1)]
)
def test_an_iterate_of_another_length_is_refused_and_does_not_count(weights):
    averages = KernelAverages({"swa": swa(2)}, torch.zeros(3))
    with pytest.raises(ValueError, match="weights must be 3 numbers as at the start, got"):
        averages.update(weights)
    assert averages.steps == 0


def test_weights_of_two_types_and_none_at_all_are_refused():
    with pytest.raises(
        ValueError, match="weights must be of one type, got torch.float32 and torch.float64"
    ):
        KernelAverages({"swa": swa(2)}, [torch.zeros(1), torch.zeros(1).double()])
    with pytest.raises(ValueError, match="weights must have parameters, got none"):
        KernelAverages({"swa": swa(2)}, nn.ReLU())


def test_a_repr_says_kernels_windows_and_how_far_they_are():
    averages = KernelAverages({"slow": ema(30, 0.2), "fast": two_point(4)}, torch.zeros(3))
    averages.update(torch.ones(3))
    expected = (
        "KernelAverages({'fast': two_point(k=4), 'slow': ema(k=30, delta=0.2)}, weights=3, steps=1)"
    )
    assert repr(averages) == expected
