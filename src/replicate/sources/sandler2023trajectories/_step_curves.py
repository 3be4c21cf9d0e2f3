"""What is read off a loss along a line, y(e) at step sizes e_0 = 0 < e_1 < ..., y_0 the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from replicate.errors import Diverged

FAR = (
    2.5,
    3.0,
    4.0,
    6.0,
    8.0,
)  # multiples of the best step, to see where the loss is back at its start
MOST_DOUBLINGS = 60  # of the first guess at a step, down or up; float32 has no finer ones


def find_minimiser(loss: Callable[[float], float], start: float, guess: float) -> float:
    """The step size of the first minimum: a parabola through the start and two step sizes, the
    second twice the first, between which the loss turns.

    loss: step size -> loss; start: the loss at 0; guess: the step size tried first. Raises Diverged
    if no step lowers the loss.
    """
    step, value = guess, loss(guess)
    for _ in range(MOST_DOUBLINGS):
        if value < start:
            break
        step /= 2
        value = loss(step)
    else:
        raise Diverged(f"no step along the gradient lowers the loss, {start:g}", 0)
    for _ in range(MOST_DOUBLINGS):
        farther = loss(2 * step)
        if not farther < value:
            break
        step, value = 2 * step, farther
    if not np.isfinite(farther):
        return step
    return _vertex((0.0, step, 2 * step), (start, value, farther))


def place_steps(minimiser: float, even: int, small: int) -> np.ndarray:
    """0, `small` halvings below the first of `even` equal steps, these up to twice the minimiser,
    and FAR.
    """
    spaced = 2 * minimiser * np.arange(1, even + 1) / even
    halved = spaced[0] * 0.5 ** np.arange(small, 0, -1)
    return np.concatenate([[0.0], halved, spaced, minimiser * np.array(FAR)])


def place_even(even: int, small: int) -> np.ndarray:
    """Where 0 and the equal steps stand in `place_steps`."""
    return np.concatenate([[0], np.arange(small + 1, small + 1 + even)])


def fit_polynomial(e: np.ndarray, y: np.ndarray, degree: int) -> float:
    """R2 of a polynomial of this degree; NaN for values that are not finite or all alike."""
    if not np.isfinite(y).all() or np.ptp(y) == 0:
        return np.nan
    fit = np.polynomial.Polynomial.fit(e, y, degree)
    return 1 - ((y - fit(e)) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def count_convex(y: np.ndarray) -> float:
    """Share of the second differences at equal distances that are above 0."""
    return float((np.diff(y, 2) > 0).mean())


def find_lowest(e: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(step size, loss) at the lowest point, by a parabola through it and its neighbours."""
    place = int(np.nanargmin(y))
    if place in (0, len(y) - 1):
        return float(e[place]), float(y[place])
    near = slice(place - 1, place + 2)
    if not np.isfinite(y[near]).all():
        return float(e[place]), float(y[place])
    step = _vertex(e[near], y[near])
    fit = np.polynomial.Polynomial.fit(e[near], y[near], 2)
    return step, float(fit(step))


def find_critical(e: np.ndarray, y: np.ndarray) -> float:
    """The largest step size whose loss is not above the start; the last one if none is above it.

    Between two of them (y - y_0) / e is taken for linear, which it is of a parabola.
    """
    harmless = np.flatnonzero(y[1:] <= y[0])
    if not len(harmless):
        return _extrapolate(e, y)
    last = harmless[-1] + 1
    if last == len(e) - 1 or not np.isfinite(y[last + 1]):
        return float(e[last])
    below, above = ((y[i] - y[0]) / e[i] for i in (last, last + 1))
    return float(e[last] + (e[last + 1] - e[last]) * below / (below - above))


def _extrapolate(e: np.ndarray, y: np.ndarray) -> float:
    """Where (y - y_0) / e crosses 0 below the smallest step size; 0 if it does not."""
    first, second = ((y[i] - y[0]) / e[i] for i in (1, 2))
    if not second > first:
        return 0.0
    return float(np.clip(e[1] - first * (e[2] - e[1]) / (second - first), 0.0, e[1]))


def _vertex(e, y) -> float:
    """The vertex of the parabola through three points, kept between the outer two."""
    (e0, e1, e2), (y0, y1, y2) = e, y
    left, right = (y1 - y0) / (e1 - e0), (y2 - y1) / (e2 - e1)
    if not right > left:
        return float(e1)
    vertex = (e0 + e1) / 2 - left * (e2 - e0) / (2 * (right - left))
    return float(np.clip(vertex, e0, e2))
