"""w <- w - (B + mu I)^-1 g      B = H, the Hessian,          or B = 2 J'J, Gauss and Newton's
                                    L = |r|^2, g = 2 J'r, J the derivative of the residuals r

The dense second-order methods on the source's nets, in float64. mu = 0 is Newton's method. The
Hessian of a net is singular, since one map scaled up and the next one down change nothing, so that
its inverse is taken on the eigenvectors that count for its rank: the shortest step to where the
second-order model is stationary.

Damped, a step is taken only where it lowers the loss: mu is a tenth of what it was after a step
that did, and ten times as large after one that did not, until one does (Levenberg 1944, Marquardt
1963). Every try costs a forward pass, and every column of B two gradients.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.nets import Moments, Net, Rows
from replicate.descent.precision import precision
from replicate.errors import BadParameter, unknown

MODELS_OF_LOSS = ("hessian", "gauss-newton")
FIRST_DAMPING = 1e-3  # times the largest diagonal entry of the first B: Marquardt's, 1963
FACTOR = 10.0  # Marquardt's
MOST_TRIES = 30  # of a step: mu goes through as many powers of ten as float64 has digits, twice
COLUMN = 2  # gradients that a column of the Hessian costs, forward over reverse
FORWARD = 1 / 3  # gradients that a forward pass costs


class SecondOrderPath(NamedTuple):
    """points: (steps + 1, P); losses: (steps + 1,); gradients: (steps + 1,), the gradients that had
    been paid for, columns of B and tries included; forwards: (steps + 1,), tries alone.

    A damped path that can go no further down stays where it is, and an undamped one ends in NaN
    once its loss is not finite.
    """

    points: np.ndarray
    losses: np.ndarray
    gradients: np.ndarray
    forwards: np.ndarray


@dataclass(frozen=True)
class SecondOrder:
    """curvature: "hessian" or "gauss-newton"; damped: whether mu is raised until the loss falls."""

    curvature: str = "hessian"
    damped: bool = True

    def __post_init__(self):
        if self.curvature not in MODELS_OF_LOSS:
            raise unknown("curvature", self.curvature, MODELS_OF_LOSS)

    def descend(
        self, net: Net, data: Rows | Moments, start: np.ndarray, steps: int
    ) -> SecondOrderPath:
        """`steps` steps from `start` (P,). Raises ValueError if steps is negative.

        data: rows, or second moments where the net is linear.

        >>> import numpy as np
        >>> from replicate import descent
        >>> from replicate.descent.second_order import SecondOrder
        >>> net = descent.Net((3, 1))  # a linear regression, which Newton's method ends at once
        >>> task = descent.rows(50, 3, 0), np.zeros(4), 1
        >>> path = SecondOrder(damped=False).descend(net, *task)
        >>> bool(path.losses[0] > 1), bool(path.losses[1] < 1e-25)
        (True, True)
        """
        if steps < 0:
            raise BadParameter(f"steps must be at least 0, got {steps}")
        with precision("float64"):
            arrays = jax.tree.map(lambda array: jnp.asarray(array, "float64"), data)
            loss_at, model_at = _compile(net, self.curvature)
            walk = _Walk(
                lambda w: float(loss_at(w, arrays)), lambda w: model_at(w, arrays), net.size
            )
            step = walk.step_damped if self.damped else walk.step_plainly
            points = [np.asarray(start, dtype=np.float64)]
            walk.loss = walk.loss_at(points[0])
            counts = [(walk.loss, 0, 0)]
            for _ in range(steps):
                points.append(step(points[-1]))
                counts.append((walk.loss, walk.gradients, walk.forwards))
        losses, gradients, forwards = (np.array(column) for column in zip(*counts, strict=True))
        return SecondOrderPath(np.stack(points), losses, gradients, forwards)


class _Walk:
    """The damping, the loss and the costs of a path so far."""

    def __init__(self, loss_at: Callable, model_at: Callable, size: int):
        self.loss_at = loss_at
        self.model_at = model_at
        self.per_step = 1 + COLUMN * size
        self.loss = np.nan
        self.damping = np.nan
        self.ended = False
        self.gradients = 0
        self.forwards = 0

    def step_plainly(self, weights: np.ndarray) -> np.ndarray:
        """The step with mu = 0, wherever it leads."""
        if not np.isfinite(self.loss):
            return np.full_like(weights, np.nan)
        gradient, curvature = self._model(weights)
        new = weights - _shortest(curvature, gradient)
        self.loss = self.loss_at(new)
        return new

    def step_damped(self, weights: np.ndarray) -> np.ndarray:
        """The step with the first mu whose step lowers the loss; none if no mu does."""
        if self.ended:
            return weights
        gradient, curvature = self._model(weights)
        if np.isnan(self.damping):
            self.damping = FIRST_DAMPING * np.abs(np.diag(curvature)).max()
        for _ in range(MOST_TRIES):
            new = weights - _solve(curvature + self.damping * np.eye(len(weights)), gradient)
            self.forwards += 1
            self.gradients += FORWARD
            if (lower := self.loss_at(new)) < self.loss:
                self.loss = lower
                self.damping /= FACTOR
                return new
            self.damping *= FACTOR
        self.ended = True
        return weights

    def _model(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g and B, paid for."""
        self.gradients += self.per_step
        gradient, curvature = (np.asarray(each) for each in self.model_at(weights))
        return gradient, curvature


def _shortest(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The shortest least-squares solution; eigenvalues below P eps times the largest count as 0."""
    limit = len(vector) * np.finfo(vector.dtype).eps
    return np.linalg.pinv(matrix, rcond=limit, hermitian=True) @ vector


def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The solution, NaN where the matrix is singular."""
    try:
        return np.linalg.solve(matrix, vector)
    except np.linalg.LinAlgError:
        return np.full_like(vector, np.nan)


@functools.lru_cache(maxsize=16)
def _compile(net: Net, curvature: str) -> tuple[Callable, Callable]:
    """(weights, data) -> L, and (weights, data) -> (g, B)."""

    def residuals(weights, data):
        return _residuals(net, weights, data)

    def loss(weights, data):
        return jnp.sum(residuals(weights, data) ** 2)

    def hessian_model(weights, data):
        return jax.grad(loss)(weights, data), jax.hessian(loss)(weights, data)

    def gauss_newton_model(weights, data):
        jacobian = jax.jacfwd(residuals)(weights, data)
        return 2 * jacobian.T @ residuals(weights, data), 2 * jacobian.T @ jacobian

    models = dict(zip(MODELS_OF_LOSS, (hessian_model, gauss_newton_model), strict=True))
    return jax.jit(loss), jax.jit(models[curvature])


def _residuals(net: Net, weights, data: Rows | Moments):
    """r with L = |r|^2: (z_last - y) / sqrt(n) row by row, or R (A, c, -1) by second moments.

    By moments the columns of R stand for x, the constant 1 and y of as many rows.
    """
    by_moments = isinstance(data, Moments)
    if by_moments and net.activation != "linear":
        raise BadParameter(f"activation must be linear for second moments, got {net.activation}")
    inputs = net.dims[0]
    x = data.root[:, :inputs].T if by_moments else data.x
    constant = data.root[:, inputs] if by_moments else jnp.ones(data.x.shape[1], weights.dtype)
    y = data.root[:, inputs + 1] if by_moments else data.y
    layers = net.layers(weights)
    for i, (w, b) in enumerate(layers):
        x = w @ x + b[:, None] * constant
        if net.activation == "relu" and i < len(layers) - 1:
            x = jnp.maximum(x, 0)
    return x[0] - y if by_moments else (x[0] - y) / jnp.sqrt(len(constant))
