"""Predictions of a single step against steps that are taken on a quadratic with drawn gradients."""

import numpy as np
import pytest
import torch

from replicate.curvature import SingleStep, measure_noise, scale_of_drops

RNG = np.random.Generator(np.random.Philox(5))
H = np.diag([3.0, 1.0, 0.2, 0.05])
G = np.array([0.4, -0.3, 0.2, 0.5])
ROOT = np.diag([2.0, 1.0, 4.0, 0.5])  # of one example's covariance C
BATCH = 8


def draw(size: int, count: int = 40_000) -> np.ndarray:
    """Gradients of batches, (count, 4)."""
    return G + RNG.standard_normal((count, 4)) @ ROOT / np.sqrt(size)


@pytest.fixture(scope="module")
def moments() -> SingleStep:
    gradients = draw(BATCH)
    vectors = torch.zeros((0, 4), dtype=torch.float64)
    noise = measure_noise(map(torch.from_numpy, gradients), vectors)
    mean = gradients.mean(0)
    along = np.einsum("ij,jk,ik->i", gradients, H, gradients).mean()
    return SingleStep.of(noise, BATCH, float(mean @ H @ mean), float(along))


def curves(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step sizes, and mean changes of the batch's own loss and of the others' along its gradient."""
    e, g = np.linspace(0, 2, 4001), draw(size)
    bend = np.einsum("ij,jk,ik->i", g, H, g).mean() / 2
    own = -e * (g**2).sum(1).mean() + e**2 * bend
    others = -e * (g @ G).mean() + e**2 * bend
    return e, own, others


@pytest.mark.parametrize("size", [4, 32, 400])
def test_it_says_what_steps_do(moments, size):
    e, own, others = curves(size)
    assert moments.drop_ratio(size) == pytest.approx(own.min() / others.min(), rel=0.1)
    assert moments.critical_step(size) == pytest.approx(e[others <= 0].max(), rel=0.03)
    lifted = others[own.argmin()] > 0
    assert lifted == (size < moments.noise_scale)
    found = scale_of_drops(-own.min(), -others.min(), size)
    assert found == pytest.approx(moments.noise_scale, rel=0.1)


def test_the_scale_and_curvature_are_those_of_the_model(moments):
    trace, along = (ROOT**2).trace(), (H @ ROOT**2).trace()
    assert moments.noise_scale == pytest.approx(trace / (G @ G), rel=0.02)
    assert moments.curvature(100) == pytest.approx(G @ H @ G + along / 100, rel=0.02)


def test_the_mean_of_few_gradients_is_rid_of_its_noise():
    """G.H G from 5 gradients is not biased: the mean over many such fives is the true one."""
    fives, values = draw(BATCH, 20_000).reshape(-1, 5, 4), []
    for five in fives:
        noise = measure_noise(map(torch.from_numpy, five), torch.zeros((0, 4)).double())
        mean, along = five.mean(0), np.einsum("ij,jk,ik->i", five, H, five).mean()
        values.append(SingleStep.of(noise, BATCH, float(mean @ H @ mean), along).along_mean)
    assert np.mean(values) == pytest.approx(G @ H @ G, abs=4 * np.std(values) / len(values) ** 0.5)
    biased = np.mean([five.mean(0) @ H @ five.mean(0) for five in fives])
    assert biased > 1.5 * G @ H @ G


def test_noise_alone_predicts_no_step_and_a_loss_that_never_turns_any():
    drowned = SingleStep(8, -1.0, 3.0, 1.0, 2.0)
    assert drowned.noise_scale == float("inf") and drowned.critical_step(8) == 0
    assert SingleStep(8, 1.0, 3.0, -1.0, -0.5).critical_step(8) == float("inf")
