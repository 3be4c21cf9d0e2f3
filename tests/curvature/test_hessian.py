"""Products with a Hessian: against the Hessian itself, and one way against the other."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate.curvature import difference_product, hessian_product
from replicate.training import Flat


def drawn(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))


@pytest.fixture
def net():
    """Loss and gradient of a small net with BatchNorm, as functions of its flat weights."""
    torch.manual_seed(3)
    model = Flat(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)))
    x, y = drawn(64, 6), torch.arange(64) % 3

    def loss(weights):
        return functional.cross_entropy(model.at(weights, x), y)

    def gradient(weights):
        point = weights.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(point), point)[0]

    return loss, gradient, model.weights.detach().clone()


def test_a_double_backward_pass_is_the_hessian_times_the_direction(net):
    loss, _, weights = net
    hessian = torch.autograd.functional.hessian(loss, weights)
    for key in range(3):
        direction = drawn(len(weights), key=key)
        torch.testing.assert_close(
            hessian_product(loss, weights, direction), hessian @ direction, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("length", [1e-3, 1.0, 50.0])
def test_a_central_difference_is_the_same_within_a_percent_in_float32(net, length):
    """Whatever the length of the direction, to which the step is relative."""
    loss, gradient, weights = net
    direction = length * functional.normalize(drawn(len(weights), key=5), dim=0)
    exact = hessian_product(loss, weights, direction)
    close = difference_product(gradient, weights, direction)
    assert torch.linalg.vector_norm(close - exact) < 0.01 * torch.linalg.vector_norm(exact)


def test_a_one_sided_difference_would_not_do(net):
    """On a cubic, grad L = 3 w^2: the central one is exact, the one-sided one is off by 3 h v^2."""
    weights, direction = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 0.0]).double()
    product = difference_product(lambda w: 3 * w**2, weights, direction, step=0.1)
    torch.testing.assert_close(product, torch.tensor([6.0, 0.0]).double())


def test_at_the_origin_the_step_is_not_relative_to_nothing():
    product = difference_product(lambda w: 2 * w, torch.zeros(3).double(), torch.ones(3).double())
    torch.testing.assert_close(product, 2 * torch.ones(3).double())


def test_what_makes_no_sense_is_refused():
    weights = torch.ones(3)
    for call in (hessian_product, difference_product):
        with pytest.raises(ValueError, match="direction must have the weights' shape"):
            call(lambda w: w.sum(), weights, torch.ones(2))
    with pytest.raises(ValueError, match="direction and step must be above 0"):
        difference_product(lambda w: w, weights, torch.zeros(3))
    with pytest.raises(ValueError, match="direction and step must be above 0"):
        difference_product(lambda w: w, weights, weights, step=0.0)
