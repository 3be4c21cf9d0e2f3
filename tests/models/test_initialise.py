"""`initialise` is a function of the seed alone, with the variances its docstring names."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from replicate.models import initialise
from replicate.streams import rng

torch.set_num_threads(1)


def layers():
    return nn.Sequential(
        nn.Conv2d(16, 64, 3, bias=False), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(400, 300)
    )


def on_meta():
    with torch.device("meta"):
        return layers()


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_parameter_i_is_drawn_from_the_stream_of_index_i():
    conv, gamma, beta, weight, bias = initialise(on_meta(), 7).parameters()
    normal = rng(7, "init", 0).normal(0, math.sqrt(2 / (64 * 9)), (64, 16, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(conv.detach().numpy(), normal)
    assert (gamma == 1).all() and (beta == 0).all()
    for parameter, index in ((weight, 3), (bias, 4)):
        uniform = rng(7, "init", index).uniform(-1 / 20, 1 / 20, parameter.shape).astype(np.float32)
        np.testing.assert_array_equal(parameter.detach().numpy(), uniform)


def test_convolutions_have_variance_two_over_fan_out():
    weight = initialise(on_meta(), 0)[0].weight.double()
    n, variance = weight.numel(), 2 / (64 * 3 * 3)
    # Four standard deviations of a sample variance; fan_in would be off by a factor of 4.
    assert abs(weight.var().item() / variance - 1) < 4 * math.sqrt(2 / n)
    assert abs(weight.mean().item()) < 4 * math.sqrt(variance / n)
    assert abs((weight**4).mean().item() / variance**2 - 3) < 4 * math.sqrt(
        96 / n
    )  # normal, not uniform (9/5)


def test_linear_layers_fill_the_interval_of_torch():
    weight = initialise(on_meta(), 0)[3].weight.double()
    n, bound = weight.numel(), 1 / math.sqrt(400)
    assert 0.999 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)
    assert abs(weight.var().item() / (bound**2 / 3) - 1) < 4 * math.sqrt(0.8 / n)


def test_weights_depend_on_the_seed_and_on_nothing_else():
    torch.manual_seed(1)
    first = bits(initialise(on_meta(), 3))
    torch.manual_seed(2)
    channels_last = layers().double().to(memory_format=torch.channels_last)
    channels_last[1].running_var.fill_(9)
    channels_last[1].num_batches_tracked.fill_(9)
    assert bits(initialise(channels_last, 3)) == first
    other = bits(initialise(on_meta(), 4))
    assert [name for name in first if first[name] != other[name]] == [
        "0.weight",
        "3.weight",
        "3.bias",
    ]


def test_the_result_is_float32_on_the_cpu_whatever_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        model = on_meta()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {(p.dtype, p.device.type) for p in initialise(model, 0).parameters()} == {
        (torch.float32, "cpu")
    }


def test_torchs_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    initialise(on_meta(), 0)
    assert torch.equal(before, torch.random.get_rng_state())


class WithBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.ones(1))


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.Conv2d(1, 1, 1, bias=True), WithBuffer()])
def test_a_layer_without_a_rule_is_refused_and_kept(layer):
    model = nn.Sequential(nn.Linear(2, 2), layer)
    before = bits(model)
    with pytest.raises(
        ValueError, match="layers must be Conv2d without bias, Linear or BatchNorm2d, got"
    ):
        initialise(model, 0)
    assert bits(model) == before


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^32\), got"):
        initialise(on_meta(), seed)
