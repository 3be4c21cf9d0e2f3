"""c_i = Var(u_i . g)        B_simple = tr C / |G|^2

How much the gradient of a mini-batch varies along each of some directions u_i, and in all: C is the
covariance of a batch's gradient, G its mean. The noise scale (McCandlish et al. 2018, equation 2.9)
is in examples: the batch size at which noise and gradient are alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replicate.progress import progress

FEWEST_GRADIENTS = 2  # gradients of a variance


@dataclass(frozen=True, eq=False)
class GradientNoise:
    """Of `count` mini-batches' gradients: means and variances along directions, and in all.

    along: mean of u_i . g, (m,); variances: c_i, (m,); trace: tr C; squared_mean: |G|^2 without the
    part tr C / count that noise adds to it, which can leave it below 0.
    """

    along: np.ndarray
    variances: np.ndarray
    trace: float
    squared_mean: float
    count: int

    def scale(self, batch: int) -> float:
        """B_simple in examples, from gradients of mini-batches of `batch`; infinite where nothing but
        noise is seen.
        """
        return batch * self.trace / self.squared_mean if self.squared_mean > 0 else float("inf")


def measure_noise(gradients: Iterable[Tensor], vectors: Tensor) -> GradientNoise:
    """Noise of mini-batches' gradients at one point.

    gradients: (d,) each, read once and not kept; vectors: (m, d), orthonormal rows. Sums are
    float64, and the first gradient is taken off all others, so that little is lost where the mean is
    large. Raises ValueError on fewer than two gradients or another shape; FloatingPointError if one
    is not finite.
    """
    first, count = None, 0
    total = squares = None
    projected = []
    for gradient in progress(gradients, "gradient noise"):
        if gradient.shape != vectors.shape[1:]:
            raise ValueError(
                f"gradients must have shape {tuple(vectors.shape[1:])}, got {tuple(gradient.shape)}"
            )
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(f"gradient {count + 1} is not finite")
        if first is None:
            first = gradient.detach().double().clone()
            total, squares = torch.zeros_like(first), torch.zeros((), dtype=torch.float64)
        away = gradient.detach().double() - first
        total += away
        squares += (away @ away).cpu()
        projected.append((vectors @ gradient.detach()).double().cpu())
        count += 1
    if count < FEWEST_GRADIENTS:
        raise ValueError(f"gradients must be at least {FEWEST_GRADIENTS}, got {count}")
    mean = total / count
    trace = (float(squares) - count * float(mean @ mean)) / (count - 1)
    whole = first + mean
    rows = torch.stack(projected).numpy()
    squared = float(whole @ whole) - trace / count
    return GradientNoise(rows.mean(0), rows.var(0, ddof=1), trace, squared, count)
