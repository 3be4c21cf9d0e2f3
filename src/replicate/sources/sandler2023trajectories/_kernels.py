"""The kernels that Appendix A is tried on, and its closed forms for points Delta steps apart."""

import numpy as np

from replicate import streams
from replicate.averaging import ema, swa, two_point

# (lambda, kappa) with Gamma = 0.95, 0.999 and 0.1: slow, very slow and fast beside the kernels.
RATES_AND_CURVATURES = ((0.05, 1.0), (0.02, 0.05), (0.9, 1.0))


def list_kernels() -> dict[str, np.ndarray]:
    """Eleven kernels by name, in the order of time, sum 1."""
    drawn = streams.rng(0, "noise", 9).standard_normal((2, 41))
    signed = (drawn[0] + 0.3) / (drawn[0] + 0.3).sum()  # some below 0, their sum well above it
    positive = np.abs(drawn[1]) / np.abs(drawn[1]).sum()
    triangle = np.minimum(np.arange(1, 42), np.arange(41, 0, -1.0))
    return {
        "swa k=10": swa(10),
        "swa k=100": swa(100),
        "two-point k=1": two_point(1),
        "two-point k=10": two_point(10),
        "two-point k=100": two_point(100),
        "ema k=10": ema(10),
        "ema k=100": ema(100),
        "n-point n=10": space(10, 10),
        "triangle": triangle / triangle.sum(),
        "any weights": signed,
        "any positive weights": positive,
    }


def space(n: int, apart: int) -> np.ndarray:
    """n equal weights, `apart` steps from each other, ((n - 1) apart + 1,)."""
    mu = np.zeros((n - 1) * apart + 1)
    mu[::apart] = 1 / n
    return mu


def equation_21(gamma: np.ndarray, n: int, apart: int) -> np.ndarray:
    """1/n + (2/n) (G1 - G2/n), with G1 and G2 in their printed closed forms."""
    first, second = geometric_sums(gamma**apart, n)
    return 1 / n + 2 / n * (first - second / n)


def geometric_sums(g: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """G1 and G2 of Appendix A.4 as printed; g is Gamma^Delta."""
    first = g * (1 - g ** (n - 1)) / (1 - g)
    second = g * (1 - n * g ** (n - 1) + (n - 1) * g**n) / (1 - g) ** 2
    return first, second
