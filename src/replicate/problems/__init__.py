"""Problems small enough to be followed exactly: test functions, noisy quadratics and their moments, heavy ball."""

from replicate.problems.functions import PROBLEMS, Problem, beale, goldstein_price, rosenbrock
from replicate.problems.heavy_ball import heavy_ball, inside_weights
from replicate.problems.minimise import minimise
from replicate.problems.moments import (
    heavy_ball_variance,
    largest_stable,
    mean_squares,
    noise_gain,
    spectral_radius,
    stationary_variance,
)

__all__ = [
    "PROBLEMS",
    "Problem",
    "beale",
    "goldstein_price",
    "heavy_ball",
    "heavy_ball_variance",
    "inside_weights",
    "largest_stable",
    "mean_squares",
    "minimise",
    "noise_gain",
    "rosenbrock",
    "spectral_radius",
    "stationary_variance",
]
