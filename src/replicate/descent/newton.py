"""x_{k+1} = x_k - lr g        gradient descent
x_{k+1} = x_k - H^-1 g         Newton's method, H the whole Hessian

of any pure jax function f(x, *data). Warmerdam 2020, More descent, less gradient, section Calculus.
The source takes H^-1 by `inv` in float32 and looks at nothing else; here condition and rank of
every Hessian stand beside the path.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.precision import precision
from replicate.errors import BadParameter, unknown

SOLVERS = ("inv", "solve", "pinv")


class Path(NamedTuple):
    """points: (steps + 1, d); losses: (steps + 1,)."""

    points: np.ndarray
    losses: np.ndarray


class NewtonPath(NamedTuple):
    """Path, and for the Hessian before each step (steps,): condition, rank, and whether it is
    singular.

    condition: largest over smallest size of an eigenvalue; rank: eigenvalues larger than d eps
    times the largest.
    """

    points: np.ndarray
    losses: np.ndarray
    condition: np.ndarray
    rank: np.ndarray
    singular: np.ndarray


def gradient_descent(
    f: Callable, start: np.ndarray, lr: float, steps: int, data: tuple = (), dtype: str = "float64"
) -> Path:
    """`steps` steps from `start` (d,). f(x, *data) -> scalar; what it needs of arrays goes in
    `data`.

    Raises ValueError if steps is negative or the dtype unknown. A path that diverges is returned as
    it is.
    """
    with precision(dtype):
        points, losses = _descent(f, _steps(steps))(*_arrays(dtype, start, lr, data))
        return Path(np.asarray(points), np.asarray(losses))


def newton(
    f: Callable,
    start: np.ndarray,
    steps: int,
    data: tuple = (),
    solver: str = "inv",
    dtype: str = "float64",
) -> NewtonPath:
    """`steps` Newton steps from `start` (d,). f(x, *data) -> scalar.

    solver: "inv" as the source has it; "solve" by LU; "pinv" by the eigenvectors whose eigenvalues
    count for the rank: the shortest step there is to a point where the second-order model is
    stationary. The first two give what they give where a Hessian is singular: read `singular`.
    Raises ValueError if steps is negative or the solver or dtype unknown.
    """
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    with precision(dtype):
        points, losses, values = _newton(f, _steps(steps), solver)(
            *_arrays(dtype, start, 0.0, data)
        )
    return NewtonPath(np.asarray(points), np.asarray(losses), *spectrum(np.asarray(values)))


def shape_of_hessian(f: Callable, start: np.ndarray, *data) -> tuple[int, ...]:
    """The shape of the array that jax's Hessian of f(x, *data) at `start` (d,) would be, without
    making it.
    """
    return jax.eval_shape(jax.hessian(f), start, *data).shape


def spectrum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Condition, rank and singular, as in NewtonPath, of symmetric matrices with eigenvalues
    `values` (..., d).
    """
    sizes = np.abs(values)
    largest = sizes.max(axis=-1)
    smallest = sizes.min(axis=-1)
    rank = np.sum(sizes > sizes.shape[-1] * np.finfo(sizes.dtype).eps * largest[..., None], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return largest / smallest, rank, rank < sizes.shape[-1]


def _steps(steps: int) -> int:
    if steps < 0:
        raise BadParameter(f"steps must be at least 0, got {steps}")
    return steps


def _arrays(dtype: str, start: np.ndarray, lr: float, data: tuple) -> tuple:
    return (
        jnp.asarray(start, dtype),
        jnp.asarray(lr, dtype),
        tuple(jnp.asarray(array, dtype) for array in data),
    )


@functools.lru_cache(maxsize=32)
def _descent(f: Callable, steps: int) -> Callable:
    @jax.jit
    def run(start, lr, data):
        def step(x, _):
            loss, gradient = jax.value_and_grad(f)(x, *data)
            return x - lr * gradient, (x, loss)

        end, (points, losses) = jax.lax.scan(step, start, length=steps)
        return _append_end(points, losses, end, f(end, *data))

    return run


@functools.lru_cache(maxsize=32)
def _newton(f: Callable, steps: int, solver: str) -> Callable:
    @jax.jit
    def run(start, _, data):
        def step(x, _):
            loss, gradient = jax.value_and_grad(f)(x, *data)
            hessian = jax.hessian(f)(x, *data)
            values, vectors = jnp.linalg.eigh(hessian)
            move = _move(solver, hessian, gradient, values, vectors)
            return x - move, (x, loss, values)

        end, (points, losses, values) = jax.lax.scan(step, start, length=steps)
        return *_append_end(points, losses, end, f(end, *data)), values

    return run


def _move(solver: str, hessian, gradient, values, vectors):
    """H^-1 g."""
    if solver == "inv":
        return jnp.linalg.inv(hessian) @ gradient
    if solver == "solve":
        return jnp.linalg.solve(hessian, gradient)
    sizes = jnp.abs(values)
    counts = sizes > len(values) * jnp.finfo(values.dtype).eps * sizes.max()
    return vectors @ jnp.where(counts, vectors.T @ gradient / jnp.where(counts, values, 1), 0)


def _append_end(points, losses, end, last) -> tuple:
    return jnp.concatenate([points, end[None]]), jnp.concatenate([losses, last[None]])
