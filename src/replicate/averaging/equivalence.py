"""lambda'(i) = lambda(i) w_{i - start}: the schedule of the side-trip whose end is the average.

Where gradients do not depend on where they are taken (Sandler et al. 2023, Lemma 2), and with two
extensions that the paper does not have. Where the rate multiplies inside the momentum buffer, as in
Keras, the factors are w' of `inside_weights`. With decoupled weight decay d, as in AdamW,

    theta_{t+1} = (1 - lambda_t d) theta_t - lambda_t u_t
    A_i = sum_{t > i} mu_t prod_{i < j < t} (1 - lambda_j d)
    lambda'_i = lambda_i A_i / (1 - d sum_{j > i} lambda_j A_j)

found by equating the coefficient of every u_i; that of theta_0 then agrees too. Without decay A = w.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from replicate.averaging.kernels import kernel_weights

Convention = Literal["torch", "keras"]


def equivalent_schedule(
    base: Callable[[int], float],
    mu: np.ndarray,
    start: int,
    momentum: float = 0.0,
    convention: Convention = "torch",
    decay: float = 0.0,
) -> Callable[[int], float]:
    """The rate of each step of the side-trip; ValueError outside start <= step < start + k.

    base: the main run's rate; mu: the kernel, (k + 1,); start: the step of theta_t1. momentum and
    convention: "torch" multiplies the buffer by the rate, and the buffer is inherited as it is;
    "keras" multiplies the gradient by the rate before it enters the buffer, which is to be
    inherited times `buffer_factor`. decay: of AdamW and SGDW, times the rate; its updates u_t are
    taken for known. Raises ValueError if mu is no kernel, on an unknown convention, a momentum
    outside [0, 1), a negative decay, or decay within Keras' buffer, where no schedule is exact.

    >>> from replicate.averaging import swa
    >>> rate = equivalent_schedule(lambda step: 0.1, swa(4), start=1000)
    >>> [round(rate(step), 3) for step in range(1000, 1004)]
    [0.1, 0.075, 0.05, 0.025]
    """
    weights = kernel_weights(mu)
    if convention not in get_args(Convention):
        known = ", ".join(get_args(Convention))
        raise ValueError(f"convention must be one of {known}, got {convention!r}")
    if not 0 <= momentum < 1 or not decay >= 0:
        raise ValueError(
            f"momentum must be in [0, 1) and decay at least 0, got {momentum}, {decay}"
        )
    if decay and convention == "keras" and momentum:
        raise ValueError("decay inside Keras' momentum buffer has no equivalent schedule")
    if convention == "keras":
        weights, _ = inside_weights(weights, momentum)
    if decay:
        rates = [base(start + i) for i in range(len(weights))]
        weights = _solve_for_decay(rates, mu, decay) / np.array(rates)

    def schedule(step: int) -> float:
        if not start <= step < start + len(weights):
            raise ValueError(f"step must be in [{start}, {start + len(weights)}), got {step}")
        return base(step) * float(weights[step - start])

    return schedule


def buffer_factor(mu: np.ndarray, momentum: float, convention: Convention) -> float:
    """What the momentum buffer is multiplied by when a side-trip inherits it: 1 in torch.

    >>> from replicate.averaging import two_point
    >>> buffer_factor(two_point(10), 0.9, "torch")
    1.0
    >>> round(buffer_factor(two_point(10), 0.9, "keras"), 3)
    0.5
    """
    if convention == "torch":
        return 1.0
    return float(inside_weights(kernel_weights(mu), momentum)[1])


def inside_weights(weights: np.ndarray, momentum: float) -> tuple[np.ndarray, float]:
    """The schedule factors and the buffer's factor that are exact where the rate multiplies inside
    the buffer.

    w'_i = (1 - beta) sum_{t >= i} w_t beta^(t-i) / (1 - beta^(k-i))
    s    = (1 - beta) sum_t w_t beta^t / (1 - beta^k)

    Found by equating the coefficient of each frozen gradient, and of the inherited buffer, in
    average and side-trip. weights: w, (k,), as `kernel_weights` gives; returns (w', (k,)) and s.

    >>> inside_weights(np.array([1.0, 0.5]), 0.5)[0].round(3)
    array([0.833, 0.5  ])
    """
    k = len(weights)
    tails = np.empty(k)
    tail = 0.0
    for i in range(k - 1, -1, -1):
        tail = weights[i] + momentum * tail
        tails[i] = tail
    total = (1 - momentum ** np.arange(k, 0, -1.0)) / (1 - momentum)
    return tails / total, tails[0] / total[0]


def _solve_for_decay(rates: list[float], mu: np.ndarray, decay: float) -> np.ndarray:
    """lambda'_i of the module's last equation, from the end to the beginning."""
    trip = np.empty(len(rates))
    tail, kept = 0.0, 1.0  # A_{i+1} (1 - lambda_{i+1} d), and prod_{j > i} (1 - lambda'_j d)
    for i in range(len(rates) - 1, -1, -1):
        weight = float(mu[i + 1]) + tail
        trip[i] = rates[i] * weight / kept
        kept -= decay * rates[i] * weight
        tail = weight * (1 - decay * rates[i])
    return trip
