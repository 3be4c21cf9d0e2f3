"""C = diag(alpha, 1) B^k + diag(1 - alpha, 0),    B = (1 - x, beta; -x, beta)

Lookahead without noise, one cycle as one matrix. B is a step of heavy ball on a theta^2 / 2 for
(theta, d), d <- beta d - x theta, theta <- theta + d, x = gamma a; C a cycle of k of them and the
pull, the momentum d kept. Zhang, Lucas, Hinton, Ba 2019, Proposition 1 and the analysis of
deterministic quadratics; Chavdarova et al. 2021 (arXiv:2006.14567) for games.
"""

import numpy as np


def heavy_ball_matrix(x, beta: float) -> np.ndarray:
    """B for every x, (*x.shape, 2, 2)."""
    x = np.asarray(x, dtype=np.float64)
    matrix = np.empty((*x.shape, 2, 2))
    matrix[..., 0, 0] = 1 - x
    matrix[..., 1, 0] = -x
    matrix[..., :, 1] = beta
    return matrix


def cycle_rate(step: np.ndarray, alpha: float, k: int, slow: int | None = None) -> np.ndarray:
    """The factor by which a cycle of Lookahead shrinks its state, per step: a spectral radius^(1/k).

    step: a matrix per lane, (*lanes, n, n); slow: how many of the variables are weights, which the
    pull interpolates, all if None. alpha = 1 is the method without Lookahead.
    """
    size = step.shape[-1]
    share = np.where(np.arange(size) < (size if slow is None else slow), alpha, 1.0)
    whole = share[:, None] * np.linalg.matrix_power(step, k) + np.diag(1 - share)
    return np.abs(np.linalg.eigvals(whole)).max(-1) ** (1 / k)


def largest_stable_rate(alpha: float, k: int) -> float:
    """The x = gamma a up to which Lookahead around gradient descent does not grow.

    2 for even k, 1 + (2 / alpha - 1)^(1/k) for odd k: there -1 < 1 - alpha + alpha (1 - x)^k ends.
    """
    return 2.0 if k % 2 == 0 else 1 + (2 / alpha - 1) ** (1 / k)


def find_alpha(curvatures: np.ndarray, start: np.ndarray, end: np.ndarray, minimum=0.0) -> float:
    """(s - m)^T A (s - e) / ((s - e)^T A (s - e)),    s start, e end of a cycle, m minimum

    Proposition 1: the alpha with the lowest loss on the line from s through e; not clipped.
    """
    way = start - end
    return float(((start - minimum) * curvatures * way).sum() / (way * curvatures * way).sum())


def game_matrix(rate: float) -> np.ndarray:
    """(1, -rate; rate, 1): a step of gradient descent on x and ascent on y of the game x y."""
    return np.array([[1.0, -rate], [rate, 1.0]])
