"""Problems small enough to be followed exactly: test functions, noisy quadratics and their moments,
heavy ball.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.problems.ends import (
        Responses,
        predict_loss,
        responses,
        stationary_moments,
        weigh_last,
    )
    from replicate.problems.functions import PROBLEMS, Problem, beale, goldstein_price, rosenbrock
    from replicate.problems.heavy_ball import heavy_ball
    from replicate.problems.minimise import minimise
    from replicate.problems.moments import (
        heavy_ball_variance,
        largest_stable,
        mean_squares,
        noise_gain,
        spectral_radius,
        stationary_variance,
    )

lazy.attach(__name__)
