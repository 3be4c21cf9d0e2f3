"""h^m w^(m)(t_n) = sum_j a_j w_{n-j} + O(h^p),    w(t_n + s h) = w_n + sum_j c_j d_j + O(h^q)

a_j: `derivative_weights`, c_j: `step_coefficients`, d_j = w_{n-j} - w_{n-j-1}: the displacements,
k: `order`. "backward": p = m + 1, q = 2; "bdf": p = q = k + 1. Fabi 2021 has k = 3 and writes
d_j = -eta dL/dw_{n-j-1}, which is what a step of plain gradient descent moves.
"""

from fractions import Fraction
from functools import cache
from math import comb, factorial

from replicate.errors import BadParameter, unknown

DERIVATIVES = ("backward", "bdf")
MOST = 6  # from 7 on BDF is unstable; sum |c_j| at s = 1 is 2^k - 1, 63 by then


@cache
def derivative_weights(m: int, order: int, derivative: str = "bdf") -> tuple[Fraction, ...]:
    """a_0 .. a_order, exact: the weights on w_n, ..., w_{n-order} of h^m times the m-th derivative.

    "backward": the backward difference quotient of m + 1 states (the source's binomial formula);
    "bdf": the one-sided difference through all order + 1 states (its linear system). Raises
    BadParameter (a ValueError) unless 1 <= m <= order <= 6, or if `derivative` is unknown.

    >>> [str(a) for a in derivative_weights(1, 2)]  # (3 w_n - 4 w_{n-1} + w_{n-2}) / 2
    ['3/2', '-2', '1/2']
    """
    _check(order, derivative)
    if not 1 <= m <= order:
        raise BadParameter(f"m must be in [1, order = {order}], got {m}")
    if derivative == "backward":
        # comb(m, j) is 0 from j = m + 1 on.
        return tuple(Fraction((-1) ** j * comb(m, j)) for j in range(order + 1))
    # Taylor: w_{n-j} = sum_i (-j)^i / i! h^i w^(i), of which only i = m may be left.
    states = range(order + 1)
    taylor = [[Fraction((-j) ** i, factorial(i)) for j in states] for i in states]
    return _solve(taylor, [Fraction(i == m) for i in range(order + 1)])


def step_coefficients(s, order: int, derivative: str = "bdf") -> tuple:
    """c_0 .. c_{order-1}: what an extrapolation by s = dt/h adds of the displacements d_0, d_1, ...

        sum_j c_j d_j = sum_{m=1}^{order} s^m / m! sum_j a_j w_{n-j}

    d_0 is the newest. s: a Fraction gives Fractions, a float floats, a sympy symbol expressions.
    The sum of c is s. Raises BadParameter (a ValueError) if `order` is not a whole number in [1, 6]
    or `derivative` is unknown.

    >>> step_coefficients(1.0, 2)
    (2.0, -1.0)
    """
    _check(order, derivative)
    c = [0 * s] * order
    for m in range(1, order + 1):
        a = derivative_weights(m, order, derivative)
        for j in range(order):
            # Weights of a derivative sum to 0: by parts, a sum over states is over displacements.
            c[j] = c[j] + s**m * sum(a[: j + 1]) / factorial(m)
    return tuple(c)


def _solve(matrix: list[list[Fraction]], right: list[Fraction]) -> tuple[Fraction, ...]:
    """x with matrix x = right, by Gauss-Jordan elimination in exact arithmetic."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(r for r in range(i, len(rows)) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(len(rows)):
            if r != i:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return tuple(row[-1] for row in rows)


def _check(order: int, derivative: str) -> None:
    if derivative not in DERIVATIVES:
        raise unknown("derivative", derivative, DERIVATIVES)
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= MOST:
        raise BadParameter(f"order must be a whole number in [1, {MOST}], got {order!r}")
