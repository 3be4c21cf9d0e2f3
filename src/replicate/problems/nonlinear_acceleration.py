"""min_c |sum_i c_i r_i|^2 + lambda |c|^2,    sum_i c_i = 1,    x = sum_i c_i x_i

Regularised nonlinear acceleration (Scieur, d'Aspremont, Bach 2016): the combination of the last k
iterates x_i whose residuals r_i = x_{i+1} - x_i, steps of gradient descent, nearly cancel. The k
weights solve one k x k system.
"""

import numpy as np


def accelerate(iterates: np.ndarray, regularisation: float = 1e-8) -> np.ndarray:
    """The extrapolated point, (d,). iterates: (k + 1, d), oldest first.

    regularisation: lambda in units of the largest eigenvalue of the k x k matrix, by default the
    middle of Scieur et al.'s grid; it makes the system solvable where residuals depend on each
    other. Raises ValueError for fewer than two iterates or a regularisation of at most 0.
    """
    weights = acceleration_weights(np.diff(iterates, axis=0), regularisation)
    return weights @ iterates[:-1]


def acceleration_weights(residuals: np.ndarray, regularisation: float = 1e-8) -> np.ndarray:
    """The k weights c, of sum 1. residuals: (k, d). Raises ValueError as `accelerate`."""
    if residuals.ndim != 2 or not len(residuals):
        raise ValueError(f"residuals must be (k, d) with k of at least 1, got {residuals.shape}")
    if regularisation <= 0:
        raise ValueError(f"regularisation must be above 0, got {regularisation}")
    system = normal_matrix(residuals)
    size = np.linalg.norm(system, 2)
    ridge = regularisation * size * np.eye(len(system))
    weights = np.linalg.solve(system + ridge, np.ones(len(system)))
    return weights / weights.sum()


def normal_matrix(residuals: np.ndarray) -> np.ndarray:
    """R R^T, (k, k): k^2 d multiplications, the part of the cost that grows with d."""
    return residuals @ residuals.T
