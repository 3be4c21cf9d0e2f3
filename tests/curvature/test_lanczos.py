"""Eigenvalues against NumPy's and ARPACK's, and what reorthogonalisation is for."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from replicate.curvature import lanczos


def matrix(values: np.ndarray, key: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues."""
    rng = np.random.Generator(np.random.Philox(key))
    basis, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return (basis * values) @ basis.T


def start(size: int, key: int = 1) -> torch.Tensor:
    return torch.as_tensor(np.random.Generator(np.random.Philox(key)).standard_normal(size))


DECAYING = np.concatenate([100 / np.arange(1, 40) ** 1.5, np.linspace(-0.05, 0.05, 261)])


def test_all_steps_give_all_eigenvalues():
    values = np.linspace(-2.0, 5.0, 12)
    made = matrix(values)
    spectrum = lanczos(lambda v: torch.as_tensor(made) @ v, start(12), 12)
    np.testing.assert_allclose(spectrum.values, values[::-1], atol=1e-10)
    vectors = spectrum.vectors.numpy()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(12), atol=1e-10)
    np.testing.assert_allclose(made @ vectors.T, vectors.T * spectrum.values, atol=1e-9)


def test_the_largest_come_first_as_arpack_has_them():
    made = matrix(DECAYING)
    spectrum = lanczos(lambda v: torch.as_tensor(made) @ v, start(300), 60)
    peer = eigsh(LinearOperator((300, 300), matvec=lambda v: made @ v), k=12, which="LA")[0][::-1]
    np.testing.assert_allclose(spectrum.values[:12], peer, rtol=1e-8)
    assert spectrum.select_converged()[:12].all() and not spectrum.select_converged(1e-6).all()


def test_residuals_bound_the_distance_to_an_eigenvalue():
    made = matrix(DECAYING)
    spectrum = lanczos(lambda v: torch.as_tensor(made) @ v, start(300), 25)
    nearest = np.abs(spectrum.values[:, None] - DECAYING).min(1)
    assert (nearest <= spectrum.residuals + 1e-9).all()
    products = made @ spectrum.vectors.numpy().T
    off = np.linalg.norm(products - spectrum.vectors.numpy().T * spectrum.values, axis=0)
    np.testing.assert_allclose(off, spectrum.residuals, atol=1e-9)


def without_reorthogonalisation(made: np.ndarray, q: np.ndarray, steps: int) -> np.ndarray:
    """The three-term recursion as it stands, in float32."""
    q, before, beta = q / np.linalg.norm(q), np.zeros_like(q), np.float32(0)
    alphas, betas = [], []
    for _ in range(steps):
        image = made @ q - beta * before
        alphas.append(image @ q)
        image = image - alphas[-1] * q
        beta = np.linalg.norm(image)
        betas.append(beta)
        before, q = q, image / beta
    return np.linalg.eigvalsh(np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1))[
        ::-1
    ]


def test_in_float32_no_eigenvalue_comes_back_as_a_copy():
    """The dull recursion shows the largest eigenvalue several times; this one does not."""
    made = matrix(DECAYING).astype(np.float32)
    spectrum = lanczos(lambda v: torch.as_tensor(made) @ v, start(300).float(), 100)
    np.testing.assert_allclose(spectrum.values[:5], DECAYING[:5], rtol=1e-4)
    dull = without_reorthogonalisation(made, start(300).float().numpy(), 100)
    assert np.sum(np.abs(dull - DECAYING[0]) < 1e-2) > 1
    assert np.sum(np.abs(spectrum.values - DECAYING[0]) < 1e-2) == 1


def test_a_whole_krylov_space_ends_the_iteration():
    values = np.repeat([3.0, 1.0, -2.0], 4)
    made = torch.as_tensor(matrix(values))
    spectrum = lanczos(lambda v: made @ v, start(12), 12)
    np.testing.assert_allclose(spectrum.values, [3.0, 1.0, -2.0], atol=1e-9)


@pytest.mark.parametrize("steps", [0, 13])
def test_more_directions_than_parameters_are_refused(steps):
    with pytest.raises(ValueError, match=f"from 1 to the 12 dimensions, got {steps}"):
        lanczos(lambda v: v, start(12), steps)


def test_a_start_or_a_product_that_is_not_finite_is_refused():
    for bad in (torch.zeros(3), torch.tensor([1.0, float("nan"), 0.0])):
        with pytest.raises(ValueError, match="start must be finite and not 0"):
            lanczos(lambda v: v, bad, 2)
    with pytest.raises(FloatingPointError, match="product 1 of 2 is not finite"):
        lanczos(lambda v: v * float("inf"), torch.ones(3), 2)
