"""Descent on the loss of one random sample: its moments against matrices that are drawn in full."""

import numpy as np
import pytest

from replicate.problems import random_rows

D, M, RATE = 4, 3, 0.1
THETA = np.array([1.0, 2.0, 0.0, -0.5])


def philox(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(list(key)))


def draw_in_full(rng, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A_x^T A_x (count, D, D), b_x (count, D) and c_x (count, M)."""
    rows = rng.standard_normal((count, M, D)) / np.sqrt(M)
    offsets = rng.standard_normal((count, M))
    return (
        np.einsum("nij,nik->njk", rows, rows),
        np.einsum("nij,ni->nj", rows, offsets),
        offsets,
    )


def close(values: np.ndarray, expected, errors: float = 4.0) -> bool:
    """Whether means over the first axis lie within some standard errors."""
    error = values.std(0) / np.sqrt(len(values))
    return bool((np.abs(values.mean(0) - expected) <= errors * error + 1e-12).all())


@pytest.fixture(scope="module")
def full():
    return draw_in_full(philox(1), 200_000)


def test_the_formulas_are_the_means_of_samples(full):
    h, b, c = full
    assert close(h, np.eye(D)) and close(b, np.zeros(D))
    assert close(np.einsum("nij,njk->nik", h, h), random_rows.second_order(D, M) * np.eye(D))
    gamma = np.einsum("i,nij,j->n", THETA, h, THETA) / (THETA @ THETA)
    assert close(gamma, 1.0) and close(gamma**2, random_rows.gamma_square(M))
    assert close((b**2).sum(1), random_rows.noise_square(D))
    assert close((c**2).sum(1), random_rows.offset_square(M))


def test_second_moments_of_a_step_are_the_means_of_samples(full):
    h, b, _ = full
    after = THETA - RATE * (h @ THETA + b)
    expected = random_rows.step_moments(np.outer(THETA, THETA), RATE, M)
    assert close(after[:, :, None] * after[:, None], expected)
    without = THETA - RATE * (h @ THETA)
    expected = random_rows.step_moments(np.outer(THETA, THETA), RATE, M, noisy=False)
    assert close(without[:, :, None] * without[:, None], expected)


@pytest.mark.parametrize("theta", [THETA, np.zeros(D)])
def test_gradients_without_the_matrix_have_the_distribution_of_those_with_it(full, theta):
    """Means, second moments, fourth moments and the correlation of squares."""
    h, b, _ = full
    plain = h @ theta + b
    short = random_rows.draw_gradients(philox(2), np.tile(theta, (len(plain), 1)), M)
    for part in (
        lambda g: g,
        lambda g: g[:, :, None] * g[:, None],
        lambda g: g**4,
        lambda g: (g**2)[:, :, None] * (g**2)[:, None],
    ):
        values = part(plain), part(short)
        error = np.sqrt(sum(each.var(0) / len(each) for each in values))
        assert (np.abs(values[0].mean(0) - values[1].mean(0)) < 4.5 * error).all()


def test_one_row_a_sample_has_a_gradient_along_one_line():
    """m = 1: A_x^T y is a multiple of the row, so that |g|^2 = |a|^2 y^2 has mean 1 + d + 2 at |theta| = 1."""
    theta = np.tile(np.eye(D)[0], (200_000, 1))
    gradients = random_rows.draw_gradients(philox(3), theta, 1)
    # E y^2 |a|^2, y = a_1 + c: 3 + (d - 1) from a_1, d from c.
    assert close((gradients**2).sum(1), 3 + (D - 1) + D)


def test_runs_settle_where_the_moments_do():
    points = random_rows.descend(philox(4), np.zeros((20_000, D)), M, RATE, 100)
    expected = random_rows.settle_square(D, M, RATE)
    assert close((points**2).sum(1), expected)
    assert expected == pytest.approx(RATE * D / (2 - RATE * (1 + (D + 1) / M)), rel=1e-12)


def test_growth_passes_one_at_two_over_h2():
    edge = 2 / random_rows.second_order(D, M)
    assert random_rows.growth(D, M, 0.999 * edge) < 1 < random_rows.growth(D, M, 1.001 * edge)
    assert random_rows.settle_square(D, M, 1.001 * edge) == np.inf


@pytest.mark.parametrize("d, m", [(0, 1), (1, 0)])
def test_no_dimension_is_refused(d, m):
    with pytest.raises(ValueError, match="d and m must be at least 1"):
        random_rows.second_order(d, m)
