"""The source's equations as they are printed, slips included, for `derivations` to hold against
algebra.

g_0, g_1, g_2 are the gradients at w_{n-1}, w_{n-2}, w_{n-3}; w_0 .. w_3 stand for w_n .. w_{n-3}; s
= dt/h.
"""

import sympy
from sympy import Rational, symbols

s, h, eta, t = symbols("s h eta t", positive=True)
w = symbols("w_0:4")
g = symbols("g_0:3")
a = symbols("a_0:4")

# Equation `thirdOrderExtrapolationBackward` and `thirdOrderExtrapolationBDF`: (w_{n+1} - w_n) /
# -eta, dt = s h.
UPDATE = {
    "backward": s * g[0] + s**2 / 2 * (g[0] - g[1]) + s**3 / 6 * (g[0] - 2 * g[1] + g[2]),
    "bdf": (
        s / 6 * (11 * g[0] - 7 * g[1] + 2 * g[2])
        + s**2 / 2 * (2 * g[0] - 3 * g[1] + g[2])
        + s**3 / 6 * (g[0] - 2 * g[1] + g[2])
    ),
}

# The three rows of Taylor coefficients of w_{n-1}, w_{n-2}, w_{n-3}: of h w', h^2 w'', h^3 w'''.
TAYLOR = (
    (-1, Rational(1, 2), Rational(-1, 6)),
    (-2, 2, Rational(-4, 3)),
    (-3, Rational(9, 2), Rational(-9, 2)),
)

# Equation `linearSystemOfEquations` as a list of scalars, and the matrix that follows it; right
# side (0, 1, 0, 0).
SCALARS = (
    a[0] + a[1] + a[2] + a[3],
    -h * a[1] - 2 * h * a[2] - 3 * h * a[3] - 1,
    h**2 / 2 * a[1] + 2 * h**2 * a[2] - Rational(9, 2) * h**2 * a[3],
    -(h**3) / 6 * a[1] - Rational(4, 3) * h**3 * a[2] - Rational(9, 2) * h**3 * a[3],
)
MATRIX = sympy.Matrix(
    [
        [1, 1, 1, 1],
        [0, -h, -2 * h, -3 * h],
        [0, h**2 / 2, 2 * h**2, Rational(9, 2) * h**2],
        [0, -(h**3) / 6, -Rational(4, 3) * h**3, -Rational(9, 2) * h**3],
    ]
)
FIRST = (Rational(11, 6), -3, Rational(3, 2), Rational(-1, 3))  # its solution times h
SECOND = (2, -5, 4, -1)  # times h^2
THIRD = (1, -3, 3, -1)  # times h^3

# The last lines of the three derivatives, over -eta / h^m.
GRADIENTS = {
    1: (11 * g[0] - 7 * g[1] + 2 * g[2]) / 6,
    2: 2 * g[0] - 3 * g[1] + g[2],
    3: g[0] - 2 * g[1] + g[2],
}

# The lines before them: differences of states, with a plus where a minus belongs.
MIDDLE = {
    2: 2 * (w[0] - w[1]) - 3 * (w[1] + w[2]) + (w[2] - w[3]),
    3: (w[0] - w[1]) - 2 * (w[1] + w[2]) + (w[2] - w[3]),
}
