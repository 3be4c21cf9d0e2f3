"""R = E z z^T,    z = (theta, v, phi, w, mean)        for every curvature a on its own

Descent on sum_i a_i theta_i^2 / 2 whose gradient a theta + n has noise n of variance `noise`:
heavy ball v <- beta v + a theta + n, theta <- theta - gamma v (beta = 0: SGD), Lookahead
phi <- phi + alpha (theta - phi), theta <- phi after every k steps, w the momentum at the last pull,
and the running mean m <- m + c_t (theta - m). Every update is linear in z, so R is followed exactly
and no path is drawn, whatever the schedule gamma_t and c_t.

Zhang, Lucas, Hinton, Ba 2019, "Noisy Quadratic Analysis". Their noise inside the loss,
(theta - c)^T A (theta - c) / 2 with c of variance sigma^2, is a gradient noise of variance
a^2 sigma^2; "a_i theta_i + c_i", as the slides print it, one of variance sigma^2.
"""

from collections.abc import Sequence

import numpy as np

INNER_STATES = ("maintain", "reset", "interpolate")  # what a pull does to the momentum


class SecondMoments:
    """E z z^T of named variables that are updated linearly, (names, names, *shape)."""

    def __init__(self, names: Sequence[str], shape: tuple[int, ...]):
        """All variables are 0 at first; shape: of the lanes, one a rate and curvature."""
        self._places = {name: i for i, name in enumerate(names)}
        self._moments = np.zeros((len(names), len(names), *shape))

    def __getitem__(self, name: str) -> np.ndarray:
        """E of the variable's square, of the lanes' shape."""
        place = self._places[name]
        return self._moments[place, place]

    def shift(self, start, *names: str) -> None:
        """Put variables that are 0 at `start`, a number for every lane."""
        places = [self._places[name] for name in names]
        self._moments[np.ix_(places, places)] += np.square(start)

    def combine(self, name: str, noise=0.0, **weights) -> None:
        """z_name <- sum_j weights_j z_j + e, e independent of z and of variance `noise`.

        A lane that grows without bound ends at inf or NaN, without a warning.
        """
        place = self._places[name]
        row = np.zeros_like(self._moments[place])
        with np.errstate(over="ignore", invalid="ignore"):
            for other, weight in weights.items():
                row += weight * self._moments[self._places[other]]
            parts = [weight * row[self._places[other]] for other, weight in weights.items()]
            square = noise + sum(parts)
        self._moments[place] = row
        self._moments[:, place] = row
        self._moments[place, place] = square


def second_moments(
    curvatures,
    noise,
    rates,
    momentum: float = 0.0,
    alpha: float = 1.0,
    k: int | None = None,
    weights=None,
    inner_state: str = "maintain",
    start=1.0,
) -> dict[str, np.ndarray]:
    """E of the square of "theta", and of "phi" and "mean" where asked for: (steps + 1, *lanes) each.

    curvatures, noise (variance of a gradient's noise), start: broadcast to the lanes; rates:
    (steps,) or (steps, *lanes), lanes that broadcast with curvatures. k: steps of a cycle, None for
    no Lookahead; phi between two pulls is that of the last. weights: c_t, (steps,), None for no
    mean; 1 / t is the mean of all iterates. Raises ValueError for momentum outside [0, 1), k below
    1, an unknown inner state or weights of another length.
    """
    rates = np.asarray(rates, dtype=np.float64)
    _check(rates, momentum, k, weights, inner_state)
    shape = np.broadcast_shapes(rates.shape[1:], np.shape(curvatures), np.shape(start))
    names = ["theta", *["v"] * bool(momentum), *["phi"] * bool(k)]
    names += ["w"] * (inner_state == "interpolate") + ["mean"] * (weights is not None)
    moments = SecondMoments(names, shape)
    shown = [name for name in ("theta", "phi", "mean") if name in names]
    moments.shift(start, *shown)
    paths = {name: np.empty((len(rates) + 1, *shape)) for name in shown}
    for t in range(len(rates) + 1):
        if t:
            _descend(moments, curvatures, noise, rates[t - 1], momentum)
            if k and t % k == 0:
                _pull(moments, alpha, momentum, inner_state)
            if weights is not None:
                moments.combine("mean", mean=1 - weights[t - 1], theta=weights[t - 1])
        for name, path in paths.items():
            path[t] = moments[name]
    return paths


