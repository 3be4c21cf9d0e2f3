"""Heavy ball on a quadratic whose every gradient is known: the smallest place where Table 1 can be
right or wrong.

    g_t = kappa theta_t + c_t        kappa `curvature`, c_t `noise`

    outside   v <- beta v + g_t,            theta <- theta - lambda_t v      torch.optim.SGD
    inside    v <- beta v - lambda_t g_t,   theta <- theta + v               Keras

With kappa = 0 the gradients are frozen, which is the assumption of Sandler et al. 2023, Lemma 2.
"""

import numpy as np

CONVENTIONS = ("outside", "inside")


def heavy_ball(
    noise: np.ndarray,
    rates: np.ndarray,
    momentum: float,
    start: np.ndarray,
    buffer: np.ndarray,
    curvature: float | np.ndarray = 0.0,
    convention: str = "outside",
) -> np.ndarray:
    """The path theta_0 .. theta_k, (k + 1, d) float64.

    noise: (k, d); rates: (k,); start: (d,); buffer: (d,), the inherited v in the convention's own
    unit (a gradient outside, a displacement inside); curvature: a number or (d,). Raises ValueError
    on an unknown convention, lengths that differ or a momentum outside [0, 1).
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if len(rates) != len(noise):
        raise ValueError(
            f"rates must have one entry a step, got {len(rates)} for {len(noise)} steps"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    path = np.empty((len(noise) + 1, noise.shape[1]))
    path[0], v = start, np.array(buffer, dtype=np.float64)
    for t, (rate, c) in enumerate(zip(rates, noise, strict=True)):
        gradient = curvature * path[t] + c
        if convention == "outside":
            v = momentum * v + gradient
            path[t + 1] = path[t] - rate * v
        else:
            v = momentum * v - rate * gradient
            path[t + 1] = path[t] + v
    return path
