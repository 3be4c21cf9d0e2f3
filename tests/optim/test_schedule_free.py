"""Schedule-free SGD against its page, and what defines it: the mean of SGD's iterates at beta = 0."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import SGD, ScheduleFreeSGD

START = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
RATES = [0.1, 0.1, 0.3, 0.3, 0.05, 0.2, 0.2]


def gradient(w: torch.Tensor, step: int) -> torch.Tensor:
    curvature = torch.tensor([1.0, 0.3, 0.05, 2.0], dtype=torch.float64)
    return curvature * w.detach() + 0.1 * torch.cos(torch.arange(4.0).double() + step)


def walk(optimizer, w, rates=RATES, first=0) -> None:
    for step, rate in enumerate(rates, first):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = gradient(w, step)
        optimizer.step()


@pytest.mark.parametrize("beta", [0.0, 0.9, 1.0])
def test_it_is_the_three_lines_of_its_page(beta):
    w = nn.Parameter(START.clone())
    optimizer = ScheduleFreeSGD([w], lr=1.0, beta=beta, weight_decay=0.02)
    walk(optimizer, w)
    x = z = y = START.clone()
    squares = 0.0
    for step, rate in enumerate(RATES):
        z = z - rate * (gradient(y, step) + 0.02 * y)
        squares += rate**2
        x = (1 - rate**2 / squares) * x + rate**2 / squares * z
        y = (1 - beta) * z + beta * x
    torch.testing.assert_close(w.detach(), y, rtol=1e-12, atol=0)
    with optimizer.mean_weights():
        torch.testing.assert_close(w.detach(), x, rtol=1e-12, atol=0)
    torch.testing.assert_close(w.detach(), y, rtol=1e-12, atol=0)


def test_at_beta_0_it_is_sgd_and_the_mean_of_its_iterates():
    w, other = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    optimizer, sgd = ScheduleFreeSGD([w], lr=0.1, beta=0.0), SGD([other], lr=0.1)
    iterates = []
    for step in range(9):
        walk(optimizer, w, [0.1], step)
        walk(sgd, other, [0.1], step)
        iterates.append(other.detach().clone())
    torch.testing.assert_close(w, other, rtol=1e-13, atol=0)
    with optimizer.mean_weights():
        torch.testing.assert_close(w.detach(), torch.stack(iterates).mean(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("cut", [0, 3])
def test_a_run_that_is_resumed_or_copied_ends_at_the_same_bits(tmp_path, cut):
    whole = nn.Parameter(START.clone())
    walk(ScheduleFreeSGD([whole], lr=1.0), whole)
    w = nn.Parameter(START.clone())
    optimizer = ScheduleFreeSGD([w], lr=1.0)
    walk(optimizer, w, RATES[:cut])
    torch.save(optimizer.state_dict(), tmp_path / "state")
    loaded_w, resumed_w = copy.deepcopy(w), nn.Parameter(w.detach().clone())
    resumed = ScheduleFreeSGD([resumed_w], lr=0.7, beta=0.1)
    resumed.load_state_dict(torch.load(tmp_path / "state"))
    walk(resumed, resumed_w, RATES[cut:], cut)
    loaded_w, copied = copy.deepcopy((w, optimizer))
    walk(copied, loaded_w, RATES[cut:], cut)
    assert torch.equal(resumed_w, whole) and torch.equal(loaded_w, whole)


def test_the_weights_come_back_after_an_error_and_without_a_gradient_nothing_moves():
    w, still = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    optimizer = ScheduleFreeSGD([w, still], lr=1.0)
    walk(optimizer, w)
    before = w.detach().clone()
    with pytest.raises(KeyError), optimizer.mean_weights():
        assert not torch.equal(w, before) and torch.equal(still, START)
        raise KeyError
    assert torch.equal(w, before) and torch.equal(still, START)


def test_a_closure_gives_its_loss():
    w = nn.Parameter(START.clone())
    optimizer = ScheduleFreeSGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == pytest.approx(14.25)
    np.testing.assert_allclose(w.detach().numpy(), 0.8 * START.numpy())


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr": 0.1, "beta": 1.1}, {"lr": float("nan")},
                                      {"lr": 0.1, "weight_decay": -1.0}])  # fmt: skip
def test_other_numbers_are_refused(settings):
    with pytest.raises(BadParameter, match="lr must be above 0, beta in"):
        ScheduleFreeSGD([nn.Parameter(START.clone())], **settings)
