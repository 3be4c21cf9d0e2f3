"""y = X w:   the source's linear regression, whose loss is its own second-order model.

    L(w) = |X w - y|^2 / n,    g = 2 X'(X w - y) / n,    H = 2 X'X / n,    w - H^-1 g = (X'X)^-1 X'y

Warmerdam 2020, More descent, less gradient, section Calculus: one Newton step from anywhere is the
closed form.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from replicate.descent.newton import spectrum
from replicate.errors import BadParameter
from replicate.streams import rng

ROWS_PER_PRODUCT = 4096  # rows of a product: at 12 columns the largest that OpenBLAS multiplies without copying it first
BLOCKS = 4  # products a call, 1.5 MiB in float64 at 12 columns


class Regression(NamedTuple):
    """x: (n, k + 1), its first column 1; y: (n,); weights: (k + 1,), those that made y."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray


class Fit(NamedTuple):
    """weights: (k + 1,) float64; condition and rank of X'X, and whether it is singular to working
    precision.
    """

    weights: np.ndarray
    condition: float
    rank: int
    singular: bool


def regression(
    n: int, k: int, seed: int, condition: float = 1.0, dtype: str = "float64"
) -> Regression:
    """The source's data without noise: X ~ N(0, 1), w ~ N(0, 5^2), which it draws from no seed.

    condition: of X'X, about; 1 is the source's. Above it the k columns come from k directions, each
    smaller than the one before, by a rotation: columns that are merely small would do Newton's
    method no harm. Raises ValueError if n or k is below 1 or the condition not finite and at least
    1.
    """
    if n < 1 or k < 1:
        raise BadParameter(f"n and k must be at least 1, got {n} and {k}")
    if not (np.isfinite(condition) and condition >= 1):
        raise BadParameter(f"condition must be finite and at least 1, got {condition}")
    x = rng(seed, "noise", 0).standard_normal((n, k))
    if condition > 1:
        rotation = np.linalg.qr(rng(seed, "noise", 2).standard_normal((k, k))).Q
        x = (x * condition ** (-np.linspace(0, 0.5, k + 1)[1:])) @ rotation
    x = np.concatenate([np.ones((n, 1)), x], axis=1).astype(dtype)
    weights = rng(seed, "noise", 1).normal(0.0, 5.0, k + 1)
    return Regression(x, x @ weights.astype(dtype), weights)


def regression_start(k: int, seed: int, dtype: str = "float64") -> np.ndarray:
    """W ~ N(0, 1), (k + 1,), where the source's descent starts."""
    return rng(seed, "init", 0).standard_normal(k + 1).astype(dtype)


def mean_squared_error(w, x, y):
    """|X w - y|^2 / n, in jax. w: (k + 1,), x: (n, k + 1), y: (n,)."""
    return jnp.mean((jnp.matmul(x, w, precision="highest") - y) ** 2)


def normal_equations(x: np.ndarray, y: np.ndarray) -> Fit:
    """(X'X)^-1 X'y in float64, whatever the type of X and y, by blocks of rows: a Newton step from
    anywhere.

    x: (n, k + 1); y: (n,). Where X'X is singular to working precision, as with fewer rows than
    columns, the smallest of all solutions. Forming X'X squares the condition of X: weights are good
    to about 1e-16 times `condition`.
    """
    gram = _gram(x, y)
    matrix = gram[:, :-1]
    right = gram[:, -1]
    values, vectors = np.linalg.eigh(matrix)
    condition, rank, singular = spectrum(values)
    if singular:
        counted = slice(len(values) - rank, None)  # eigenvalues are in ascending order
        weights = vectors[:, counted] @ ((vectors[:, counted].T @ right) / values[counted])
    else:
        weights = scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix), right)
    return Fit(weights, float(condition), int(rank), bool(singular))


def _gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """X'[X y], (k + 1, k + 2)."""
    columns = x.shape[1]
    gram = np.zeros((columns, columns + 1))
    rows = np.zeros((BLOCKS, ROWS_PER_PRODUCT, columns + 1))
    flat = rows.reshape(-1, columns + 1)
    for first in range(0, len(x), len(flat)):
        block = x[first : first + len(flat)]
        flat[: len(block), :-1] = block
        flat[: len(block), -1] = y[first : first + len(flat)]
        flat[len(block) :] = 0
        gram += np.matmul(rows[:, :, :-1].transpose(0, 2, 1), rows).sum(axis=0)
    return gram
