"""mu = S^-1 1 / (1 . S^-1 1)        S_jl = sum_i kappa_i R_i(|j - l|) / 2,   R_i(d) = E theta_t theta_{t+d}

The kernel whose average has the least expected loss where heavy ball has settled: the loss above the
minimum of sum_j mu_j theta_j is mu . S mu, and of all mu that sum to 1 this one makes it smallest, as
the best linear unbiased estimate of a mean does (Aitken 1935). Weights below 0 are allowed: along a
direction with momentum the last two iterates also say where the next would lie. kappa: `curvatures`,
(m,), one per direction; noise of variance c: `noise`, (m,); as in `replicate.problems.ends`.
"""

import numpy as np
from scipy.linalg import toeplitz

from replicate.problems.ends import stationary_moments


def autocovariances(
    curvatures: np.ndarray, noise: np.ndarray, rate: float, momentum: float, steps: int
) -> np.ndarray:
    """R(d) = E theta_t theta_{t+d} for d = 0 .. steps, (steps + 1, m), at a constant rate.

    Raises ValueError where a direction does not settle, as `stationary_moments`.
    """
    kappa = np.asarray(curvatures, dtype=np.float64)
    # E s_{t+d} theta_t of s = (theta, v), which a step without noise takes on.
    theta, v = stationary_moments(kappa, noise, rate, momentum)[:, :, 0].T
    lagged = np.empty((steps + 1, len(kappa)))
    for d in range(steps + 1):
        lagged[d] = theta
        v = momentum * v + kappa * theta
        theta = theta - rate * v
    return lagged


def least_loss_kernel(
    curvatures: np.ndarray, noise: np.ndarray, rate: float, momentum: float, k: int
) -> np.ndarray:
    """The kernel over k steps of the least expected loss, (k + 1,), sum 1.

    Raises ValueError if k < 1 or where a direction does not settle; LinAlgError where S is singular,
    as without any noise.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    lagged = autocovariances(curvatures, noise, rate, momentum, k)
    losses = toeplitz(lagged @ np.asarray(curvatures, dtype=np.float64) / 2)
    weights = np.linalg.solve(losses, np.ones(k + 1))
    return weights / weights.sum()
