"""avg_j = sum_s mu_j[s] theta_s: averages of iterates that are at hand as the rows of an array."""

from collections.abc import Mapping

import numpy as np
import torch

from replicate.averaging.running import KernelAverages


def average_rows(kernels: Mapping[str, np.ndarray], iterates) -> dict[str, np.ndarray]:
    """Name of a kernel -> average (parameters,) of the first k + 1 rows of (steps + 1, parameters).

    Raises ValueError if an array is not a kernel, or if a window is longer than the iterates.

    >>> from replicate.averaging import swa, two_point
    >>> walk = [[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]]
    >>> average_rows({"swa": swa(2), "ends": two_point(2)}, walk)
    {'swa': array([1.5, 1.5]), 'ends': array([1. , 0.5])}
    """
    start, *rest = torch.as_tensor(np.asarray(iterates, dtype=np.float64))
    averages = KernelAverages(kernels, start)
    for theta in rest:
        averages.update(theta)
    return {name: averages[name].numpy() for name in kernels}
