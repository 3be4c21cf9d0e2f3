"""R_t = A R_{t-1} A^T + q b b^T,    R = E z z^T,    z = (w, d_0, ..., d_{k-1})

Gradient descent with extrapolations on a w^2 / 2, its gradients noisy: d_0 <- -x w + e, w <- w +
d_0 at every step, and w <- w + sum_j c_j d_j after it at an extrapolation. x = eta a: rate times
curvature, e: noise of a step, of variance q = (eta sigma)^2, c: `coefficients`, d_j: displacements
of the inner steps, the newest first. All of it is exact: no path is drawn. Coefficients (s,) are
gradient descent at the rate (1 + s) eta, (0,) are gradient descent.
"""

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

FINEST, WIDEST = (
    1e-3,
    4.0,
)  # the grid of x on which the first crossing is looked for, and where it ends


def noise_gain(coefficients) -> float:
    """sum_j c_j^2: variance of what an extrapolation adds over that of a step, where steps are
    noise alone.
    """
    return float(np.sum(np.square(_check_coefficients(coefficients))))


def spectral_radius(coefficients, x, every: int = 1) -> np.ndarray:
    """The factor by which w falls or grows a step in the long run, for every x, of any shape.

    every: N, an extrapolation after each N-th step; the factor is the N-th root of a cycle's.
    Raises ValueError unless there are finite coefficients and every is at least 1.
    """
    plain, ahead = _matrices(_check_coefficients(coefficients, every), x)
    cycle = ahead @ np.linalg.matrix_power(plain, every - 1)
    return np.abs(np.linalg.eigvals(cycle)).max(-1) ** (1 / every)


def largest_stable(coefficients, every: int = 1) -> float:
    """The x = eta a up to which w does not grow, 2 for gradient descent.

    The first crossing on a grid of 0.001, then bisection; 4 if there is none below. Raises
    ValueError as `spectral_radius`.
    """
    grid = np.arange(1, round(WIDEST / FINEST) + 1) * FINEST
    unstable = np.flatnonzero(spectral_radius(coefficients, grid, every) > 1)
    if not len(unstable):
        return WIDEST
    low, high = grid[unstable[0]] - FINEST, grid[unstable[0]]
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if spectral_radius(coefficients, middle, every) > 1 else (middle, high)
        )
    return float(low)


def stationary_variance(coefficients, x: float, every: int | None = 1) -> np.ndarray:
    """Var w after each step of a cycle in the long run, the extrapolated one last: (every,), in
    units of q.

    every = None: nothing is extrapolated but what is looked at, (1,). inf where w grows. For
    gradient descent it is 1 / (x (2 - x)). Raises ValueError as `spectral_radius`.
    """
    c, (plain, ahead) = _check_coefficients(coefficients, every), _matrices(coefficients, x)
    cycle = [plain] * ((every or 1) - 1) + [ahead if every else plain]
    inputs = [_noise(c, matrix is ahead) for matrix in cycle]
    whole, added = np.eye(len(c) + 1), np.zeros((len(c) + 1,) * 2)
    for matrix, b in zip(cycle, inputs, strict=True):
        whole, added = matrix @ whole, matrix @ added @ matrix.T + np.outer(b, b)
    if np.abs(np.linalg.eigvals(whole)).max() >= 1:
        return np.full(every or 1, np.inf)
    moments = solve_discrete_lyapunov(whole, added)
    if every is None:
        seen = np.array([1.0, *c])
        return np.array([seen @ moments @ seen])
    variances = np.empty(every)
    for i, (matrix, b) in enumerate(zip(cycle, inputs, strict=True)):
        moments = matrix @ moments @ matrix.T + np.outer(b, b)
        variances[i] = moments[0, 0]
    return variances


def mean_squares(
    coefficients, x, steps: int, start=1.0, q=0.0, every: int | None = 1
) -> np.ndarray:
    """E w_t^2, t = 0 .. steps, for every x: (steps + 1, *x.shape). start: w_0, q: variance of a
    step's noise.

    As the optimizer does it: the first extrapolation is due when all k displacements are known, at
    a multiple of `every`; with every = None only what is looked at is extrapolated. Raises
    ValueError as `spectral_radius`.
    """
    c, (plain, ahead) = _check_coefficients(coefficients, every), _matrices(coefficients, x)
    seen, noise = np.array([1.0, *c]), np.broadcast_to(q, np.shape(x))[..., None, None]
    moments = np.zeros_like(plain)
    moments[..., 0, 0] = np.square(start)
    squares = np.empty((steps + 1, *np.shape(x)))
    squares[0] = moments[..., 0, 0]
    for t in range(1, steps + 1):
        is_known = t >= len(c)
        due = every is not None and t % every == 0 and is_known
        matrix, b = ahead if due else plain, _noise(c, due)
        moments = matrix @ moments @ np.swapaxes(matrix, -1, -2) + noise * np.outer(b, b)
        looked = (
            np.einsum("i,...ij,j->...", seen, moments, seen)
            if every is None and is_known
            else moments[..., 0, 0]
        )
        squares[t] = looked
    return squares


def heavy_ball_variance(x, beta: float) -> np.ndarray:
    """(1 + beta) / ((1 - beta) x (2 (1 + beta) - x)): the same of v <- beta v - x w + e, w <- w +
    v, in units of q.

    beta = s / (1 + s) goes as far along a constant gradient as rate (1 + s) eta. inf from x = 2 (1
    + beta) on. Raises ValueError unless 0 <= beta < 1.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}")
    room = 2 * (1 + beta) - np.asarray(x, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.where(room > 0, (1 + beta) / ((1 - beta) * x * room), np.inf)


def _matrices(coefficients, x) -> tuple[np.ndarray, np.ndarray]:
    """A of a plain step and of one with its extrapolation, (*x.shape, k + 1, k + 1) each."""
    x, k = np.asarray(x, dtype=np.float64), len(coefficients)
    plain = np.zeros((*x.shape, k + 1, k + 1))
    plain[..., 0, 0], plain[..., 1, 0] = 1 - x, -x
    plain[..., range(2, k + 1), range(1, k)] = 1
    after = np.eye(k + 1)
    after[0, 1:] = coefficients
    return plain, after @ plain


def _noise(c: np.ndarray, due: bool) -> np.ndarray:
    """b: what e does to w and to d_0."""
    return np.array([1 + c[0] * due, 1.0, *np.zeros(len(c) - 1)])


def _check_coefficients(coefficients, every: int | None = 1) -> np.ndarray:
    c = np.asarray(coefficients, dtype=np.float64)
    if c.ndim != 1 or not len(c) or not np.isfinite(c).all():
        raise ValueError(f"coefficients must be at least one finite number, got {coefficients}")
    if every is not None and every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    return c
