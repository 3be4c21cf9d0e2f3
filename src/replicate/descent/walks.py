"""Whole runs in one compiled loop: a scan over gradients, and in it a while-loop over what each is
used for.

Row t of a `Run` is where it stands after t gradients: the loss there, and the gradients and forward
passes it took. A forward pass within a gradient is not counted; the methods' own are, with the one
by which the published classes compute again what the training loop knows.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.methods import Point, Stepping
from replicate.descent.precision import precision
from replicate.errors import BadParameter

TIE_ULPS = 64  # rounding of a mean over many rows, in units of the last place: what counts as a tie


class Run(NamedTuple):
    """losses, gradients, forwards: (steps + 1,); mini_steps: (steps,), of each step; weights: (P,),
    at the end.

    path: (steps + 1, P) or None. Of `train_many` all but `gradients` have the lanes as their first
    axis.
    """

    losses: np.ndarray
    gradients: np.ndarray
    forwards: np.ndarray
    mini_steps: np.ndarray
    weights: np.ndarray
    path: np.ndarray | None


class Ties(NamedTuple):
    """Of `steps` steps from the same weights, those that differ, and of these those at losses equal
    to rounding.
    """

    steps: int
    differing: int
    last_digit: int


def train(
    method: Any,
    loss: Callable,
    data: NamedTuple,
    start: np.ndarray,
    lr: float,
    steps: int,
    dtype: str = "float64",
    path: bool = False,
) -> Run:
    """`steps` gradients from `start` (P,), each used as `method` does.

    method: of `methods` or `line_searches`; loss: (weights, data) -> scalar, as `nets` makes them.
    A first call with another method, loss, number of steps or shape compiles, a fraction of a
    second to seconds; other weights, rates and data do not. A run that diverges goes on as infinity
    or nan. Raises ValueError if steps is below 1, lr is not finite and above 0 or the dtype is
    unknown.
    """
    return _train(method, loss, data, start, np.float64(lr), steps, dtype, path, None)


def train_many(
    method: Any,
    loss: Callable,
    data: NamedTuple,
    starts: np.ndarray,
    lrs: np.ndarray,
    steps: int,
    dtype: str = "float64",
    path: bool = False,
    shared: bool = True,
) -> Run:
    """`train` in lanes: starts (m, P), lrs (m,), one data set for all or, unless `shared`, with
    lanes as first axis.

    A while-loop of many lanes goes on until the last has stopped, the others idling: lanes pay
    where nets are small. Raises ValueError as `train` does, or if the numbers of lanes differ.
    """
    lrs = np.asarray(lrs, dtype=np.float64)
    if starts.ndim != 2 or lrs.shape != (len(starts),):
        raise BadParameter(
            f"starts and lrs must have as many lanes, got shapes {starts.shape} and {lrs.shape}"
        )
    return _train(
        method, loss, data, starts, lrs, steps, dtype, path, (None if shared else 0, 0, 0)
    )


def _train(method, loss, data, start, lr, steps, dtype, path, axes) -> Run:
    if steps < 1:
        raise BadParameter(f"steps must be at least 1, got {steps}")
    if not (np.isfinite(lr).all() and (lr > 0).all()):
        raise BadParameter(f"lr must be finite and above 0, got {lr}")
    with precision(dtype):
        arrays = jax.tree.map(lambda array: jnp.asarray(array, dtype), (data, start, lr))
        results = jax.tree.map(np.asarray, _compile(method, loss, steps, path, axes)(*arrays))
    losses, forwards, mini_steps, weights, points = results
    forwards = np.cumsum(np.insert(forwards, 0, 0, axis=-1), axis=-1, dtype=np.int64)
    return Run(losses, np.arange(steps + 1), forwards, mini_steps, weights, points)


@functools.lru_cache(maxsize=128)
def _compile(method: Any, loss: Callable, steps: int, path: bool, axes: tuple | None) -> Callable:
    def run(data, start, lr):
        def loss_at(weights):
            return loss(weights, data)

        def outer(carry, _):
            weights, memory = carry
            before, gradient = jax.value_and_grad(loss_at)(weights)
            end = method.step(loss_at, Point(weights, before, gradient, lr), memory)
            seen = (before, *(jnp.asarray(n, jnp.int32) for n in (end.forwards, end.mini_steps)))
            return (end.weights, end.memory), seen + ((weights,) if path else ())

        (weights, _), seen = jax.lax.scan(outer, (start, method.start(start)), length=steps)
        losses = jnp.append(seen[0], loss_at(weights))
        points = jnp.concatenate([seen[3], weights[None]]) if path else None
        return losses, seen[1], seen[2], weights, points

    return jax.jit(run if axes is None else jax.vmap(run, in_axes=axes))


def ties(
    method: Stepping,
    loss: Callable,
    data: NamedTuple,
    path: np.ndarray,
    lr: float,
    dtype: str = "float64",
) -> Ties:
    """From each weights of `path` (points, P), one step one by one and one step many at once: how
    often they differ.

    method: `Stepping` with at_once above 1. A difference counts as one in the last digit if at the
    point where the shorter walk stopped the two losses it compared are equal to rounding. Raises
    ValueError if at_once is 1, where there is nothing to compare.
    """
    if method.at_once == 1:
        raise BadParameter("at_once must be above 1, got 1")
    with precision(dtype):
        arrays = jax.tree.map(lambda array: jnp.asarray(array, dtype), (data, path, np.float64(lr)))
        one_by_one, at_once, gap = map(np.asarray, _both(method, loss)(*arrays))
    differ = one_by_one != at_once
    return Ties(
        len(path), int(differ.sum()), int((differ & (gap <= TIE_ULPS * np.finfo(dtype).eps)).sum())
    )


@functools.lru_cache(maxsize=32)
def _both(method: Stepping, loss: Callable) -> Callable:
    sequential = Stepping(method.max_steps, method.scale_i, method.variant, method.rollback)
    ends = np.append(0.0, np.cumsum(method.lengths))

    @jax.jit
    def both(data, path, lr):
        def loss_at(weights):
            return loss(weights, data)

        def compare(weights):
            before, gradient = jax.value_and_grad(loss_at)(weights)
            point = Point(weights, before, gradient, lr)
            counts = [each.step(loss_at, point, ()).mini_steps for each in (sequential, method)]
            shorter = jnp.minimum(*counts)
            lengths = jnp.asarray(ends, weights.dtype)
            new, old = (
                loss_at(point.at(lengths[i])) for i in (shorter, jnp.maximum(shorter - 1, 0))
            )
            return *counts, jnp.abs(new - old) / jnp.abs(old)

        return jax.lax.map(compare, path)

    return both
