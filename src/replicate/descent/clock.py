"""Seconds of the stages of a loop, each stage in turn, so that a machine that gets slower slows all
of them alike.

They are those of `numerics.clock`: of the process where jax runs on the CPU, of the device
elsewhere. Everything is compiled, and its data is on the device, before the first round that
counts.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.least_squares import mean_squared_error
from replicate.descent.precision import precision
from replicate.errors import BadParameter
from replicate.numerics import clock

AGAIN = " again"  # after a job's name: the same work done twice, to see what the clock is worth


def regression_seconds(
    x: np.ndarray,
    y: np.ndarray,
    lr: float,
    repeats: int,
    dtype: str = "float32",
    beside: Mapping[str, Callable] | None = None,
    only: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Parts of the source's two loops over a linear regression, (repeats,) each, and of each of
    them AGAIN, at the end of every round. x: (n, k + 1), y: (n,).

    loss, gradient: compiled; step: W <- W - lr dW, operation by operation, as printed; newton:
    Hessian (compiled), inverse, gradient, product and update; newton as printed: the same with the
    Hessian as the source calls it, traced anew and run operation by operation. beside: further jobs
    by name, timed in turn with these; only: names of the parts that are wanted, all if none is
    given. Raises ValueError if repeats is below 1 or the dtype unknown.
    """
    with precision(dtype):
        x, y, w = (jnp.asarray(array, dtype) for array in (x, y, np.zeros(x.shape[1])))
        loss = jax.jit(mean_squared_error)
        gradient = jax.jit(jax.grad(mean_squared_error))
        hessian = jax.hessian(mean_squared_error)
        compiled = jax.jit(hessian)
        slope = gradient(w, x, y)

        def newton(hessian: Callable):
            return w - np.linalg.inv(hessian(w, x, y)) @ gradient(w, x, y)

        jobs = {
            "loss": lambda: loss(w, x, y),
            "gradient": lambda: gradient(w, x, y),
            "step": lambda: w - slope * lr,
            "newton": lambda: newton(compiled),
            "newton as printed": lambda: newton(hessian),
        }
        jobs = {name: job for name, job in jobs.items() if name in (only or jobs)}
        again = {name + AGAIN: job for name, job in jobs.items()}
        return _in_turn({**jobs, **(beside or {}), **again}, repeats)


def net_seconds(
    loss: Callable, data: NamedTuple, weights: np.ndarray, repeats: int, dtype: str = "float32"
) -> dict[str, np.ndarray]:
    """A forward pass and a gradient with its loss, compiled, (repeats,) each: `loss` and
    `gradient`.

    loss, data, weights: as of `train`. Raises ValueError if repeats is below 1 or the dtype
    unknown.
    """
    with precision(dtype):
        data, weights = jax.tree.map(lambda array: jnp.asarray(array, dtype), (data, weights))
        forward = jax.jit(loss)
        both = jax.jit(jax.value_and_grad(loss))
        return _in_turn(
            {"loss": lambda: forward(weights, data), "gradient": lambda: both(weights, data)},
            repeats,
        )


def bits_of_printed_update(columns: int = 3) -> tuple[int, int]:
    """Bits of a number of W before and after `W -= dW * stepsize`, with `np` shadowed as in the
    printed script.

    There W is NumPy's and dW comes from a compiled gradient: what the in-place update leaves is not
    the array it began with.
    """
    w = np.ones(columns)
    before = w.itemsize
    with precision("float32"):  # jax as it is when imported
        w -= jax.jit(jax.grad(mean_squared_error))(w, np.eye(columns), np.zeros(columns)) * 0.02
    return 8 * before, 8 * w.dtype.itemsize


def _in_turn(jobs: Mapping[str, Callable], repeats: int) -> dict[str, np.ndarray]:
    if repeats < 1:
        raise BadParameter(f"repeats must be at least 1, got {repeats}")
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    return clock(jobs, repeats, device, wait=jax.block_until_ready)
