"""Descent on small problems, compiled whole in jax: Newton's method, and what one gradient can be
used for.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.descent.clock import bits_of_printed_update, net_seconds, regression_seconds
    from replicate.descent.least_squares import (
        Fit,
        Regression,
        mean_squared_error,
        normal_equations,
        regression,
        regression_start,
    )
    from replicate.descent.line_searches import Armijo, ExactSearch
    from replicate.descent.methods import Adam, Sgd, Stepping, Vaulting
    from replicate.descent.nets import (
        Moments,
        Net,
        Rows,
        gradient,
        initial_weights,
        moments,
        moments_loss,
        published_net,
        rows,
        rows_loss,
        value,
    )
    from replicate.descent.newton import (
        NewtonPath,
        Path,
        gradient_descent,
        newton,
        shape_of_hessian,
    )
    from replicate.descent.walks import Run, Ties, ties, train, train_many

lazy.attach(__name__)
