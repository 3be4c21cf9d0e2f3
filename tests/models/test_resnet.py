"""The ResNets are the published ones: counted by hand, and equal to the forward pass written out."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from replicate.errors import BadParameter
from replicate.models import resnet, resnet8, resnet18, resnet20, resnet34, resnet50

torch.set_num_threads(1)

SMALL = {"resnet8": partial(resnet8, width=8), "resnet20": partial(resnet20, width=4)}
LARGE = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def images(batch=2, pixels=32):
    return torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


def with_random_batch_norms(model):
    """Weights 1 and biases 0 hide a BatchNorm that is left out or at the wrong place."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight, layer.running_var):
                nn.init.uniform_(value, 0.5, 1.5, generator)
            for value in (layer.bias, layer.running_mean):
                nn.init.uniform_(value, -0.5, 0.5, generator)
    return model


# Counts. A 3x3 convolution from a to b channels has 9ab weights, a BatchNorm of b channels 2b
# parameters.

STEM_16 = 9 * 3 * 16 + 2 * 16
FIRST_16 = 2 * (9 * 16 * 16 + 2 * 16)
FIRST_32 = (
    (9 * 16 * 32 + 2 * 32) + (9 * 32 * 32 + 2 * 32) + (16 * 32 + 2 * 32)
)  # conv1, conv2, projection
FIRST_64 = (9 * 32 * 64 + 2 * 64) + (9 * 64 * 64 + 2 * 64) + (32 * 64 + 2 * 64)
NEXT_32 = 2 * (9 * 32 * 32 + 2 * 32)
NEXT_64 = 2 * (9 * 64 * 64 + 2 * 64)
LINE_64 = 64 * 10 + 10


def test_resnet8_has_78042_parameters():
    assert count(resnet8(10, 0)) == STEM_16 + FIRST_16 + FIRST_32 + FIRST_64 + LINE_64 == 78_042


def test_resnet20_has_272474_parameters():
    stages = 3 * FIRST_16 + (FIRST_32 + 2 * NEXT_32) + (FIRST_64 + 2 * NEXT_64)
    assert count(resnet20(10, 0)) == STEM_16 + stages + LINE_64 == 272_474


def test_the_stride_2_stem_has_16_weights_a_pair_of_channels():
    assert count(resnet8(10, 0, stem="stride2")) == 78_042 + (16 - 9) * 3 * 16


@pytest.mark.parametrize(
    ("net", "classes", "stem", "parameters"),
    [
        (resnet18, 10, "cifar", 11_173_962),
        (resnet34, 10, "cifar", 21_282_122),
        (resnet34, 1000, "imagenet", 21_797_672),
        (resnet50, 1000, "imagenet", 25_557_032),
    ],
)
def test_published_parameter_counts(net, classes, stem, parameters, monkeypatch):
    monkeypatch.setattr(
        resnet, "initialise", lambda model, seed: model
    )  # counting needs no numbers
    assert count(net(classes, 0, stem)) == parameters


# What the layers do.


def block8(x, weights, layer, stride):
    """The one block of a stage of resnet8, in training mode, as in He et al. 2016, figure 2."""
    norm = partial(batch_norm, weights)
    w = f"{layer}.0."
    y = F.relu(norm(F.conv2d(x, weights[w + "conv1.weight"], stride=stride, padding=1), w + "bn1"))
    y = norm(F.conv2d(y, weights[w + "conv2.weight"], padding=1), w + "bn2")
    if stride == 2:
        x = norm(F.conv2d(x, weights[w + "downsample.0.weight"], stride=2), w + "downsample.1")
    return F.relu(y + x)


def batch_norm(weights, x, name):
    return F.batch_norm(
        x, None, None, weights[name + ".weight"], weights[name + ".bias"], training=True, eps=1e-5
    )


@pytest.mark.parametrize(("stem", "stride"), [("cifar", 1), ("stride2", 2)])
def test_resnet8_equals_its_forward_pass_written_out(stem, stride):
    model = with_random_batch_norms(resnet8(10, 0, width=8, stem=stem)).double()
    weights = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    x = images(pixels=16).double()
    y = F.relu(
        batch_norm(weights, F.conv2d(x, weights["conv1.weight"], stride=stride, padding=1), "bn1")
    )
    y = block8(y, weights, "layer1", 1)
    y = block8(y, weights, "layer2", 2)
    y = block8(y, weights, "layer3", 2)
    expected = F.linear(y.mean(dim=(2, 3)), weights["fc.weight"], weights["fc.bias"])
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)


