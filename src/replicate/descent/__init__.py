"""Descent on small problems, compiled whole in jax: Newton's method, and what one gradient can be used for."""

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
from replicate.descent.newton import NewtonPath, Path, gradient_descent, newton
from replicate.descent.walks import Run, Ties, ties, train, train_many

__all__ = [
    "Adam",
    "Armijo",
    "ExactSearch",
    "Fit",
    "Moments",
    "Net",
    "NewtonPath",
    "Path",
    "Regression",
    "Rows",
    "Run",
    "Sgd",
    "Stepping",
    "Ties",
    "Vaulting",
    "bits_of_printed_update",
    "gradient",
    "gradient_descent",
    "initial_weights",
    "mean_squared_error",
    "moments",
    "moments_loss",
    "net_seconds",
    "newton",
    "normal_equations",
    "published_net",
    "regression",
    "regression_seconds",
    "regression_start",
    "rows",
    "rows_loss",
    "ties",
    "train",
    "train_many",
    "value",
]
