"""A network without BatchNorm: the same weights, nothing remembered, no image that sees another."""

import numpy as np
import pytest
import torch

from replicate.models import resnet8, use_group_norm

IMAGES = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 3, 8, 8)))


@pytest.mark.parametrize("width", [4, 16])
def test_weights_stay_and_nothing_is_remembered(width):
    model, other = resnet8(10, seed=3, width=width), resnet8(10, seed=3, width=width)
    use_group_norm(other)
    assert [name for name, _ in model.named_parameters()] == [
        n for n, _ in other.named_parameters()
    ]
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    assert len(list(model.buffers())) > 0 == len(list(other.buffers()))


def test_an_image_does_not_see_the_others_and_modes_do_not_differ():
    images, model = IMAGES.float(), use_group_norm(resnet8(10, seed=0, width=16))
    whole = model.train()(images)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval()(images), whole, rtol=1e-5, atol=1e-6)
    plain = resnet8(10, seed=0, width=16).train()
    assert (plain(images) - torch.cat([plain(image[None]) for image in images])).abs().max() > 0.1


@pytest.mark.parametrize("width, groups", [(4, 1), (16, 1), (24, 1), (32, 2)])
def test_a_layer_is_normalised_by_groups_of_16_channels(width, groups):
    layer = use_group_norm(resnet8(10, seed=0, width=width)).bn1
    x = torch.randn(2, width, 5, 5, generator=torch.Generator().manual_seed(0))
    split = x.reshape(2, groups, -1)
    mean, variance = split.mean(2, keepdim=True), split.var(2, unbiased=False, keepdim=True)
    expected = ((split - mean) / torch.sqrt(variance + 1e-5)).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
