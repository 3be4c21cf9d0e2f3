"""Gradient noise along directions and in all, against NumPy on gradients that are kept."""

import math

import numpy as np
import pytest
import torch

from replicate.curvature import measure_noise


def gradients(count: int = 400, size: int = 30, mean: float = 2.0, key: int = 0) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key))
    return mean + rng.standard_normal((count, size)) * np.linspace(0.1, 2.0, size)


def vectors(size: int = 30, count: int = 4) -> torch.Tensor:
    rng = np.random.Generator(np.random.Philox(9))
    return torch.as_tensor(np.linalg.qr(rng.standard_normal((size, count)))[0].T.copy())


def test_means_and_variances_along_directions_are_numpys():
    drawn, directions = gradients(), vectors()
    noise = measure_noise(map(torch.as_tensor, drawn), directions)
    along = drawn @ directions.numpy().T
    np.testing.assert_allclose(noise.along, along.mean(0), rtol=1e-10)
    np.testing.assert_allclose(noise.variances, along.var(0, ddof=1), rtol=1e-10)
    assert noise.trace == pytest.approx(drawn.var(0, ddof=1).sum(), rel=1e-10)
    assert noise.count == 400


def test_the_squared_mean_is_without_the_part_that_noise_adds():
    """Of gradients without a mean it is 0 on average, where |mean|^2 is tr C / count."""
    rest = [
        measure_noise(map(torch.as_tensor, gradients(20, mean=0.0, key=key)), vectors())
        for key in range(300)
    ]
    values = np.array([each.squared_mean for each in rest])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(300)
    assert rest[0].trace / 20 > 10 * abs(values.mean())


def test_the_noise_scale_is_the_batch_at_which_noise_and_gradient_are_alike():
    """Examples with |G|^2 = 120 and tr C = B times that of a batch: the same whatever the batch."""
    examples = gradients(8192, key=3)
    scales = [
        measure_noise(
            map(torch.as_tensor, examples.reshape(-1, batch, 30).mean(1)), vectors()
        ).scale(batch)
        for batch in (1, 4, 16)
    ]
    trace = (np.linspace(0.1, 2.0, 30) ** 2).sum()
    assert scales == pytest.approx([trace / (30 * 4.0)] * 3, rel=0.1)


def test_where_noise_is_all_there_is_the_scale_is_infinite():
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert measure_noise(pair, torch.eye(2)).scale(8) == math.inf


def test_a_large_mean_does_not_cost_the_variance():
    drawn = gradients(mean=0.0).astype(np.float32)
    far = measure_noise(torch.as_tensor(drawn + np.float32(4096.0)), vectors().float())
    assert far.trace == pytest.approx(drawn.var(0, ddof=1).sum(), rel=1e-3)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        measure_noise([torch.ones(3)], torch.eye(3))
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        measure_noise([torch.ones(2)], torch.eye(3))
    with pytest.raises(FloatingPointError, match="gradient 2 is not finite"):
        measure_noise([torch.ones(3), torch.full((3,), math.nan)], torch.eye(3))
