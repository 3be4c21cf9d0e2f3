"""a_0 = x,   z_l = W_l a_{l-1} + b_l,   a_l = act(z_l),   L(w) = mean over rows of (z_last - y)^2

The source's deep nets with every weight in one vector w (P,), and rows as columns: x is (inputs,
rows). That order of the axes makes each product a narrow matrix times a wide one, which is several
times faster than the usual order.

Where act is linear, z_last = A x + c, and the loss needs the rows only through second moments of z
= (x, 1, y):

    L(w) = v' M v = |R v|^2,   v = (A, c, -1),   M = mean z z' = R'R

R, the triangle of a QR decomposition of the rows, keeps digits of a small loss that M would lose.

Warmerdam 2020, More descent, less gradient, section Results, `generate_new_dataset`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.precision import precision
from replicate.errors import BadParameter, unknown
from replicate.streams import rng

ACTIVATIONS = ("linear", "relu")
NUMBERS_PER_LAYER = 20_000  # numbers per layer of a block of rows: what a cache holds, by trial
LEAST = 500  # rows of a block

QR_ROWS = 4096  # rows a step of the QR decomposition


@dataclass(frozen=True)
class Net:
    """Linear maps from dims[0] features to dims[-1], with an activation after every one but the
    last.
    """

    dims: tuple[int, ...]
    activation: str = "linear"

    def __post_init__(self):
        if len(self.dims) < 2 or min(self.dims) < 1:
            raise BadParameter(f"dims must be at least 2 numbers of at least 1, got {self.dims}")
        if self.dims[-1] != 1:
            raise BadParameter(
                f"dims must end in 1, the one output of the source's nets, got {self.dims}"
            )
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """W_1 (out, in), b_1 (out,), W_2, ...: the order of torch's `parameters()`."""
        return [
            shape
            for fan_in, fan_out in pairwise(self.dims)
            for shape in ((fan_out, fan_in), (fan_out,))
        ]

    @property
    def size(self) -> int:
        """P, how many weights there are."""
        return sum(map(prod, self.shapes))

    def layers(self, weights) -> list[tuple]:
        """(W_l, b_l) of one vector (P,)."""
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        pieces = zip(jnp.split(weights, ends), self.shapes, strict=True)
        arrays = [piece.reshape(shape) for piece, shape in pieces]
        return list(zip(arrays[::2], arrays[1::2], strict=True))


class Rows(NamedTuple):
    """x: (inputs, rows); y: (rows,)."""

    x: np.ndarray
    y: np.ndarray


class Moments(NamedTuple):
    """root: R, (inputs + 2, inputs + 2) float64, of z = (x, 1, y)."""

    root: np.ndarray


def published_net(inputs: int, width: int, layers: int, activation: str = "linear") -> Net:
    """The net that the published function builds: into `width`, `layers` times on, and out: layers
    + 2 linear maps.

    Raises ValueError if layers is negative, inputs or width below 1 or the activation unknown.
    """
    if layers < 0:
        raise BadParameter(f"layers must be at least 0, got {layers}")
    return Net((inputs, width, *[width] * layers, 1), activation)


