"""The source's linear regression, and its closed form to the digits that its condition leaves."""

import numpy as np
import pytest

from replicate import descent
from replicate.descent.least_squares import BLOCKS, ROWS_PER_PRODUCT


def test_data_are_what_the_source_draws():
    one = descent.regression(20_000, 10, 3)
    assert one.x.shape == (20_000, 11) and np.all(one.x[:, 0] == 1)
    np.testing.assert_array_equal(one.y, one.x @ one.weights)
    assert (
        np.abs(one.x[:, 1:].mean(axis=0)).max() < 0.03
        and np.abs(one.x[:, 1:].std(axis=0) - 1).max() < 0.03
    )
    spread = np.concatenate([descent.regression(1, 10, seed).weights for seed in range(200)]).std()
    assert spread == pytest.approx(5, rel=0.05)
    starts = np.concatenate([descent.regression_start(10, seed) for seed in range(200)])
    assert abs(starts.mean()) < 0.1 and starts.std() == pytest.approx(1, rel=0.05)


def test_data_are_a_function_of_the_seed_and_of_one_type():
    a, b, c = (descent.regression(50, 3, seed, dtype="float32") for seed in (0, 0, 1))
    assert a.x.dtype == a.y.dtype == np.float32 and a.weights.dtype == np.float64
    assert np.array_equal(a.x, b.x) and np.array_equal(a.weights, b.weights)
    assert not np.array_equal(a.x[:, 1:], c.x[:, 1:]) and not np.array_equal(a.weights, c.weights)


@pytest.mark.parametrize("asked", [1e4, 1e10])
def test_the_condition_is_about_what_was_asked_for_and_no_matter_of_scale(asked):
    x = descent.regression(5000, 6, 0, asked).x
    assert np.linalg.cond(x) ** 2 == pytest.approx(asked, rel=0.2)
    scaled = x / np.linalg.norm(x, axis=0)
    assert np.linalg.cond(scaled) ** 2 > asked / 1000


def test_the_loss_is_the_mean_square():
    one = descent.regression(40, 3, 0)
    at = np.arange(4.0)
    path = descent.gradient_descent(descent.mean_squared_error, at, 0.1, 1, (one.x, one.y))
    residual = one.x @ at - one.y
    np.testing.assert_allclose(path.losses[0], np.mean(residual**2), rtol=1e-14)
    np.testing.assert_allclose(path.points[1], at - 0.1 * 2 * one.x.T @ residual / 40, rtol=1e-13)


@pytest.mark.parametrize(
    "rows", [3, ROWS_PER_PRODUCT, BLOCKS * ROWS_PER_PRODUCT, BLOCKS * ROWS_PER_PRODUCT + 5]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_closed_form_is_the_weights_that_made_y(rows, dtype):
    one = descent.regression(rows, 2, 0)
    x = one.x.astype(dtype)
    fit = descent.normal_equations(x, x.astype(np.float64) @ one.weights)
    np.testing.assert_allclose(fit.weights, one.weights, rtol=1e-12 * fit.condition)
    assert fit.rank == 3 and fit.singular is False and fit.weights.dtype == np.float64
    assert fit.condition == pytest.approx(np.linalg.cond(x.astype(np.float64)) ** 2, rel=1e-6)


def test_one_newton_step_from_anywhere_is_the_closed_form():
    one = descent.regression(300, 5, 1)
    y = one.y + np.sin(np.arange(300))  # no weights fit this exactly
    fit = descent.normal_equations(one.x, y)
    np.testing.assert_allclose(fit.weights, np.linalg.lstsq(one.x, y)[0], rtol=1e-12)
    for seed in (0, 1):
        start = 10 * descent.regression_start(5, seed)
        path = descent.newton(descent.mean_squared_error, start, 1, (one.x, y))
        np.testing.assert_allclose(path.points[1], fit.weights, rtol=1e-11)


def test_fewer_rows_than_columns_are_singular_and_get_the_smallest_solution():
    one = descent.regression(8, 12, 0)
    fit = descent.normal_equations(one.x, one.y)
    assert fit.singular is True and fit.rank == 8 and fit.condition > 1e12
    np.testing.assert_allclose(fit.weights, np.linalg.pinv(one.x) @ one.y, rtol=1e-9)
    path = descent.newton(
        descent.mean_squared_error, descent.regression_start(12, 0), 1, (one.x, one.y)
    )
    assert path.singular.all() and path.rank[0] == 8


REFUSED = [
    ((0, 1, 0), "n and k must be at least 1, got 0 and 1"),
    ((1, 0, 0), "n and k must be at least 1, got 1 and 0"),
    ((9, 2, 0, 0.5), "condition must be finite and at least 1, got 0.5"),
    ((9, 2, 0, np.inf), "condition must be finite and at least 1, got inf"),
]


@pytest.mark.parametrize("about, said", REFUSED)
def test_bad_arguments_are_named_with_bound_and_value(about, said):
    with pytest.raises(ValueError, match=said):
        descent.regression(*about)
