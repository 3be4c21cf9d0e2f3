"""The mean of a tail that somebody begins on the way is NumPy's mean of those iterates."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.averaging import TailMean


def move(model, draws):
    for parameter in model.parameters():
        parameter.data = torch.from_numpy(draws.standard_normal(parameter.shape)).float()


@pytest.mark.parametrize("begin", [0, 3, 9])
def test_it_is_the_mean_of_the_iterates_behind_the_moment(begin):
    model, mean, seen = nn.Linear(3, 2), TailMean(), []
    draws = np.random.default_rng(0)
    for step in range(10):
        move(model, draws)
        seen.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy())
        if step == begin:
            mean.begin()
        mean.update(model)
    np.testing.assert_allclose(mean.weights, np.mean(seen[begin:], axis=0), rtol=1e-5, atol=1e-6)
    assert mean.count == 10 - begin


def test_beginning_again_changes_nothing():
    model, mean, other = nn.Linear(3, 2), TailMean(), TailMean()
    draws = np.random.default_rng(0)
    other.begin()
    for _ in range(4):
        move(model, draws)
        mean.begin()
        for each in (mean, other):
            each.update(model)
    assert torch.equal(mean.weights, other.weights) and mean.count == 4


def test_before_it_begins_there_is_no_mean():
    mean = TailMean()
    mean.update(nn.Linear(3, 2))
    assert mean.weights is None and mean.count == 0


def test_the_mean_is_no_view_of_the_model():
    model, mean = nn.Linear(3, 2), TailMean()
    mean.begin()
    mean.update(model)
    before = mean.weights.clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    assert torch.equal(mean.weights, before)
