"""theta <- theta - lambda A_x^T (A_x theta + c_x)        A_x of m Gaussian rows, anew at every step

Descent on the loss |A_x theta + c_x|^2 / 2 of one random sample: entries of A_x have variance 1/m,
so that E A_x^T A_x = I, and those of c_x variance 1. d: dimensions; lambda: `rate`. Its second
moments are exact,

    E H R H = (1 + 1/m) R + tr(R) / m I,        H = A_x^T A_x,        E b b^T = I,  b = A_x^T c_x

so that E|theta|^2 settles at lambda d / (2 - lambda h2), h2 = 1 + (d + 1) / m. Sandler et al. 2023,
section 4, where neither m nor the distribution of A_x is said.
"""

import numpy as np


def second_order(d: int, m: int) -> float:
    """h2 = 1 + (d + 1) / m, the factor of I in E H^2. Raises ValueError unless d, m >= 1."""
    if d < 1 or m < 1:
        raise ValueError(f"d and m must be at least 1, got {d}, {m}")
    return 1 + (d + 1) / m


def gamma_square(m: int) -> float:
    """E gamma^2 = 1 + 2 / m of gamma = theta^T H theta / |theta|^2, whose mean is 1."""
    return 1 + 2 / m


def offset_square(m: int) -> float:
    """E|c|^2 = m."""
    return float(m)


def noise_square(d: int) -> float:
    """E|A_x^T c_x|^2 = d."""
    return float(d)


def step_moments(moments: np.ndarray, rate: float, m: int, noisy: bool = True) -> np.ndarray:
    """E theta theta^T after a step, (d, d), from that before it; without b unless `noisy`."""
    d = len(moments)
    spread = (1 + 1 / m) * moments + np.trace(moments) / m * np.eye(d)
    return moments - 2 * rate * moments + rate**2 * (spread + noisy * np.eye(d))


def settle_square(d: int, m: int, rate: float, tolerance: float = 1e-14) -> float:
    """E|theta|^2 after long: `step_moments` iterated from 0 until it stays. inf where it grows.

    tolerance: relative change of a step at which it has settled, some roundings of float64.
    """
    if growth(d, m, rate) >= 1:
        return np.inf
    moments, square = np.zeros((d, d)), 0.0
    while True:
        moments = step_moments(moments, rate, m)
        if np.trace(moments) - square <= tolerance * square:
            return float(np.trace(moments))
        square = np.trace(moments)


def growth(d: int, m: int, rate: float) -> float:
    """The factor by which E|theta|^2 falls or grows in a step without b: from equal moments, which
    a step leaves equal.
    """
    return float(np.trace(step_moments(np.eye(d), rate, m, noisy=False)) / d)


def descend(
    rng: np.random.Generator, theta: np.ndarray, m: int, rate: float, steps: int
) -> np.ndarray:
    """The weights of many independent runs after `steps` steps, (runs, d). theta: where they begin."""
    for _ in range(steps):
        theta = theta - rate * draw_gradients(rng, theta, m)
    return theta


def draw_gradients(rng: np.random.Generator, theta: np.ndarray, m: int) -> np.ndarray:
    """A_x^T (A_x theta + c_x) of one sample a run, (runs, d), without drawing A_x itself.

    With y = A_x theta + c_x = |theta| z + c, z_i of variance 1/m, rows are independent of y across
    theta: A_x^T y = (z . y) theta / |theta| + |y| g, g Gaussian of variance 1/m an entry and
    orthogonal to theta. Of z and c only |z|, c along z and |c| across z enter. That is the
    distribution of the full product, at d + 3 numbers in place of m (d + 1).
    """
    runs, d = theta.shape
    norm = np.linalg.norm(theta, axis=1)
    # At theta = 0 every direction is as good: the first one.
    along = np.where(
        norm[:, None] > 0, theta / np.where(norm > 0, norm, 1.0)[:, None], np.eye(d)[:1]
    )
    z = np.sqrt(rng.chisquare(m, runs) / m)
    y = norm * z + rng.standard_normal(runs)
    rest = rng.chisquare(m - 1, runs) if m > 1 else 0.0
    across = rng.standard_normal((runs, d)) / np.sqrt(m)
    across -= (across * along).sum(1, keepdims=True) * along
    return (z * y)[:, None] * along + np.sqrt(y**2 + rest)[:, None] * across
