"""The combination of iterates has weights of sum 1, the least residual, and no gradient where it can."""

import numpy as np
import pytest

from replicate.problems import accelerate, acceleration_weights


def descend(curvatures, start, steps, minimum=0.0):
    path = [np.array(start, dtype=float)]
    for _ in range(steps):
        path.append(path[-1] - 0.8 * curvatures * (path[-1] - minimum))
    return np.array(path)


def test_as_many_iterates_as_dimensions_and_one_find_the_minimum():
    minimum = np.array([1.0, -2.0, 0.5])
    iterates = descend(np.array([1.0, 0.4, 0.1]), np.ones(3), 4, minimum)
    np.testing.assert_allclose(accelerate(iterates, 1e-14), minimum, atol=1e-5)
    assert np.abs(accelerate(iterates[:3], 1e-14) - minimum).max() > 1e-2


def test_weights_have_the_least_residual_of_all_of_sum_one():
    residuals = np.random.default_rng(0).standard_normal((3, 7))
    weights = acceleration_weights(residuals, 1e-12)
    assert weights.sum() == pytest.approx(1)
    size = np.linalg.norm(weights @ residuals)
    for step in ([1, -1, 0], [0, 1, -1], [1, 0, -1]):
        for sign in (-1e-3, 1e-3):
            assert np.linalg.norm((weights + sign * np.array(step)) @ residuals) > size


def test_regularisation_evens_the_weights_out():
    residuals = np.random.default_rng(1).standard_normal((4, 5))
    np.testing.assert_allclose(acceleration_weights(residuals, 1e8), np.full(4, 0.25), atol=1e-6)


def test_what_cannot_be_combined_is_refused():
    with pytest.raises(ValueError, match=r"residuals must be \(k, d\) with k of at least 1"):
        accelerate(np.ones((1, 3)))
    with pytest.raises(ValueError, match="regularisation must be above 0, got 0"):
        acceleration_weights(np.ones((2, 3)), 0)