def sgd_variance(x, noise=1.0) -> np.ndarray:
    """noise / (1 - (1 - x)^2)        x = gamma a

    Where SGD's variance settles; noise: of a step, gamma^2 times that of the gradient. With noise
    gamma^2 a^2 sigma^2 it is equation (6). inf where it does not settle.
    """
    return _settle((1 - np.asarray(x, dtype=np.float64)) ** 2, noise)


def lookahead_variance(x, alpha, k, noise=1.0) -> np.ndarray:
    """alpha^2 (1 - r^2k) / (alpha^2 (1 - r^2k) + 2 alpha (1 - alpha) (1 - r^k)) V_SGD,    r = 1 - x

    Equation (7): the variance of the slow weights. inf where it does not settle.
    """
    _, spread = cycle(x, k, noise)
    return _settle(slow_factor(x, alpha, k) ** 2, np.square(alpha) * spread)


def slow_factor(x, alpha, k) -> np.ndarray:
    """1 - alpha + alpha (1 - x)^k: what a cycle of Lookahead leaves of the mean of phi."""
    return 1 - alpha + alpha * (1 - np.asarray(x, dtype=np.float64)) ** k


def cycle(x, k, noise=1.0) -> tuple[np.ndarray, np.ndarray]:
    """r^k and noise (1 + r^2 + ... + r^(2k - 2)), r = 1 - x: mean and variance of k steps from 1."""
    r = 1 - np.asarray(x, dtype=np.float64)
    return r**k, noise * sum(r ** (2 * i) for i in range(k))


def lookahead_mean_square(x, alpha, k: int, cycles: int, noise=0.0, start=1.0) -> np.ndarray:
    """E phi^2 after some cycles at a constant rate, in closed form; alpha = 1, k = 1 is SGD."""
    factor = slow_factor(x, alpha, k) ** 2
    added = np.square(alpha) * cycle(x, k, noise)[1]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        powers = factor**cycles
        series = np.where(factor == 1, cycles, (1 - powers) / (1 - factor))
        return powers * np.square(start) + added * series


def match_rate(x, alpha, k) -> np.ndarray:
    """1 - (1 - alpha + alpha (1 - x)^k)^(1/k): the x at which SGD's mean falls as Lookahead's does.

    NaN where a cycle turns the mean over, which k equal steps of SGD with a rate below 1/a cannot.
    """
    factor = slow_factor(x, alpha, k)
    return 1 - np.where(factor >= 0, np.abs(factor) ** (1 / np.asarray(k)), np.nan)


def mean_variance(x, beta, noise=1.0) -> np.ndarray:
    """V_SGD (1 - beta) (1 + beta r) / ((1 + beta) (1 - beta r)),    r = 1 - x

    Where the variance of the mean m <- beta m + (1 - beta) theta of SGD's iterates settles.
    """
    r = 1 - np.asarray(x, dtype=np.float64)
    return sgd_variance(x, noise) * (1 - beta) * (1 + beta * r) / ((1 + beta) * (1 - beta * r))


def _settle(factor: np.ndarray, added) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(factor >= 1, np.inf, added / (1 - factor))


def _descend(moments: SecondMoments, curvatures, noise, rate, momentum: float) -> None:
    if not momentum:
        moments.combine("theta", noise=rate**2 * noise, theta=1 - rate * curvatures)
        return
    moments.combine("v", noise=noise, v=momentum, theta=curvatures)
    moments.combine("theta", theta=1.0, v=-rate)


def _pull(moments: SecondMoments, alpha: float, momentum: float, inner_state: str) -> None:
    moments.combine("phi", phi=1 - alpha, theta=alpha)
    moments.combine("theta", phi=1.0)
    if momentum and inner_state == "reset":
        moments.combine("v")
    if momentum and inner_state == "interpolate":
        moments.combine("w", w=1 - alpha, v=alpha)
        moments.combine("v", w=1.0)


def _check(rates, momentum: float, k: int | None, weights, inner_state: str) -> None:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if inner_state not in INNER_STATES:
        raise ValueError(
            f"inner_state must be one of {', '.join(INNER_STATES)}, got {inner_state!r}"
        )
    if weights is not None and len(weights) != len(rates):
        raise ValueError(
            f"weights must have one entry a step, got {len(weights)} for {len(rates)} steps"
        )
