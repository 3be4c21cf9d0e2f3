"""What average and cool-down should gain, from curvature and gradient noise, before either is seen.

    gain = 1/2 sum_i kappa_i (E theta_i^2 - E y_i^2)        y an end, by `replicate.problems.ends`

kappa_i, u_i: the largest eigenvalues of the Hessian at an average, and their directions; c_i: the
variance of u_i . g over mini-batches there. Nothing is fitted. Exact for heavy ball on a quadratic
that has run for long at its rate, which is why the optimizer has to be SGD at a constant rate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from replicate import curvature, problems
from replicate.averaging import kernel_weights
from replicate.cooldown.walks import Walker
from replicate.errors import BadParameter
from replicate.streams import rng

CURVATURE_STREAM, NOISE_STREAM = 2, 3  # streams of mini-batches that nobody trains on
HESSIAN_BATCHES = 16  # ours: their mean is the loss whose curvature is taken
NOISE_GRADIENTS = 200  # ours: a variance of so many is known to a tenth


def need_sgd(optimizer: torch.optim.Optimizer, schedule) -> None:
    """Raises BadParameter unless theory covers what the optimizer does."""
    groups = optimizer.param_groups
    words = ("lr", "momentum", "weight_decay")
    plain = type(optimizer) is torch.optim.SGD and not any(
        group["nesterov"] or group["dampening"] or group["maximize"] for group in groups
    )
    same = plain and len({tuple(float(group[word]) for word in words) for group in groups}) == 1
    if not (same and schedule is None):
        raise BadParameter(
            "directions needs torch.optim.SGD at one constant rate, without Nesterov and dampening, "
            f"got {type(optimizer).__name__}{'' if schedule is None else ' under a schedule'}; "
            "directions=0 predicts from the average alone"
        )


def predict_gains(walker: Walker, mu: np.ndarray, directions: int, run: int) -> dict[str, float]:
    """Predicted gains, in the loss's unit, of average and cool-down with kernel mu.

    The walker's model is at an average. directions: how many steps of Lanczos' iteration; those that do not
    settle at this rate, where the loss is concave or too steep, predict nothing. run: each has
    mini-batches of its own for the noise, all have the same ones for the curvature.
    """
    group = walker.optimizer.param_groups[0]
    rate = walker.rates[0]
    momentum = group["momentum"]
    with _double_backward():
        spectrum = _find_directions(walker, directions)
        noise = curvature.measure_noise(_gradients(walker, run), spectrum.vectors)
    kappa = spectrum.values + group["weight_decay"]
    settles = (kappa > 0) & (kappa < 2 * (1 + momentum) / rate)
    return gains(kappa[settles], noise.variances[settles], rate, momentum, mu)


def gains(
    kappa: np.ndarray, noise: np.ndarray, rate: float, momentum: float, mu: np.ndarray
) -> dict[str, float]:
    """The same from curvatures and noise, (m,) each."""
    moments = problems.stationary_moments(kappa, noise, rate, momentum)
    k = len(mu) - 1
    last = problems.weigh_last(k)
    raw = 0.5 * float((kappa * moments[:, 0, 0]).sum())
    ends = {"average": (np.full(k, rate), mu), "cool_down": (rate * kernel_weights(mu), last)}
    return {
        name: raw
        - float(problems.predict_loss(kappa, noise, rates, momentum, weights, moments).sum())
        for name, (rates, weights) in ends.items()
    }


def _find_directions(walker: Walker, directions: int) -> curvature.Spectrum:
    size = sum(parameter.numel() for parameter in _list_trained(walker.model))
    first = rng(walker.draws.seed, "init", 0).standard_normal(size)
    start = next(walker.model.parameters()).new_tensor(first)
    return curvature.lanczos(partial(_product, walker), start, min(directions, size))


def _product(walker: Walker, direction: Tensor) -> Tensor:
    """H v of the mean loss over the batches, by double backward passes: (d,)."""
    parameters = _list_trained(walker.model)
    product = torch.zeros_like(direction)
    for step in range(HESSIAN_BATCHES):
        value = walker.compute_loss(CURVATURE_STREAM, step)
        slope = _flat_gradient(value, parameters, create_graph=True) @ direction
        if slope.requires_grad:  # else the loss is linear there
            product += _flat_gradient(slope, parameters) / HESSIAN_BATCHES
    return product


def _gradients(walker: Walker, run: int) -> Iterator[Tensor]:
    parameters = _list_trained(walker.model)
    for step in range(run * NOISE_GRADIENTS, (run + 1) * NOISE_GRADIENTS):
        yield _flat_gradient(walker.compute_loss(NOISE_STREAM, step), parameters)


def _list_trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _flat_gradient(
    value: Tensor, parameters: list[nn.Parameter], create_graph: bool = False
) -> Tensor:
    """The gradient as one vector; 0 for parameters that the value does not depend on."""
    gradients = torch.autograd.grad(
        value, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


@contextmanager
def _double_backward() -> Iterator[None]:
    """Attention as plain products: its fused kernels have no second derivative."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield
