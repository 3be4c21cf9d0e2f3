"""Runs that are drawn follow the recursion, and their averages are those of the whole path."""

import numpy as np
import pytest

from replicate.averaging import ema, swa
from replicate.problems import average_path, draw_path

CURVATURES, RATE, STEPS = np.array([1.0, 0.1]), 0.2, 30
START = np.array([[1.0, -2.0], [0.0, 3.0]])


def philox(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(list(key)))


def path(noise=0.5) -> np.ndarray:
    return np.array(list(draw_path(philox(1), START, CURVATURES, RATE, STEPS, noise)))


def test_a_path_begins_at_the_start_and_follows_the_recursion():
    points, drawn = path(), philox(1)
    np.testing.assert_array_equal(points[0], START)
    assert points.shape == (STEPS + 1, 2, 2)
    for before, after in zip(points, points[1:], strict=False):
        gradient = CURVATURES * before + np.sqrt(0.5) * drawn.standard_normal((2, 2))
        np.testing.assert_allclose(after, before - RATE * gradient, rtol=1e-12, atol=1e-14)


def test_without_noise_the_start_is_forgotten_geometrically():
    expected = START * (1 - RATE * CURVATURES) ** STEPS
    np.testing.assert_allclose(path(noise=0.0)[-1], expected, rtol=1e-12)


def test_averages_weigh_the_last_points_in_the_order_of_time():
    kernels = {"swa": swa(10), "ema": ema(STEPS), "first": np.array([1.0, 0.0, 0.0])}
    points = path()
    averages = average_path(iter(points), STEPS, kernels)
    np.testing.assert_allclose(averages["swa"], points[-10:].mean(0), rtol=1e-12)
    expected = points[0]
    for point in points[1:]:
        expected = expected + 5 / STEPS * (point - expected)
    np.testing.assert_allclose(averages["ema"], expected, rtol=1e-12)
    np.testing.assert_array_equal(averages["first"], points[-3])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="swa weighs 12 points, the path has 11"):
        average_path(iter(path()), 10, {"swa": swa(11)})
    with pytest.raises(ValueError, match="rate and noise must be at least 0"):
        next(draw_path(philox(1), START, CURVATURES, -0.1, 5))
