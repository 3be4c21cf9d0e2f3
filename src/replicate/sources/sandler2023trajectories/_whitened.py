"""u_{t+1} = (I - lambda Omega) u_t + lambda xi_t,        theta = Q u,  Q Q^T = C,  Omega = Q^-1 A Q

Appendix A.1 and A.2 as printed, for curvature A and noise C that need not commute.
"""

from dataclasses import dataclass

import numpy as np

from replicate import streams
from replicate.problems import overlap


@dataclass(frozen=True)
class Whitened:
    """curvature: A, (d, d); root: Q, (d, d); rate: lambda."""

    curvature: np.ndarray
    root: np.ndarray
    rate: float

    @classmethod
    def draw(cls, d: int, rate: float, index: int) -> "Whitened":
        """A random A with eigenvalues in [0.2, 2] and a random C that does not commute with it."""
        rng = streams.rng(0, "noise", index, stream=1)
        vectors, _ = np.linalg.qr(rng.standard_normal((d, d)))
        curvature = vectors * np.linspace(0.2, 2.0, d) @ vectors.T
        square = rng.standard_normal((d, d))
        noise = square @ square.T / d + 0.1 * np.eye(d)
        return cls((curvature + curvature.T) / 2, np.linalg.cholesky(noise), rate)

    @property
    def noise(self) -> np.ndarray:
        """C, (d, d)."""
        return self.root @ self.root.T

    @property
    def omega(self) -> np.ndarray:
        """Q^-1 A Q, (d, d), symmetric only where A and C commute."""
        return np.linalg.solve(self.root, self.curvature @ self.root)

    @property
    def gamma(self) -> np.ndarray:
        """I - lambda Omega, (d, d)."""
        return np.eye(len(self.root)) - self.rate * self.omega

    def equation_19(self, mu: np.ndarray) -> np.ndarray:
        """lambda (2 Omega - lambda Omega^2)^-1 (C_0 + 2 sum C_delta Gamma^delta), (d, d)."""
        overlaps, gamma, omega = overlap(mu), self.gamma, self.omega
        identity = np.eye(len(gamma))
        series = np.zeros_like(gamma)
        for each in overlaps[:0:-1]:
            series = (series + 2 * each * identity) @ gamma
        series += overlaps[0] * identity
        return self.rate * np.linalg.solve(2 * omega - self.rate * omega @ omega, series)

    def walk(self, start: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """u_0 .. u_k by eq. 15, (k + 1, d). noise: xi, (k, d)."""
        path = [start]
        for each in noise:
            path.append(self.gamma @ path[-1] + self.rate * each)
        return np.array(path)
