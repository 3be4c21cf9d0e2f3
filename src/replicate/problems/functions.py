"""Three functions of two numbers with a valley, a plateau and wrong minima: where optimizers are
watched at work.

Plain arithmetic on the last axis, so that torch, jax and NumPy all evaluate and differentiate them.
"""

from collections.abc import Callable
from dataclasses import dataclass


def rosenbrock(w):
    """(1 - x)^2 + 100 (y - x^2)^2; w = (x, y): (..., 2) -> (...). Minimum 0 at (1, 1) in a bent
    valley.

    Rosenbrock 1960, An automatic method for finding the greatest or least value of a function.
    """
    x, y = w[..., 0], w[..., 1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(w):
    """sum_i (c_i - x + x y^i)^2, c = 1.5, 2.25, 2.625; w = (x, y): (..., 2) -> (...). Minimum 0 at
    (3, 1/2).

    Beale 1958, On an iterative method for finding a local minimum of a function of more than one
    variable. Along y = 1 it is flat.
    """
    x, y = w[..., 0], w[..., 1]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def goldstein_price(w):
    """(1 + (x + y + 1)^2 p) (30 + (2x - 3y)^2 q), p and q as below; w = (x, y): (..., 2) -> (...).

    Minimum 3 at (0, -1), and three more minima. Goldstein and Price 1971, On descent from local
    minima.
    """
    x, y = w[..., 0], w[..., 1]
    p = 19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2
    q = 18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2
    return (1 + (x + y + 1) ** 2 * p) * (30 + (2 * x - 3 * y) ** 2 * q)


@dataclass(frozen=True)
class Problem:
    """A function f: (..., 2) -> (...) and its minima, the global one first."""

    name: str
    f: Callable
    minima: tuple[tuple[float, float], ...]

    @property
    def minimum(self) -> tuple[float, float]:
        """Where the function is smallest."""
        return self.minima[0]


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("rosenbrock", rosenbrock, ((1.0, 1.0),)),
        Problem("beale", beale, ((3.0, 0.5),)),
        Problem(
            "goldstein-price", goldstein_price, ((0.0, -1.0), (-0.6, -0.4), (1.8, 0.2), (1.2, 0.8))
        ),
    )
}
