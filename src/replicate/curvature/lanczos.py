"""A q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1}

Lanczos' iteration: in the basis q_1 .. q_m the symmetric matrix A is tridiagonal, and the ends of
its spectrum come out first. Each new vector is made orthogonal to all before it, twice (Parlett's
"twice is enough"): otherwise eigenvalues that have converged come back as copies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replicate.progress import progress

BREAKDOWN = 1e-7  # of the largest |alpha|, below which beta counts as 0: float32's rounding


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Ritz values, the largest first, with their vectors.

    values: (m,) float64; vectors: (m, d), orthonormal rows; residuals: |A y - value y| of each, (m,),
    which bounds how far the value is from an eigenvalue of A.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def select_converged(self, tolerance: float = 1e-2) -> np.ndarray:
        """Which values are within a share `tolerance` of the largest |value| of an eigenvalue, (m,)."""
        return self.residuals <= tolerance * np.abs(self.values).max()


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Spectrum:
    """The Ritz values and vectors of a symmetric matrix after `steps` products.

    product: v -> A v, (d,) each; start: (d,), any vector with a share of every direction wanted. The
    basis is kept in the start's precision, (steps, d), its coefficients in float64. Ends early where
    the Krylov space is whole. Raises ValueError on more steps than dimensions, none at all, or a
    start of length 0 or that is not finite; FloatingPointError if a product is not finite.
    """
    if not 1 <= steps <= len(start):
        raise ValueError(f"steps must be from 1 to the {len(start)} dimensions, got {steps}")
    length = torch.linalg.vector_norm(start.double())
    if not (torch.isfinite(length) and length > 0):
        raise ValueError(f"start must be finite and not 0, got length {float(length):g}")
    basis = torch.empty((steps, len(start)), dtype=start.dtype, device=start.device)
    alphas, betas = np.empty(steps), np.empty(steps)
    q = start / length.to(start.dtype)
    for j in progress(range(steps), "Lanczos"):
        basis[j] = q
        image = product(q)
        alphas[j] = float(image.double() @ q.double())
        rest = _without(image, basis[: j + 1])
        betas[j] = float(torch.linalg.vector_norm(rest.double()))
        if not np.isfinite(betas[j]):
            raise FloatingPointError(f"product {j + 1} of {steps} is not finite")
        if betas[j] <= BREAKDOWN * np.abs(alphas[: j + 1]).max():
            steps = j + 1
            break
        q = rest / betas[j]
    return _ritz(alphas[:steps], betas[:steps], basis[:steps])


def _without(image: Tensor, basis: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to the rows of a basis."""
    for _ in range(2):
        image = image - basis.T @ (basis @ image)
    return image


def _ritz(alphas: np.ndarray, betas: np.ndarray, basis: Tensor) -> Spectrum:
    tridiagonal = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    values, weights = np.linalg.eigh(tridiagonal)
    order = np.argsort(-values)
    weights = weights[:, order]
    # A Y = Y diag(values) + beta_m q_{m+1} (last row of the weights)
    residuals = np.abs(betas[-1] * weights[-1])
    vectors = torch.as_tensor(weights.T, dtype=basis.dtype, device=basis.device) @ basis
    return Spectrum(values[order], vectors, residuals)
