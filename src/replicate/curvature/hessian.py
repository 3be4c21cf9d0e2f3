"""H v = d/dh grad L(theta + h v) at h = 0

The product of a loss's Hessian with a direction, without the Hessian: by differentiating the
gradient once more, or by two gradients. A double backward pass of a small ResNet costs seven
gradients, one of a perceptron no more than a central difference, which costs two.
"""

from collections.abc import Callable

import torch
from torch import Tensor

RELATIVE_STEP = 1e-4  # of a central difference, over |theta|; see `difference_product`


def hessian_product(loss: Callable[[Tensor], Tensor], weights: Tensor, direction: Tensor) -> Tensor:
    """H v by a double backward pass: exact up to rounding, (d,).

    loss: a differentiable function of weights (d,) to a number; direction: v, (d,). Raises
    ValueError if v has another shape than the weights.

    >>> hessian_product(lambda w: (w**3).sum(), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor([ 6., 12.])
    """
    _check_direction(weights, direction)
    point = weights.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ direction, point)
    return product


def difference_product(
    gradient: Callable[[Tensor], Tensor],
    weights: Tensor,
    direction: Tensor,
    step: float = RELATIVE_STEP,
) -> Tensor:
    """(grad L(theta + h v) - grad L(theta - h v)) / 2h, (d,), with |h v| = `step` |theta|.

    gradient: a function of weights (d,) to the gradient there, (d,). Its error is h^2/6 times a
    fifth derivative of the loss plus rounding over h; in float32 a step of a ten-thousandth
    of |theta| keeps both below a percent on the networks here where the
    loss is smooth (tests). Kinks of ReLU within the step make it another matrix, and no symmetric one:
    on a perceptron for digits Lanczos then sees a lowest eigenvalue of -0.5 where it is -0.05. Raises ValueError on a direction
    of another shape or of length 0, or unless the step is above 0.

    >>> weights, direction = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 0.0]).double()
    >>> difference_product(lambda w: 3 * w**2, weights, direction).round(decimals=6)
    tensor([6., 0.], dtype=torch.float64)
    """
    _check_direction(weights, direction)
    length = float(torch.linalg.vector_norm(direction.double()))
    if not length > 0 or not step > 0:
        raise ValueError(f"direction and step must be above 0, got {length:g} and {step:g}")
    scale = float(torch.linalg.vector_norm(weights.double())) or 1.0
    h = step * scale / length
    return (gradient(weights + h * direction) - gradient(weights - h * direction)) / (2 * h)


def _check_direction(weights: Tensor, direction: Tensor) -> None:
    if direction.shape != weights.shape:
        raise ValueError(
            f"direction must have the weights' shape {tuple(weights.shape)}, got {tuple(direction.shape)}"
        )
