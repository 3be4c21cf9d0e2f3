"""Problems small enough to be followed exactly: test functions, noisy quadratics and their moments,
heavy ball.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.problems import filters
    from replicate.problems.averages import (
        average_covariance,
        find_axes,
        overlap,
        shrinkage,
        shrinkage_of_points,
        stationary_covariance,
    )
    from replicate.problems.cycles import (
        cycle_rate,
        find_alpha,
        game_matrix,
        heavy_ball_matrix,
        largest_stable_rate,
    )
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
    from replicate.problems.noisy_quadratic import (
        SecondMoments,
        lookahead_mean_square,
        lookahead_variance,
        match_rate,
        mean_variance,
        second_moments,
        sgd_variance,
        slow_factor,
    )
    from replicate.problems.nonlinear_acceleration import accelerate, acceleration_weights
    from replicate.problems.pulse import answer_pulse
    from replicate.problems.sampled import average_path, draw_path

lazy.attach(__name__)
