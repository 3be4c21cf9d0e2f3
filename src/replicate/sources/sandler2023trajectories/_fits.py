"""Powers, edges and the worst of some ratios: what the checks of the theory read off numbers."""

from collections.abc import Callable

import numpy as np


def fit_power(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of log y on log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def find_edge(growth: Callable[[float], float], high: float) -> float:
    """The rate at which a growth factor passes 1, by bisection between high / 4 and high."""
    low = high / 4
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle) < 1 else (low, middle)
    return (low + high) / 2


def farthest_from_1(ratios: np.ndarray) -> float:
    """The ratio whose logarithm is largest in size."""
    return float(ratios[np.abs(np.log(ratios)).argmax()])
