"""L(theta, x) = |A_x theta + c_x|^2 / 2 over a finite set of samples whose mean loss is least at 0.

Section 4 as it is written, for sets that are held in full: means over them are exact.
"""

from dataclasses import dataclass

import numpy as np

from replicate import streams


@dataclass(frozen=True)
class Samples:
    """matrices: A_x, (n, m, d); offsets: c_x, (n, m), with mean of A_x^T c_x equal to 0."""

    matrices: np.ndarray
    offsets: np.ndarray

    @classmethod
    def draw(cls, n: int, m: int, d: int, whitened: bool = False) -> "Samples":
        """n Gaussian samples, centred. whitened: with mean of A_x^T A_x equal to I, as in Lemma 1."""
        rng = streams.rng(0, "noise", n, stream=m)
        matrices = rng.standard_normal((n, m, d)) / np.sqrt(m)
        offsets = rng.standard_normal((n, m))
        if whitened:
            values, vectors = np.linalg.eigh(_mean_curvature(matrices))
            matrices = matrices @ (vectors / np.sqrt(values)) @ vectors.T
        drift = np.einsum("nij,ni->j", matrices, offsets) / n
        shift = np.linalg.solve(_mean_curvature(matrices), drift)
        return cls(matrices, offsets - matrices @ shift)

    @property
    def curvature(self) -> np.ndarray:
        """The mean of A_x^T A_x, (d, d)."""
        return _mean_curvature(self.matrices)

    @property
    def biases(self) -> np.ndarray:
        """b_x = A_x^T c_x, (n, d)."""
        return np.einsum("nij,ni->nj", self.matrices, self.offsets)

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """L(theta, x), (n,); theta may be complex, where they are the polynomial's values."""
        residuals = self.matrices @ theta + self.offsets
        return (residuals * residuals).sum(1) / 2

    def gradients(self, theta: np.ndarray) -> np.ndarray:
        """Eq. 2, (n, d)."""
        residuals = self.matrices @ theta + self.offsets
        return np.einsum("nij,ni->nj", self.matrices, residuals)

    def gamma(self, theta: np.ndarray) -> np.ndarray:
        """theta^T A_x^T A_x theta / |theta|^2, (n,)."""
        return ((self.matrices @ theta) ** 2).sum(1) / (theta @ theta)

    def drift(self, theta: np.ndarray) -> np.ndarray:
        """xi_x of eq. 7, (n, d): what is across theta in A_x^T A_x theta, plus b_x."""
        pull = np.einsum("nij,ni->nj", self.matrices, self.matrices @ theta)
        return project_across(pull, theta) + self.biases

    def step_loss(self, theta: np.ndarray, move: np.ndarray) -> float:
        """Mean over moves (n, d) of the mean loss at theta + move, less that at theta."""
        curvature = self.curvature
        return float(
            np.mean(move @ curvature @ theta + np.einsum("ni,ij,nj->n", move, curvature, move) / 2)
        )


def project_across(vectors: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """What is orthogonal to theta in each of the vectors (n, d)."""
    along = theta / np.linalg.norm(theta)
    return vectors - (vectors @ along)[:, None] * along


def _mean_curvature(matrices: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nik->jk", matrices, matrices) / len(matrices)
