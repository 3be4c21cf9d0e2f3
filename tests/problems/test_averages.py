"""Averages of a noisy quadratic: against Lyapunov solvers, sums term by term and paths that are drawn."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from replicate.averaging import ema, swa, two_point
from replicate.problems import (
    average_covariance,
    find_axes,
    overlap,
    shrinkage,
    shrinkage_of_points,
    stationary_covariance,
)

RATE = 0.3
KERNELS = {"swa": swa(7), "two-point": two_point(9), "ema": ema(12), "last": np.ones(1)}
KERNELS["any"] = np.array([0.7, -0.4, 0.2, 0.5])


def philox(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(list(key)))


def draw(commuting: bool) -> tuple[np.ndarray, np.ndarray]:
    """A and C of four directions, with the same eigenvectors or with different ones."""
    rng = philox(3)
    first, second = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    noise_vectors = first if commuting else second
    curvature = first * [0.3, 1.0, 2.0, 5.0] @ first.T
    noise = noise_vectors * [2.0, 0.5, 1.0, 3.0] @ noise_vectors.T
    return (curvature + curvature.T) / 2, (noise + noise.T) / 2


@pytest.mark.parametrize("commuting", [True, False])
def test_the_stationary_covariance_solves_the_lyapunov_equation(commuting):
    curvature, noise = draw(commuting)
    gamma = np.eye(4) - RATE * curvature
    expected = solve_discrete_lyapunov(gamma, RATE**2 * noise)
    np.testing.assert_allclose(stationary_covariance(curvature, noise, RATE), expected, rtol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("commuting", [True, False])
def test_an_average_has_the_covariance_of_the_process_that_holds_all_its_points(commuting, kernel):
    """z = (theta_t, theta_{t-1}, ...) is one linear process; its own Lyapunov equation is solved."""
    curvature, noise = draw(commuting)
    mu = KERNELS[kernel]
    k = len(mu)
    step = np.eye(4 * k, k=-4)
    step[:4, :4] = np.eye(4) - RATE * curvature
    added = np.zeros((4 * k, 4 * k))
    added[:4, :4] = RATE**2 * noise
    weigh = np.kron(mu[::-1], np.eye(4))  # the newest point comes first
    expected = weigh @ solve_discrete_lyapunov(step, added) @ weigh.T
    actual = average_covariance(curvature, noise, RATE, mu)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kernel", ["swa", "two-point", "any"])
def test_drawn_averages_scatter_that_widely(kernel):
    curvature, noise = draw(commuting=False)
    mu, runs, rng = KERNELS[kernel], 40_000, philox(4)
    root = np.linalg.cholesky(noise)
    theta = np.zeros((runs, 4))
    points = []
    for _ in range(80):
        theta = theta - RATE * (theta @ curvature + rng.standard_normal((runs, 4)) @ root.T)
        points = [*points, theta][-len(mu) :]
    averages = np.tensordot(mu, np.array(points), 1)
    expected = average_covariance(curvature, noise, RATE, mu)
    products = averages[:, :, None] * averages[:, None]
    error = products.std(0) / np.sqrt(runs)
    assert (np.abs(products.mean(0) - expected) < 4 * error).all()


def test_a_shrinkage_is_what_one_direction_leaves_of_its_variance():
    for name, mu in KERNELS.items():
        for kappa in (0.1, 1.0, 3.0, 6.0):  # gamma from 0.97 to -0.8
            one = np.eye(1) * kappa
            raw = stationary_covariance(one, np.eye(1), RATE)
            expected = average_covariance(one, np.eye(1), RATE, mu) / raw
            assert shrinkage(1 - RATE * kappa, mu) == pytest.approx(expected.item(), rel=1e-12), (
                name
            )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_points_apart_are_a_kernel_with_gaps(n):
    mu = np.zeros(3 * (n - 1) + 1)
    mu[::3] = 1 / n
    gamma = np.array([0.99, 0.5, 0.0, -0.7])
    np.testing.assert_allclose(
        shrinkage_of_points(gamma**3, n), shrinkage(gamma, mu), rtol=1e-12, atol=1e-15
    )


def test_an_overlap_is_the_sum_of_products():
    mu = KERNELS["any"]
    for delta in range(len(mu)):
        expected = sum(mu[k] * mu[k + delta] for k in range(len(mu) - delta))
        assert overlap(mu)[delta] == pytest.approx(expected, abs=1e-15)


def test_axes_are_roots_of_the_variances_of_directions():
    kappa, c = np.array([0.3, 1.0, 5.0]), np.array([2.0, 0.5, 1.0])
    expected = np.sqrt(RATE * c / (kappa * (2 - RATE * kappa)))
    np.testing.assert_allclose(find_axes(kappa, c, RATE), expected, rtol=1e-13)


@pytest.mark.parametrize("curvature, noise, message", [
    (np.diag([1.0, 0.0]), np.eye(2), "curvatures must lie in"),
    (np.diag([1.0, 2 / RATE]), np.eye(2), "curvatures must lie in"),
    (np.array([[1.0, 0.1], [0.2, 1.0]]), np.eye(2), "curvature must be symmetric"),
    (np.eye(2), np.array([[1.0, 0.1], [0.2, 1.0]]), "noise must be symmetric"),
    (np.eye(2), np.eye(3), "noise must be a square matrix of A's size"),
])  # fmt: skip
def test_what_does_not_settle_is_refused(curvature, noise, message):
    with pytest.raises(ValueError, match=message):
        stationary_covariance(curvature, noise, RATE)


def test_what_is_no_kernel_is_refused():
    with pytest.raises(ValueError, match="finite weights"):
        overlap(np.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="n must be at least 1"):
        shrinkage_of_points(0.5, 0)
