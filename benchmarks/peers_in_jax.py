"""What one writes first in jax: Newton's method by its Hessian."""

from collections.abc import Callable

import jax


def newton_by_inverse(loss: Callable) -> Callable:
    """The source's lines: w - H^-1 g by jax, operation by operation."""

    def step(w, x, y):
        hessian = jax.hessian(loss)(w, x, y)
        return w - jax.numpy.linalg.inv(hessian) @ jax.grad(loss)(w, x, y)

    return step


def newton_by_solve(loss: Callable) -> Callable:
    """w - H^-1 g by jax, solved and compiled."""

    def step(w, x, y):
        hessian = jax.hessian(loss)(w, x, y)
        return w - jax.numpy.linalg.solve(hessian, jax.grad(loss)(w, x, y))

    return jax.jit(step)
