"""E y^2 of y = sum_t mu_t theta_t        v_{t+1} = beta v_t + kappa theta_t + xi_t,
                                        theta_{t+1} = theta_t - lambda_t v_{t+1}

Where averages and side-trips of heavy ball end on a quadratic with curvature kappa and gradient
noise of variance c, exactly: every end is a linear function of the start and of each step's noise.
An average has constant lambda_t and its kernel mu; a side-trip has lambda_t = lambda w_t, and mu is 1
at the last step. The rate multiplies outside the buffer, as in torch. kappa: `curvatures`, (m,), one
per direction; c: `noise`, (m,); beta: `momentum`.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Responses:
    """How an end answers: dy/dtheta_0 `start` and dy/dv_0 `buffer`, (m,), dy/dxi_t `noise`, (k, m)."""

    start: np.ndarray
    buffer: np.ndarray
    noise: np.ndarray

    def second_moment(self, noise: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """E y^2, (m,). noise: c, (m,); moments: E s s^T of s = (theta_0, v_0), (m, 2, 2)."""
        inherited = np.stack([self.start, self.buffer], axis=-1)
        of_start = np.einsum("mi,mij,mj->m", inherited, moments, inherited)
        return of_start + noise * (self.noise**2).sum(0)


def responses(
    curvatures: np.ndarray, rates: np.ndarray, momentum: float, mu: np.ndarray
) -> Responses:
    """The responses of sum_t mu_t theta_t after k steps, by one pass backwards.

    rates: lambda_t, (k,); mu: (k + 1,). Raises ValueError on lengths that do not fit or a momentum
    outside [0, 1).
    """
    kappa = np.asarray(curvatures, dtype=np.float64)
    _check(kappa, rates, momentum, mu)
    of_noise = np.empty((len(rates), len(kappa)))
    # p = dy/dtheta_t and r = dy/dv_t, all that comes later included.
    p, r = np.full(len(kappa), float(mu[-1])), np.zeros(len(kappa))
    for t in range(len(rates) - 1, -1, -1):
        of_noise[t] = r - rates[t] * p  # dy/dv_{t+1}, which is dy/dxi_t
        p = mu[t] + p + kappa * of_noise[t]
        r = momentum * of_noise[t]
    return Responses(p, r, of_noise)


def stationary_moments(
    curvatures: np.ndarray, noise: np.ndarray, rate: float, momentum: float
) -> np.ndarray:
    """E s s^T of s = (theta, v) after long at a constant rate, (m, 2, 2).

    E theta^2 = lambda (1 + beta) c / (kappa (1 - beta) (2 (1 + beta) - lambda kappa))
    E v^2 = 2 kappa E theta^2 / (lambda (1 + beta))        E theta v = -lambda E v^2 / 2

    Raises ValueError where a direction does not settle: kappa not in (0, 2 (1 + beta) / lambda).
    """
    kappa, c = (np.asarray(each, dtype=np.float64) for each in (curvatures, noise))
    edge = 2 * (1 + momentum) / rate
    if outside := [float(each) for each in kappa if not 0 < each < edge]:
        raise ValueError(f"curvatures must lie in (0, {edge:g}) to settle, got {outside[0]:g}")
    square = (
        rate * (1 + momentum) * c / (kappa * (1 - momentum) * (2 * (1 + momentum) - rate * kappa))
    )
    of_buffer = 2 * kappa * square / (rate * (1 + momentum))
    mixed = -rate * of_buffer / 2
    return np.stack([np.stack([square, mixed], -1), np.stack([mixed, of_buffer], -1)], -2)


def predict_loss(
    curvatures: np.ndarray,
    noise: np.ndarray,
    rates: np.ndarray,
    momentum: float,
    mu: np.ndarray,
    moments: np.ndarray,
) -> np.ndarray:
    """1/2 kappa_i E y_i^2 of each direction, (m,): what an end has above the minimum.

    moments: of the start, (m, 2, 2), such as `stationary_moments`, or outer products of a start
    that is known. Raises ValueError as `responses`.
    """
    ends = responses(curvatures, rates, momentum, mu)
    return 0.5 * np.asarray(curvatures) * ends.second_moment(np.asarray(noise), moments)


def weigh_last(k: int) -> np.ndarray:
    """The kernel of the last iterate alone, (k + 1,): what a side-trip ends at."""
    mu = np.zeros(k + 1)
    mu[-1] = 1.0
    return mu


def _check(kappa: np.ndarray, rates: np.ndarray, momentum: float, mu: np.ndarray) -> None:
    if kappa.ndim != 1 or not np.isfinite(kappa).all():
        raise ValueError(f"curvatures must be a finite vector, got shape {kappa.shape}")
    if len(mu) != len(rates) + 1 or abs(np.sum(mu) - 1) > 1e-9:
        raise ValueError(
            f"mu must be one weight more than the {len(rates)} rates and sum to 1, got {len(mu)}, sum {np.sum(mu):g}"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
