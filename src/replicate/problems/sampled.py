"""theta_{t+1} = theta_t - lambda (kappa theta_t + b_t)        b_t Gaussian of variance `noise`

Runs of SGD on a noisy quadratic that are drawn, every direction on its own: what exact moments are
held against. kappa: `curvatures`, (d,); lambda: `rate`.
"""

from collections.abc import Iterator, Mapping

import numpy as np


def draw_path(
    rng: np.random.Generator, start: np.ndarray, curvatures, rate: float, steps: int, noise=1.0
) -> Iterator[np.ndarray]:
    """theta_0 .. theta_steps of many runs, one after the other, each (runs, d). start: (runs, d).

    Raises ValueError unless rate and noise are at least 0.
    """
    if rate < 0 or np.min(noise) < 0:
        raise ValueError(f"rate and noise must be at least 0, got {rate}, {noise}")
    theta = np.array(start, dtype=np.float64)
    shrink, scale = 1 - rate * np.asarray(curvatures), rate * np.sqrt(noise)
    yield theta
    for _ in range(steps):
        theta = shrink * theta - scale * rng.standard_normal(theta.shape)
        yield theta


def average_path(path: Iterator[np.ndarray], steps: int, kernels: Mapping[str, np.ndarray]) -> dict:
    """sum_j mu_j theta_{steps - k + j}: averages of the last k + 1 points of a path, by name.

    kernels: name -> mu, (k + 1,) in the order of time. No point is kept. Raises ValueError for a
    kernel longer than the path.
    """
    for name, mu in kernels.items():
        if len(mu) > steps + 1:
            raise ValueError(f"{name} weighs {len(mu)} points, the path has {steps + 1}")
    sums: dict[str, np.ndarray | float] = dict.fromkeys(kernels, 0.0)
    for t, theta in enumerate(path):
        for name, mu in kernels.items():
            place = t - (steps + 1 - len(mu))
            if place >= 0 and mu[place]:
                sums[name] = sums[name] + mu[place] * theta
    return sums
