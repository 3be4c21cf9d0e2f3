"""The derivations themselves: each printed line beside algebra that knows nothing of the page."""

from collections.abc import Iterator

import numpy as np
import sympy
from sympy import Rational, binomial, factorial

from replicate.optim.stencils import derivative_weights, step_coefficients
from replicate.sources.fabi2021extrapolation import _printed
from replicate.sources.fabi2021extrapolation._printed import a, g, h, s, t, w

ORDERS = {1: "first", 2: "second", 3: "third"}


def rows() -> Iterator[tuple]:
    """(claim, case, right line, value, control) of every line, in the order of the page."""
    yield from (*_taylor(), *_backward(), *_system(), *_formula(), *_updates())


def _taylor() -> Iterator[tuple]:
    order = sympy.degree(_printed.UPDATE["bdf"].subs(dict(zip(g, (1, 2, 4), strict=True))), s)
    line = r"w(t_0 + \Delta t) = \sum_{m=0}^{3} w^{(m)}(t_0) \Delta t^m / m! + O(\Delta t^4)"
    yield "X-1.order", "", line, order, np.nan
    step = 1e-3
    start = 1.0
    rest = float(
        sympy.N(sympy.exp(step) - sum(step**m / factorial(m) for m in range(4)), 30)
    ) * np.exp(start)
    yield "X-1.remainder", "exp", line, rest / (start + step) ** 4, np.nan


def _backward() -> Iterator[tuple]:
    wrong = 0
    for m in range(1, 7):
        by_recursion = _differences(m)
        wrong += sum(by_recursion[i] != (-1) ** i * binomial(m, i) for i in range(m + 1))
    yield (
        "EXTRA-02.binomial",
        "",
        r"\nabla^m w_n = \sum_i (-1)^i \binom{m}{i} w_{n-i}",
        wrong,
        np.nan,
    )
    derived = _update_of("backward")
    other = _update_of("bdf")
    right = _printed.UPDATE["backward"]
    yield "EXTRA-04", "", _line(derived), _differing(derived, right), _differing(other, right)
    yield "EXTRA-04.first", "", r"-\eta s\, g_0", sympy.diff(derived, g[0]).coeff(s, 1), np.nan


def _system() -> Iterator[tuple]:
    """The Taylor rows, the linear system and its solutions."""
    rows = [[Rational((-j) ** m, factorial(m)) for m in range(1, 4)] for j in range(1, 4)]
    pairs = [zip(*pair, strict=True) for pair in zip(rows, _printed.TAYLOR, strict=True)]
    wrong = sum(x != y for pair in pairs for x, y in pair)
    line = r"w_{n-j} = \sum_m (-jh)^m w_n^{(m)} / m!"
    yield "EXTRA-06", "", line, wrong, np.nan
    of_matrix = _printed.MATRIX.solve(sympy.Matrix([0, 1, 0, 0])) * h
    (of_list,) = sympy.linsolve(_printed.SCALARS, a)
    of_list = [sympy.simplify(x * h) for x in of_list]
    first = list(_printed.FIRST)
    solution = r"a = (11/6, -3, 3/2, -1/3)/h"
    yield "EXTRA-07", "", solution, _unequal(of_matrix, first), _unequal(of_list, first)
    gap = max(abs(x - y) for x, y in zip(of_list, first, strict=True))
    yield "X-3.solution", "", solution, gap, np.nan
    slip = sympy.Poly(_printed.SCALARS[2], a[3]).coeff_monomial(a[3]) / (h**2 * rows[2][1])
    yield (
        "X-3.sign",
        "",
        r"\tfrac12 h^2 a_{n-1} + 2 h^2 a_{n-2} + \tfrac92 h^2 a_{n-3} = 0",
        slip,
        np.nan,
    )
    # w_{n-2} about t_n for w = t^3 at t_n = 0, h = 1, with the second derivative taken at n + 1 as
    # printed, and at n.
    second = sympy.diff(t**3, t, 2)
    stray = rows[1][1] * (second.subs(t, 1) - second.subs(t, 0))
    yield (
        "X-2",
        "w = t^3",
        r"w_{n-2} = w_n - 2h w'_n + 2h^2 w''_n - \tfrac43 h^3 w'''_n + O(h^4)",
        stray,
        np.nan,
    )


