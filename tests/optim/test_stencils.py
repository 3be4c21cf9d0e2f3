"""The coefficients are the source's formulas at order 3, Taylor's series at every order, and
Lagrange's polynomial.
"""

from fractions import Fraction
from math import comb, factorial

import numpy as np
import pytest
import sympy

from replicate.errors import BadParameter
from replicate.optim.stencils import DERIVATIVES, MOST, derivative_weights, step_coefficients

S = sympy.Symbol("s", positive=True)
ORDERS = range(1, MOST + 1)
both_kinds = pytest.mark.parametrize("derivative", DERIVATIVES)
every_order = pytest.mark.parametrize("order", ORDERS)


def moved(c, states):
    """What coefficients on displacements add; states: w_n, w_{n-1}, ..."""
    return sum(c_j * (states[j] - states[j + 1]) for j, c_j in enumerate(c))


def lagrange(s, states):
    """The polynomial through (-j, states[j]), taken at s."""
    total = 0
    for j, w in enumerate(states):
        for i in range(len(states)):
            w = w * (s + i) / sympy.Integer(i - j) if i != j else w
        total += w
    return total


def test_order_three_is_what_the_source_prints():
    third = Fraction(1, 3)
    assert derivative_weights(1, 3) == (Fraction(11, 6), -3, Fraction(3, 2), -third)
    assert derivative_weights(2, 3) == (2, -5, 4, -1)
    assert derivative_weights(3, 3) == (1, -3, 3, -1)
    bdf = [S * (S**2 + 6 * S + 11) / 6, -S * (S + 1) * (2 * S + 7) / 6, S * (S + 1) * (S + 2) / 6]
    backward = [S + S**2 / 2 + S**3 / 6, -(S**2) / 2 - S**3 / 3, S**3 / 6]
    for derivative, printed in (("bdf", bdf), ("backward", backward)):
        found = step_coefficients(S, 3, derivative)
        assert [sympy.expand(a - b) for a, b in zip(found, printed, strict=True)] == [0, 0, 0]
    assert step_coefficients(Fraction(1), 3) == (3, -3, 1)


def test_the_printed_scalar_list_has_another_solution():
    """Its last sign in the row of w'' is wrong: what it leaves of w'' is not 0."""
    second = [0, Fraction(1, 2), 2, Fraction(9, 2)]
    a = derivative_weights(1, 3)
    assert sum(x * y for x, y in zip(a, second, strict=True)) == 0
    assert sum(x * y for x, y in zip(a, [*second[:3], -second[3]], strict=True)) != 0


@every_order
def test_backward_weights_are_the_m_fold_difference(order):
    for m in range(1, order + 1):
        difference = sympy.Poly((1 - S) ** m, S)  # S shifts back by one state
        assert derivative_weights(m, order, "backward") == tuple(
            Fraction(int(difference.coeff_monomial(S**j))) for j in range(order + 1)
        )


@both_kinds
@every_order
def test_weights_find_the_derivatives_of_polynomials_and_no_more(order, derivative):
    """Exact to degree order (bdf) or m (backward), and not one degree further."""
    for m in range(1, order + 1):
        a, exact = derivative_weights(m, order, derivative), order if derivative == "bdf" else m
        for degree in range(exact + 2):
            found = sum(a_j * Fraction(-j) ** degree for j, a_j in enumerate(a))
            assert (found == (factorial(m) if degree == m else 0)) is (degree <= exact), (m, degree)


@both_kinds
@every_order
def test_coefficients_sum_to_s(order, derivative):
    """So that where every displacement is the same, an extrapolation is one more step of s times
    its length.
    """
    assert sympy.expand(sum(step_coefficients(S, order, derivative))) == S
    assert len(step_coefficients(S, order, derivative)) == order


@both_kinds
@every_order
def test_coefficients_on_displacements_are_taylor_on_states(order, derivative):
    states = sympy.symbols(f"w:{order + 1}")
    taylor = 0
    for m in range(1, order + 1):
        a = derivative_weights(m, order, derivative)
        taylor += (
            S**m / factorial(m) * sum(sympy.Rational(x) * w for x, w in zip(a, states, strict=True))
        )
    assert sympy.expand(moved(step_coefficients(S, order, derivative), states) - taylor) == 0


@every_order
def test_bdf_is_lagrange_extrapolation(order):
    states = sympy.symbols(f"w:{order + 1}")
    assert (
        sympy.expand(states[0] + moved(step_coefficients(S, order), states) - lagrange(S, states))
        == 0
    )


@every_order
def test_at_s_of_one_bdf_is_the_binomial_row_without_its_one(order):
    """w_{n+1} - sum_j (-1)^j C(k + 1, j + 1) w_{n-j} = nabla^{k+1} w_{n+1}; the noise gain is 19 at
    order 3.
    """
    c = step_coefficients(Fraction(1), order)
    states = [c[0] + 1, *(c[j] - c[j - 1] for j in range(1, order)), -c[-1]]
    assert states == [(-1) ** j * comb(order + 1, j + 1) for j in range(order + 1)]
    assert sum(abs(x) for x in c) == 2**order - 1
    assert order != 3 or sum(x * x for x in c) == 19


@every_order
def test_bdf_is_exact_for_polynomials_to_its_order_only(order):
    s = Fraction(3, 7)
    for degree in range(order + 2):
        states = [Fraction(-j) ** degree for j in range(order + 1)]
        found = states[0] + moved(step_coefficients(s, order), states)
        assert (found == s**degree) is (degree <= order)


@both_kinds
def test_an_extrapolations_error_falls_with_its_order(derivative):
    """On a path that is no polynomial, with s fixed: h^(order + 1) for bdf, h^2 for backward
    differences.
    """
    h = np.array([2e-3, 1e-3])
    for order in range(1, 4):
        states = [np.exp(np.sin(1 - j * h)) for j in range(order + 1)]
        found = states[0] + moved(step_coefficients(0.5, order, derivative), states)
        error = np.abs(found - np.exp(np.sin(1 + 0.5 * h)))
        slope = np.log(error[0] / error[1]) / np.log(2)
        assert slope == pytest.approx(order + 1 if derivative == "bdf" else 2, abs=0.1)


@pytest.mark.parametrize("s", [0.3, np.float64(0.3), 2, 5e-9])
def test_numbers_come_out_as_they_went_in(s):
    for derivative in DERIVATIVES:
        exact = [float(c) for c in step_coefficients(Fraction(s), 4, derivative)]
        np.testing.assert_allclose(
            np.array(step_coefficients(s, 4, derivative), dtype=float), exact, rtol=1e-14
        )
    assert all(isinstance(c, float) for c in step_coefficients(0.3, 4))


@pytest.mark.parametrize("order", [0, 7, 2.0, True, "3"])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(ValueError, match=r"order must be a whole number in \[1, 6\], got"):
        step_coefficients(1.0, order)


@pytest.mark.parametrize("m", [0, 4])
def test_a_derivative_beyond_the_order_is_refused(m):
    with pytest.raises(ValueError, match=rf"m must be in \[1, order = 3\], got {m}"):
        derivative_weights(m, 3)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(BadParameter, match="did you mean 'backward'"):
        step_coefficients(1.0, 3, "backwards")