def test_running_statistics_move_a_tenth_of_the_way_to_the_batch():
    model, x = resnet8(10, 0, width=8).double(), images(pixels=16).double()
    y = F.conv2d(x, model.conv1.weight, padding=1)
    model(x)
    torch.testing.assert_close(model.bn1.running_mean, 0.1 * y.mean((0, 2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        model.bn1.running_var, 0.9 + 0.1 * y.var((0, 2, 3)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("block", "last"), [(resnet.BasicBlock, "bn2"), (resnet.Bottleneck, "bn3")]
)
def test_a_block_whose_last_batch_norm_is_zero_is_the_identity_through_relu(block, last):
    channels = 4 * block.expansion
    model = resnet.initialise(block(channels, 4, 1), 0)
    x = torch.randn(2, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model(x), x.relu(), atol=0.1)
    nn.init.zeros_(getattr(model, last).weight)
    assert torch.equal(model(x), x.relu())


def test_the_bottleneck_strides_on_its_3x3():
    block = resnet.Bottleneck(16, 8, 2)
    assert [layer.stride for layer in (block.conv1, block.conv2, block.conv3)] == [
        (1, 1),
        (2, 2),
        (1, 1),
    ]
    assert block(torch.zeros(1, 16, 6, 6)).shape == (1, 32, 3, 3)


def shapes(model, x):
    """Shapes of what the layers of a ResNet return, by name; each must be channels_last."""
    found = {}
    for name, layer in model.eval().named_children():
        layer.register_forward_hook(lambda _layer, _x, y, name=name: found.update({name: y}))
    with torch.no_grad():
        logits = model(x)
    for y in found.values():
        assert y.dim() == 2 or y.is_contiguous(memory_format=torch.channels_last)
    kept = [name for name in found if name in ("conv1", "maxpool") or "layer" in name]
    return {name: tuple(found[name].shape[1:]) for name in kept} | {"logits": tuple(logits.shape)}


@pytest.mark.parametrize(("stem", "pixels"), [("cifar", 32), ("stride2", 16)])
def test_small_nets_halve_the_image_twice_after_the_stem(stem, pixels):
    for net, w in ((resnet8, 8), (resnet20, 4)):
        assert shapes(net(7, 0, width=w, stem=stem), images(pixels=32)) == {
            "conv1": (w, pixels, pixels),
            "layer1": (w, pixels, pixels),
            "layer2": (2 * w, pixels // 2, pixels // 2),
            "layer3": (4 * w, pixels // 4, pixels // 4),
            "logits": (2, 7),
        }


@pytest.mark.parametrize(("net", "expansion"), [(resnet18, 1), (resnet50, 4)])
@pytest.mark.parametrize(("stem", "before"), [("cifar", 32), ("imagenet", 64)])
def test_large_nets_are_at_32_pixels_or_64_with_the_imagenet_stem(net, expansion, stem, before):
    found = shapes(net(7, 0, stem), images(pixels=before))
    side = 32 if stem == "cifar" else 16
    assert found.pop("conv1") == (64, 32, 32)
    assert found.pop("maxpool", "none") == ("none" if stem == "cifar" else (64, 16, 16))
    assert found.pop("logits") == (2, 7)
    assert found == {
        f"layer{i + 1}": (64 * 2**i * expansion, side >> i, side >> i) for i in range(4)
    }


def test_resnet34_has_blocks_3_4_6_3():
    model = resnet34(7, 0)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [
        3,
        4,
        6,
        3,
    ]


def test_names_are_torchvisions():
    names = set(resnet18(10, 0, "imagenet").state_dict())
    assert len(names) == 122  # torchvision.models.resnet18().state_dict()
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.1.conv2.weight",
        "layer2.0.downsample.0.weight",
    } <= names
    assert {"layer4.0.downsample.1.num_batches_tracked", "fc.weight", "fc.bias"} <= names


# Memory format and precision.


def test_convolution_weights_are_channels_last():
    weights = [p for p in resnet8(10, 0).parameters() if p.dim() == 4]
    assert len(weights) == 9 and all(
        w.is_contiguous(memory_format=torch.channels_last) for w in weights
    )
    assert not resnet8(10, 0).conv1.weight.is_contiguous()


def test_activations_are_channels_last_even_where_weights_are_not():
    model = resnet8(10, 0).to(memory_format=torch.contiguous_format)
    assert model.conv1.weight.is_contiguous()
    shapes(model, images())


def test_either_memory_format_goes_in():
    model, x = with_random_batch_norms(resnet8(10, 0)).eval(), images()
    assert x.is_contiguous()
    torch.testing.assert_close(
        model(x.contiguous(memory_format=torch.channels_last)), model(x), rtol=0, atol=1e-5
    )


def test_bfloat16_gives_float32_logits_near_those_of_float32():
    half, full, x = resnet8(10, 0, bfloat16=True), resnet8(10, 0), images(batch=8)
    logits, reference = half(x), full(x)
    assert logits.dtype == torch.float32 and {p.dtype for p in half.parameters()} == {torch.float32}
    error = (logits - reference).norm() / reference.norm()
    assert (
        1e-4 < error < 0.05
    )  # 2^-9 a rounding, some tens of roundings deep; below 1e-4 it would not be bfloat16
    logits.sum().backward()
    assert {p.grad.dtype for p in half.parameters()} == {torch.float32}


def test_bfloat16_sees_new_weights_inside_an_outer_autocast():
    model, x = resnet8(10, 0, width=4, bfloat16=True), images()
    with torch.autocast("cpu", torch.bfloat16):
        before = model(x)
        nn.init.zeros_(model.fc.weight)
        assert not torch.equal(model(x), before)
        torch.testing.assert_close(model(x), model.fc.bias.expand(2, -1), rtol=2**-8, atol=0)


# Seeds, copies, refusals.


@pytest.mark.parametrize("net", SMALL.values(), ids=SMALL)
def test_the_seed_decides_every_weight(net):
    one, same, other = (net(10, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    differ = {name for name in one if not torch.equal(one[name], other[name])}
    assert differ == {
        name for name in one if "conv" in name or "downsample.0" in name or "fc" in name
    }
    assert all(
        (one[name] == ("running_var" in name or "weight" in name)).all()
        for name in one.keys() - differ
    )


@pytest.mark.parametrize("net", [*SMALL.values(), resnet18], ids=[*SMALL, "resnet18"])
def test_torchs_global_generator_is_left_alone(net):
    before = torch.random.get_rng_state()
    net(10, 1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("bfloat16", [False, True])
def test_copies_and_saved_states_compute_the_same(bfloat16):
    model, x = with_random_batch_norms(resnet8(10, 1, width=4, bfloat16=bfloat16)).eval(), images()
    loaded = resnet8(10, 2, width=4, bfloat16=bfloat16).eval()
    assert not torch.equal(loaded(x), model(x))
    loaded.load_state_dict(model.state_dict())
    copy, expected = deepcopy(model), model(x).detach()
    nn.init.zeros_(model.conv1.weight)
    assert torch.equal(copy(x), expected) and torch.equal(loaded(x), expected)
    assert not torch.equal(model(x), expected)


@pytest.mark.parametrize("net", [*SMALL.values(), *LARGE.values()], ids=[*SMALL, *LARGE])
def test_an_unknown_stem_is_refused_with_the_nearest_one(net):
    with pytest.raises(BadParameter, match="unknown stem 'cifra'; did you mean 'cifar'"):
        net(10, 0, stem="cifra")
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        net(1, 0)
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^32\), got -1"):
        net(10, -1)


@pytest.mark.parametrize(
    ("net", "stem"), [(resnet8, "imagenet"), (resnet20, "imagenet"), (resnet18, "stride2")]
)
def test_a_stem_of_the_other_family_is_refused(net, stem):
    with pytest.raises(ValueError, match=f"unknown stem '{stem}'"):
        net(10, 0, stem=stem)


@pytest.mark.parametrize("net", [resnet8, resnet20])
def test_a_width_below_1_is_refused(net):
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        net(10, 0, width=0)
