"""E y y^T of y = sum_j mu_j theta_{t+j}        theta_{t+1} = theta_t - lambda (A theta_t + b_t)

    Sigma = Gamma Sigma Gamma + lambda^2 C        Gamma = I - lambda A, b_t of mean 0 and covariance C
    E y y^T = C_0 Sigma + sum_{delta > 0} C_delta (Gamma^delta Sigma + Sigma Gamma^delta)
    C_delta = sum_k mu_k mu_{k+delta}

Where the iterates of a noisy quadratic and any average of them settle, exactly: no path is drawn.
lambda: `rate`; A: `curvature`, symmetric, (d, d); C: `noise`, (d, d), which need not commute with
it; mu: the kernel, in either order of time. Sandler et al. 2023, Appendix A, whose eq. 19 holds
where A and C commute.
"""

import numpy as np

SYMMETRIC_TO = 1e-12  # of a matrix, relative to its largest entry: the rounding of float64


def overlap(mu: np.ndarray) -> np.ndarray:
    """C_delta for delta = 0 .. k, (k + 1,): a kernel's overlap with itself, delta steps later.

    >>> overlap(np.array([0.5, 0.0, 0.5]))
    array([0.5 , 0.  , 0.25])
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 1 or not len(mu) or not np.isfinite(mu).all():
        raise ValueError(f"mu must be a vector of finite weights, got shape {mu.shape}")
    return np.correlate(mu, mu, "full")[len(mu) - 1 :]


def shrinkage(gamma, mu: np.ndarray) -> np.ndarray:
    """C_0 + 2 sum_{delta > 0} C_delta gamma^delta: what an average leaves of the variance.

    gamma: 1 - lambda kappa, of any shape, which is also that of the result.
    """
    overlaps = overlap(mu)
    coefficients = np.concatenate([overlaps[:1], 2 * overlaps[1:]])
    return np.polynomial.polynomial.polyval(np.asarray(gamma, dtype=np.float64), coefficients)


def shrinkage_of_points(power, n: int) -> np.ndarray:
    """1/n + (2/n) sum_{k=1}^{n-1} (1 - k/n) power^k: of the mean of n points, Delta steps apart.

    power: gamma^Delta, of any shape, summed as it is. Raises ValueError if n < 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    k = np.arange(n)
    coefficients = np.where(k == 0, 1.0, 2.0) * (1 - k / n) / n
    return np.polynomial.polynomial.polyval(np.asarray(power, dtype=np.float64), coefficients)


def stationary_covariance(curvature: np.ndarray, noise: np.ndarray, rate: float) -> np.ndarray:
    """Sigma, (d, d): entries lambda c_ij / (kappa_i + kappa_j - lambda kappa_i kappa_j) in A's
    eigenvectors.

    Raises ValueError unless A and C are symmetric of one size and every kappa is in (0, 2 / lambda).
    """
    values, vectors, inside = _decompose(curvature, noise, rate)
    sums = values[:, None] + values - rate * np.outer(values, values)
    return vectors @ (rate * inside / sums) @ vectors.T


def average_covariance(
    curvature: np.ndarray, noise: np.ndarray, rate: float, mu: np.ndarray
) -> np.ndarray:
    """E y y^T of the average with kernel mu, (d, d). Raises ValueError as `stationary_covariance`."""
    values, vectors, _ = _decompose(curvature, noise, rate)
    sigma = vectors.T @ stationary_covariance(curvature, noise, rate) @ vectors
    of_direction = shrinkage(1 - rate * values, mu)
    return vectors @ ((of_direction[:, None] + of_direction) / 2 * sigma) @ vectors.T


def find_axes(curvatures: np.ndarray, noise: np.ndarray, rate: float) -> np.ndarray:
    """sqrt(lambda c_i / (kappa_i (2 - lambda kappa_i))): half-axes of the ellipsoid, (d,).

    curvatures: kappa_i, (d,), of a diagonal A; noise: c_i, (d,), of a diagonal C. For others the
    half-axes are square roots of the eigenvalues of `stationary_covariance`.
    """
    covariance = stationary_covariance(np.diag(curvatures), np.diag(noise), rate)
    return np.sqrt(np.diag(covariance))


def _decompose(curvature, noise, rate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kappa (d,), eigenvectors (d, d) in columns, and C in these."""
    a, c = (np.asarray(each, dtype=np.float64) for each in (curvature, noise))
    for name, matrix in (("curvature", a), ("noise", c)):
        if matrix.ndim != 2 or matrix.shape != a.shape or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"{name} must be a square matrix of A's size, got {matrix.shape}")
        if np.abs(matrix - matrix.T).max() > SYMMETRIC_TO * np.abs(matrix).max():
            raise ValueError(f"{name} must be symmetric")
    values, vectors = np.linalg.eigh(a)
    if outside := [float(each) for each in values if not 0 < each < 2 / rate]:
        raise ValueError(f"curvatures must lie in (0, {2 / rate:g}) to settle, got {outside[0]:g}")
    return values, vectors, vectors.T @ c @ vectors
