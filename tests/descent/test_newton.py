"""Newton's method is the method, in both precisions, and says so when a Hessian is singular."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replicate import descent

MATRIX = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
START = np.array([1.0, -2.0, 0.5])


def bowl(x, matrix, right):
    return 0.5 * x @ matrix @ x - right @ x


def curved(x, matrix, right):
    """Convex, and no parabola."""
    return bowl(x, matrix, right) + jnp.sum(jnp.cosh(x))


DATA = (MATRIX, np.array([1.0, 0.0, -1.0]))


def test_gradient_descent_is_its_line():
    path = descent.gradient_descent(bowl, START, 0.1, 12, DATA)
    x, points = START, [START]
    for _ in range(12):
        x = x - 0.1 * (MATRIX @ x - DATA[1])
        points.append(x)
    np.testing.assert_allclose(path.points, points, rtol=1e-13)
    np.testing.assert_allclose(path.losses, [bowl(point, *DATA) for point in points], rtol=1e-13)


@pytest.mark.parametrize("solver", ["inv", "solve", "pinv"])
def test_newton_is_newton(solver):
    path = descent.newton(curved, START, 6, DATA, solver)
    x, points = START, [START]
    for _ in range(6):
        gradient, hessian = MATRIX @ x - DATA[1] + np.sinh(x), MATRIX + np.diag(np.cosh(x))
        x = x - np.linalg.solve(hessian, gradient)
        points.append(x)
    np.testing.assert_allclose(path.points, points, rtol=1e-11, atol=1e-13)
    first = np.linalg.cond(MATRIX + np.diag(np.cosh(START)))
    assert (
        path.condition[0] == pytest.approx(first)
        and path.rank.tolist() == [3] * 6
        and not path.singular.any()
    )


def test_convergence_is_quadratic():
    errors = np.linalg.norm(np.diff(descent.newton(curved, START, 6, DATA).points, axis=0), axis=1)
    large = errors[errors > 1e-12]
    assert len(large) <= 5 and np.all(large[1:] <= large[:-1] ** 2)


def test_one_step_is_enough_on_a_parabola_in_either_precision():
    for dtype, last in (("float32", 1e-5), ("float64", 1e-14)):
        path = descent.newton(bowl, START, 2, DATA, dtype=dtype)
        assert path.points.dtype == path.losses.dtype == dtype
        np.testing.assert_allclose(path.points[1], np.linalg.solve(*DATA), atol=last)


def test_a_singular_hessian_is_named_and_the_shortest_step_solves_it():
    singular = np.diag([2.0, 1.0, 0.0]), np.array([2.0, 3.0, 0.0])
    path = descent.newton(bowl, START, 2, singular)
    assert path.singular.all() and path.rank.tolist() == [2, 2] and np.isinf(path.condition).all()
    path = descent.newton(bowl, START, 2, singular, "pinv")
    np.testing.assert_allclose(
        path.points[1:], [[1.0, 3.0, START[2]]] * 2
    )  # nothing moves where nothing slopes


def test_a_rank_counts_what_the_precision_can_tell():
    nearly = np.diag([1.0, 1.0, 1e-8]), np.ones(3)
    ranks = {
        dtype: descent.newton(bowl, START, 2, nearly, dtype=dtype).rank[0]
        for dtype in ("float32", "float64")
    }
    assert ranks == {"float32": 2, "float64": 3}


def test_the_condition_is_by_size_at_a_saddle_too():
    path = descent.newton(bowl, START, 2, (np.diag([-4.0, 2.0, 1.0]), np.zeros(3)))
    assert path.condition[0] == pytest.approx(4) and path.rank[0] == 3
    np.testing.assert_allclose(path.points[1], 0, atol=1e-14)


def test_no_steps_are_a_path_of_one_point():
    path = descent.gradient_descent(bowl, START, 0.1, 0, DATA)
    assert path.points.shape == (1, 3) and path.losses.shape == (1,)


@pytest.mark.parametrize("change, said", [({"steps": -1}, "steps must be at least 0, got -1"),
                                          ({"solver": "qr"}, "unknown solver 'qr'"),
                                          ({"dtype": "float16"}, "unknown dtype 'float16'")])  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change, said):
    with pytest.raises(ValueError, match=said):
        descent.newton(**{"f": bowl, "start": START, "steps": 1, "data": DATA} | change)


def test_the_flag_of_the_process_stays():
    descent.newton(bowl, START, 2, DATA)
    assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == np.float32
