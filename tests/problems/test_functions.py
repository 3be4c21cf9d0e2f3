"""The functions are their published forms in torch, jax and NumPy, and their minima are minima."""

import jax
import numpy as np
import pytest
import sympy
import torch
from scipy.optimize import minimize

from replicate.problems import PROBLEMS

VALUES = {
    "rosenbrock": (0,),
    "beale": (0,),
    "goldstein-price": (3, 30, 84, 840),
}
X, Y = sympy.symbols("x y")


class Pair:
    """What the functions ask of an array, over two sympy symbols."""

    def __getitem__(self, place):
        return (X, Y)[place[1]]


every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))


@every_problem
def test_minima_are_exact_stationary_points_of_positive_curvature_and_of_the_known_values(problem):
    f = sympy.nsimplify(problem.f(Pair()))
    for place, value in zip(problem.minima, VALUES[problem.name], strict=True):
        at = dict(zip((X, Y), map(sympy.Rational, map(str, place)), strict=True))
        assert f.subs(at) == value
        assert [sympy.diff(f, one).subs(at) for one in (X, Y)] == [0, 0]
        assert sympy.hessian(f, (X, Y)).subs(at).is_positive_definite
    assert problem.minimum == problem.minima[0]


@pytest.mark.parametrize(
    "name, place, value",
    [
        ("rosenbrock", (-1.2, 1.0), 24.2),
        ("beale", (0, 0), 14.203125),
        ("goldstein-price", (0, 0), 600),
    ],
)
def test_values_away_from_the_minima_are_the_known_ones(name, place, value):
    assert PROBLEMS[name].f(np.array(place)) == pytest.approx(value, rel=1e-14)


@every_problem
def test_torch_finds_no_gradient_at_the_minima_and_one_elsewhere(problem):
    w = torch.tensor([*problem.minima, (0.3, -0.7)], dtype=torch.float64, requires_grad=True)
    problem.f(w).sum().backward()
    assert w.grad[:-1].abs().max() < 1e-10 and w.grad[-1].abs().max() > 1


@every_problem
def test_torch_jax_and_numpy_agree_on_any_leading_axes(problem):
    w = np.random.default_rng(0).uniform(-2, 2, (3, 4, 2))
    found = problem.f(w)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(problem.f(torch.from_numpy(w)).numpy(), found, rtol=1e-13)
    with jax.enable_x64(True):
        np.testing.assert_allclose(problem.f(jax.numpy.asarray(w)), found, rtol=1e-13)


def test_no_minimum_is_missing_from_the_box_where_the_functions_are_shown():
    rng = np.random.default_rng(0)
    for problem in PROBLEMS.values():
        ends = [
            minimize(problem.f, rng.uniform(-2, 2, 2), method="Nelder-Mead", tol=1e-9).x
            for _ in range(40)
        ]
        inside = [end for end in ends if np.abs(end).max() < 3.1]
        distances = np.linalg.norm(np.array(inside)[:, None] - np.array(problem.minima), axis=-1)
        assert distances.min(1).max() < 1e-3 and set(distances.argmin(1)) == set(
            range(len(problem.minima))
        )
