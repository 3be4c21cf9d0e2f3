"""The source's nets: torch's weights, the loss row by row, and the same loss by second moments."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate import descent
from replicate.descent import Net, nets
from replicate.models.initialise import initialise


def torch_net(net: Net, weights: np.ndarray) -> nn.Module:
    """The twin in the order of axes that torch has, (rows, features)."""
    layers = []
    for fan_in, fan_out in zip(net.dims[:-1], net.dims[1:], strict=True):
        layers += [
            nn.Linear(fan_in, fan_out),
            nn.ReLU() if net.activation == "relu" else nn.Identity(),
        ]
    model = nn.Sequential(*layers[:-1]).double()
    nn.utils.vector_to_parameters(torch.from_numpy(weights), model.parameters())
    return model


def by_torch(net: Net, data, weights: np.ndarray) -> tuple[float, np.ndarray]:
    model = torch_net(net, weights)
    loss = nn.functional.mse_loss(
        model(torch.from_numpy(data.x.T)), torch.from_numpy(data.y)[:, None]
    )
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()


def test_the_published_function_builds_two_maps_more_than_layers():
    assert descent.published_net(20, 10, 5) == Net((20, 10, 10, 10, 10, 10, 10, 1))
    assert descent.published_net(100, 20, 0, "relu") == Net((100, 20, 1), "relu")
    assert descent.published_net(20, 10, 5).size == 20 * 10 + 10 + 5 * 110 + 11


def test_weights_start_as_torchs_linear_bit_by_bit_as_every_models_do():
    net = Net((5, 7, 1))
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 1))
    model = initialise(empty, 4)
    own = descent.initial_weights(net, 4, "float32")
    assert np.array_equal(own, nn.utils.parameters_to_vector(model.parameters()).detach().numpy())
    assert np.array_equal(descent.initial_weights(net, 4), own.astype(np.float64))
    wide = descent.initial_weights(Net((100, 200, 1)), 0)
    assert np.abs(wide[:20_000]).max() == pytest.approx(0.1, rel=1e-3) and wide[
        :20_000
    ].std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)


def test_rows_are_what_the_source_draws():
    data = descent.rows(20_000, 4, 0)
    assert data.x.shape == (4, 20_000) and np.array_equal(data.y, data.x.sum(axis=0))
    assert np.abs(data.x.mean(axis=1)).max() < 0.03 and np.abs(data.x.std(axis=1) - 1).max() < 0.03
    assert not np.array_equal(data.x, descent.rows(20_000, 4, 1).x)
    assert descent.rows(3, 4, 0, "float32").y.dtype == np.float32


# With the least block these rows are one block, three, and three and a part.
@pytest.mark.parametrize(
    "net, count",
    [(Net((3, 1)), 30), (Net((3, 4, 4, 1)), 1500), (Net((3, 4, 4, 1), "relu"), 1700)],
    ids=str,
)
def test_the_loss_row_by_row_is_torchs_and_so_is_its_gradient(net, count, monkeypatch):
    monkeypatch.setattr(nets, "NUMBERS_PER_LAYER", 1)
    loss = nets.rows_loss.__wrapped__(net)
    data, weights = descent.rows(count, 3, 0), descent.initial_weights(net, 0)
    for at in (weights, -weights):  # outputs of either sign
        value, gradient = by_torch(net, data, at)
        np.testing.assert_allclose(descent.value(loss, data, at), value, rtol=1e-12)
        np.testing.assert_allclose(
            descent.gradient(loss, data, at), gradient, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("count", [4, nets.QR_ROWS + 3])  # four rows: fewer than there are moments
def test_second_moments_give_the_loss_and_gradient_of_the_rows(count):
    net = Net((5, 4, 4, 4, 1))
    data, weights = descent.rows(count, 5, 1), descent.initial_weights(net, 2)
    by_rows, by_moments = descent.rows_loss(net), descent.moments_loss(net)
    moments = descent.moments(data)
    assert moments.root.shape == (7, 7)
    for at in (weights, 3 * weights):
        np.testing.assert_allclose(
            descent.value(by_moments, moments, at), descent.value(by_rows, data, at), rtol=1e-10
        )
        np.testing.assert_allclose(
            descent.gradient(by_moments, moments, at),
            descent.gradient(by_rows, data, at),
            rtol=1e-10,
            atol=1e-12,
        )
    z = np.vstack([data.x, np.ones(count), data.y])
    np.testing.assert_allclose(moments.root.T @ moments.root, z @ z.T / count, atol=1e-13)


def test_a_small_loss_keeps_its_digits():
    """By v' M v, from the moments themselves, a loss of 1e-24 beside moments of 5 would be nothing
    but rounding.
    """
    net, data = Net((5, 1)), descent.rows(300, 5, 0)
    near = np.append(np.ones(5), 0) + 1e-12 * np.arange(6)
    exact = np.mean((1e-12 * np.arange(5) @ data.x + 5e-12) ** 2)
    found = descent.value(descent.moments_loss(net), descent.moments(data), near)
    assert found == pytest.approx(exact, rel=1e-2) and exact < 1e-22


def test_many_weights_at_once_and_other_precisions():
    net, data = Net((3, 4, 1), "relu"), descent.rows(20, 3, 0)
    weights = np.stack([descent.initial_weights(net, seed) for seed in range(3)])
    loss = descent.rows_loss(net)
    np.testing.assert_allclose(
        descent.value(loss, data, weights),
        [descent.value(loss, data, one) for one in weights],
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        descent.gradient(loss, data, weights),
        [descent.gradient(loss, data, one) for one in weights],
        rtol=1e-12,
    )
    single = descent.value(loss, data, weights[0], "float32")
    assert (
        single.dtype == np.float32
        and 0 < abs(single - descent.value(loss, data, weights[0])) < 1e-5
    )


REFUSED = [
    (lambda: Net((3,)), "dims must be at least 2 numbers of at least 1"),
    (lambda: Net((3, 0, 1)), "dims must be at least 2 numbers of at least 1"),
    (lambda: Net((3, 2)), "dims must end in 1"),
    (lambda: Net((3, 1), "tanh"), "unknown activation 'tanh'"),
    (lambda: descent.published_net(3, 2, -1), "layers must be at least 0, got -1"),
    (lambda: descent.rows(0, 3, 0), "count and inputs must be at least 1, got 0"),
    (lambda: descent.moments_loss(Net((3, 1), "relu")), "activation must be linear"),
]


@pytest.mark.parametrize("make, said", REFUSED)
def test_bad_arguments_are_named_with_bound_and_value(make, said):
    with pytest.raises(ValueError, match=said):
        make()