def _formula() -> Iterator[tuple]:
    """The three derivatives: states, then gradients, then the printed line between the two."""
    for m, (claim, page) in enumerate(
        (("EXTRA-08", _printed.FIRST), ("EXTRA-09", _printed.SECOND), ("EXTRA-10", _printed.THIRD)),
        start=1,
    ):
        derived = derivative_weights(m, 3, "bdf")
        wrong = _unequal(derived, page) + _differing(_in_gradients(derived), _printed.GRADIENTS[m])
        through = np.nan
        if m in _printed.MIDDLE:
            middle = [sympy.diff(_printed.MIDDLE[m], x) for x in w]
            through = _unequal(middle, derived)
            yield f"X-4.{ORDERS[m]}", "", _states(derived, m), abs(middle[2] - derived[2]), np.nan
        yield (
            claim,
            "",
            rf"h^{m} w^{{({m})}}_n = -\eta\,({_line(_in_gradients(derived))})",
            wrong,
            through,
        )
    third = [derivative_weights(3, 3, kind) for kind in ("bdf", "backward")]
    yield "X-6.third", "", _states(third[0], 3), _unequal(*third), np.nan


def _updates() -> Iterator[tuple]:
    derived = _update_of("bdf")
    plain = _update_of("backward")
    page = _printed.UPDATE["bdf"]
    yield "EXTRA-12", "", _line(derived), _differing(derived, page), _differing(plain, page)
    cubic = _in_gradients(_lagrange(3))
    line = r"w(t_n + sh) = \sum_j w_{n-j} \prod_{i \neq j} (s + i)/(i - j)"
    yield "EXTRA-12.cubic", "", line, _differing(derived, cubic), _differing(plain, cubic)
    sums = [_constant(update) for update in (derived, plain)]
    yield "EXTRA-12.sum", "", r"\sum_j c_j = s", abs(sums[0]), np.nan
    yield "X-6.sum", "", r"\sum_j c_j = s", max(map(abs, sums)), np.nan
    quadratic = _in_gradients(_lagrange(2))
    second = sum(c * x for c, x in zip(step_coefficients(s, 2, "bdf"), g, strict=False))
    yield (
        "EXTRA-27",
        "",
        _line(second),
        _differing(second, quadratic),
        _differing(derived, quadratic),
    )


def _differences(m: int) -> list[int]:
    """Coefficients of the m-th backward difference by inserting it into its definition m times."""
    row = [1]
    for _ in range(m):
        row = [x - y for x, y in zip([*row, 0], [0, *row], strict=True)]
    return row


def _update_of(derivative: str):
    """(w_{n+1} - w_n) / -eta of the third-order method, from the leaf's coefficients."""
    return sum(c * x for c, x in zip(step_coefficients(s, 3, derivative), g, strict=True))


def _lagrange(degree: int) -> list:
    """Coefficients of w_n, w_{n-1}, ... in polynomial extrapolation to t_n + s h, minus w_n itself."""
    nodes = range(degree + 1)
    weights = [sympy.prod([(s + i) / sympy.Integer(i - j) for i in nodes if i != j]) for j in nodes]
    return [weights[0] - 1, *weights[1:]]


def _in_gradients(weights) -> sympy.Expr:
    """sum_j weights_j w_{n-j} over -eta, where w_{n-j} - w_{n-j-1} = -eta g_j and the weights sum
    to 0.
    """
    tails = [sympy.expand(sum(weights[: j + 1])) for j in range(len(weights) - 1)]
    return sympy.expand(sum(tail * x for tail, x in zip(tails, g, strict=False)))


def _differing(derived, page) -> int:
    """How many of the coefficients of g_0, g_1, g_2 differ as polynomials in s."""
    return sum(sympy.expand(sympy.diff(derived - page, x)) != 0 for x in g)


def _unequal(derived, page) -> int:
    return sum(sympy.simplify(x - y) != 0 for x, y in zip(derived, page, strict=True))


def _constant(update) -> float:
    """What a constant gradient of 1 makes of an update, minus s."""
    return sympy.expand(update.subs(dict.fromkeys(g, 1)) - s)


def _line(expression) -> str:
    return sympy.latex(sympy.collect(sympy.expand(expression), g))


def _states(weights, m: int) -> str:
    return rf"h^{m} w^{{({m})}}_n = {sympy.latex(sum(Rational(c) * x for c, x in zip(weights, w, strict=True)))}"
