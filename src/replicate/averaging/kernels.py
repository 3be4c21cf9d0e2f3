"""sum_j mu_j theta_{t1+j}: a kernel mu weighs the iterates, its tail sums w their displacements.

    w_t = sum_{j > t} mu_j        1 before the window, 0 behind it

mu: `mu`, k + 1 weights on theta_t1 .. theta_{t1+k}, sum 1. w: `kernel_weights`. Sandler et al.
2023, Table 1 (three kernels) and Lemma 2 (the schedule).
"""

from collections.abc import Callable

import numpy as np

SHOWN_WEIGHTS = 4  # weights of a kernel that has no name, in a `repr`


def swa(k: int) -> np.ndarray:
    """mu = (0, 1/k, ..., 1/k): the mean of the last k iterates, (k + 1,) float64 (Table 1, row 1).

    Raises ValueError if k < 1.

    >>> swa(4)
    array([0.  , 0.25, 0.25, 0.25, 0.25])
    """
    _check_window(k)
    return np.concatenate([[0.0], np.full(k, 1 / k)])


def two_point(k: int) -> np.ndarray:
    """mu = (1/2, 0, ..., 0, 1/2): the midpoint of two iterates k steps apart, (k + 1,) float64.

    Table 1, row 2. Raises ValueError if k < 1.

    >>> two_point(4)
    array([0.5, 0. , 0. , 0. , 0.5])
    """
    _check_window(k)
    mu = np.zeros(k + 1)
    mu[[0, -1]] = 0.5
    return mu


def ema(k: int, delta: float | None = None) -> np.ndarray:
    """mu = ((1-d)^k, d (1-d)^(k-1), ..., d): exponential moving average begun at theta_t1, (k +
    1,).

    Table 1, row 3; `delta` is d and defaults to 5/k, which leaves the start 0.7 % of the weight
    (the paper asks for k >> 1/delta and names no number). Float64. Raises ValueError if k < 1 or
    unless 0 < delta <= 1.

    >>> ema(3, 0.5)
    array([0.125, 0.125, 0.25 , 0.5  ])
    """
    _check_window(k)
    delta = min(1.0, 5 / k) if delta is None else delta
    if not 0 < delta <= 1:
        raise ValueError(f"delta must be in (0, 1], got {delta}")
    tail = delta * (1 - delta) ** np.arange(k - 1, -1, -1.0)
    return np.concatenate([[(1 - delta) ** k], tail])


def kernel_weights(mu: np.ndarray) -> np.ndarray:
    """w_t = sum(mu[t+1:]), t = 0..k-1: what the average leaves of each step. mu: (k + 1,) -> (k,).

    Raises ValueError unless mu is a finite vector of at least two weights that sum to 1.

    >>> kernel_weights(swa(4))
    array([1.  , 0.75, 0.5 , 0.25])
    >>> kernel_weights(two_point(4))
    array([0.5, 0.5, 0.5, 0.5])
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 1 or len(mu) < 2 or not np.isfinite(mu).all() or abs(mu.sum() - 1) > 1e-9:
        raise ValueError(
            "mu must be at least two finite weights that sum to 1, "
            f"got shape {mu.shape}, sum {mu.sum()}"
        )
    return np.cumsum(mu[::-1])[::-1][1:].copy()


class KernelSchedule:
    """lambda'(i) = base(i) w_{i - start} at every step i: a whole run that ends at the average.

    Before the window w is 1 and the run is the main run; behind it w is 0, and nothing moves. It is
    what optax takes for a schedule, and step may be a number, an array of any library that has
    `__array_namespace__` (NumPy, jax, CuPy) or a value that jax traces.

    >>> rate = KernelSchedule(0.1, swa(4), start=2)
    >>> rate
    KernelSchedule(swa(k=4), start=2)
    >>> [round(rate(step), 3) for step in range(8)]
    [0.1, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0, 0.0]
    """

    def __init__(self, base: float | Callable, mu: np.ndarray, start: int = 0):
        """base: step -> rate, or one rate for all steps; mu: (k + 1,); start: the step of theta_t1.

        Raises ValueError if mu is no kernel or start is negative.
        """
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.base = base
        self.mu = np.asarray(mu, dtype=np.float64)
        self.start = start
        self._weights = np.concatenate([[1.0], kernel_weights(mu), [0.0]])

    def __call__(self, step):
        """The rate of the update that leaves `step`: a float, or an array where step is one."""
        rate = self.base(step) if callable(self.base) else self.base
        if not hasattr(step, "__array_namespace__"):
            return float(rate) * float(self._weights[self._place(step, np)])
        xp = step.__array_namespace__()
        return rate * xp.asarray(self._weights)[self._place(step, xp)]

    def _place(self, step, xp):
        """Where w of this step lies: at 0 before the window, at the last place behind it."""
        return xp.clip(step - self.start + 1, 0, len(self._weights) - 1)

    def __repr__(self) -> str:
        return f"KernelSchedule({describe(self.mu)}, start={self.start})"


def describe(mu: np.ndarray) -> str:
    """A kernel's name and k, of a kernel without a name k and its first weights.

    >>> describe(ema(30, 0.1))
    'ema(k=30, delta=0.1)'
    >>> describe(np.array([0.1, 0.2, 0.3, 0.4]))
    'mu(k=3: 0.1, 0.2, 0.3, 0.4)'
    """
    k = len(mu) - 1
    for kernel in (swa, two_point):
        if np.array_equal(mu, kernel(k)):
            return f"{kernel.__name__}(k={k})"
    delta = float(mu[-1])
    if 0 < delta <= 1 and np.array_equal(mu, ema(k, delta)):
        return f"ema(k={k}, delta={delta:.4g})"
    first = ", ".join(f"{weight:.4g}" for weight in mu[:SHOWN_WEIGHTS])
    return f"mu(k={k}: {first}{', ...' if len(mu) > SHOWN_WEIGHTS else ''})"


def _check_window(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
