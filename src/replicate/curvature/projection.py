"""y_t = U theta_t: a path of weights seen along a few directions, step by step."""

import numpy as np
import torch
from torch import Tensor


class Projection:
    """Keeps U theta_t of every iterate that it is told, as averages are told them.

    vectors: U, (m, d), orthonormal rows; origin: (d,), taken off before, so that float32 keeps what
    moves.
    """

    def __init__(self, vectors: Tensor, origin: Tensor):
        self._vectors, self._origin = vectors, origin
        self._rows: list[Tensor] = []

    def update(self, weights: Tensor) -> None:
        """The next iterate, (d,), which is read at once."""
        self._rows.append(self._vectors @ (weights.detach() - self._origin))

    @property
    def path(self) -> np.ndarray:
        """U (theta_t - origin), (steps, m) float64."""
        return torch.stack(self._rows).double().cpu().numpy()