def initial_weights(net: Net, seed: int, dtype: str = "float64") -> np.ndarray:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch.nn.Linear's, (P,).

    Rounded to float32 whatever the dtype, so that runs in both start at the same point.
    """
    bounds = [1 / np.sqrt(shape[1]) for shape in net.shapes[::2] for _ in range(2)]
    values = [rng(seed, "init", i).uniform(-bound, bound, shape).ravel()
              for i, (shape, bound) in enumerate(zip(net.shapes, bounds, strict=True))]  # fmt: skip
    return np.concatenate(values).astype(np.float32).astype(dtype)


def rows(count: int, inputs: int, seed: int, dtype: str = "float64") -> Rows:
    """The source's data: x ~ N(0, 1) and y the sum of a row of x, without noise.

    Raises ValueError if count or inputs is below 1.
    """
    if count < 1 or inputs < 1:
        raise BadParameter(f"count and inputs must be at least 1, got {count} and {inputs}")
    x = rng(seed, "noise", 0).standard_normal((inputs, count)).astype(dtype)
    return Rows(x, x.sum(axis=0))


def moments(data: Rows) -> Moments:
    """R'R = mean over rows of z z', z = (x, 1, y), in float64; the time of a loss no longer depends
    on the rows.
    """
    inputs, count = data.x.shape
    root = np.zeros((0, inputs + 2))
    for first in range(0, count, QR_ROWS):
        rows = slice(first, first + QR_ROWS)
        x = data.x[:, rows]
        y = data.y[rows]
        block = np.vstack([x, np.ones(len(y)), y]).T
        root = np.linalg.qr(np.vstack([root, block]), mode="r")
    short = inputs + 2 - len(root)  # fewer rows than moments
    return Moments(np.pad(root, ((0, max(short, 0)), (0, 0))) / np.sqrt(count))


@functools.cache
def rows_loss(net: Net) -> Callable:
    """(weights (P,), Rows) -> L, row by row; in jax. Of many rows it has first derivatives by
    weights only.
    """
    size = max(NUMBERS_PER_LAYER // max(net.dims), LEAST)

    def at_once(weights, data: Rows):
        return _squares(net, weights, data) / data.y.shape[0]

    def sum_blocks(of_block: Callable, nothing, data: Rows):
        """The sum of `of_block` over blocks of rows, and over the rows after the last whole block."""
        count = data.y.shape[0] // size

        def add(i, total):
            block = jax.tree.map(
                lambda array: jax.lax.dynamic_slice_in_dim(array, i * size, size, axis=-1), data
            )
            return jax.tree.map(jnp.add, total, of_block(block))

        total = jax.lax.fori_loop(0, count, add, nothing)
        rest = jax.tree.map(lambda array: array[..., count * size :], data)
        return jax.tree.map(jnp.add, total, of_block(rest)) if rest.y.shape[0] else total

    @jax.custom_vjp
    def block_by_block(weights, data: Rows):
        nothing = jnp.zeros((), weights.dtype)
        return (
            sum_blocks(lambda block: _squares(net, weights, block), nothing, data) / data.y.shape[0]
        )

    def forward(weights, data: Rows):
        # Both passes over a block while it is in the cache: no activation of all rows is written
        # down.
        both = jax.value_and_grad(lambda w, block: _squares(net, w, block))
        nothing = jnp.zeros((), weights.dtype), jnp.zeros_like(weights)
        total, gradient = sum_blocks(lambda block: both(weights, block), nothing, data)
        return total / data.y.shape[0], (gradient / data.y.shape[0], data)

    def backward(saved, outer):
        gradient, data = saved
        return outer * gradient, jax.tree.map(jnp.zeros_like, data)

    block_by_block.defvjp(forward, backward)
    return lambda weights, data: (block_by_block if data.y.shape[0] > 2 * size else at_once)(
        weights, data
    )


def _squares(net: Net, weights, data: Rows):
    """The sum over rows of (z_last - y)^2."""
    a = data.x
    for i, (w, b) in enumerate(net.layers(weights)):
        a = jnp.matmul(w, a, precision="highest") + b[:, None]
        if net.activation == "relu" and i < len(net.dims) - 2:
            a = jnp.maximum(a, 0)
    return jnp.sum((a[0] - data.y) ** 2)


@functools.cache
def moments_loss(net: Net) -> Callable:
    """(weights (P,), Moments) -> L, the same number by second moments; in jax.

    Raises ValueError if the net is not linear.
    """
    if net.activation != "linear":
        raise BadParameter(
            f"activation must be linear for a loss by second moments, got {net.activation}"
        )

    def loss(weights, data: Moments):
        layers = net.layers(weights)
        row, constant = layers[-1]
        for w, b in reversed(layers[:-1]):  # from the output down, a vector times a matrix each
            constant = constant + row @ b
            row = jnp.matmul(row, w, precision="highest")
        v = jnp.concatenate([row[0], constant, -jnp.ones(1, row.dtype)])
        return jnp.sum(jnp.matmul(data.root, v, precision="highest") ** 2)

    return loss


def value(
    loss: Callable, data: NamedTuple, weights: np.ndarray, dtype: str = "float64"
) -> np.ndarray:
    """The loss at weights (P,), a number, or at each of (m, P), (m,)."""
    with precision(dtype):
        return np.asarray(_at(loss, weights.ndim, False)(*_as(dtype, weights, data)))


def gradient(
    loss: Callable, data: NamedTuple, weights: np.ndarray, dtype: str = "float64"
) -> np.ndarray:
    """The gradient at weights (P,), or at each of (m, P); of the same shape."""
    with precision(dtype):
        return np.asarray(_at(loss, weights.ndim, True)(*_as(dtype, weights, data)))


@functools.lru_cache(maxsize=64)
def _at(loss: Callable, axes: int, differentiate: bool) -> Callable:
    f = jax.grad(loss) if differentiate else loss
    return jax.jit(f if axes == 1 else jax.vmap(f, in_axes=(0, None)))


def _as(dtype: str, *arrays) -> tuple:
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), arrays)
