"""TaylorExtrapolation where the rate changes: a step takes the time h, whatever its length."""

import numpy as np
import pytest
import torch
from test_extrapolation import DT, LR, feed, gradients, vector, walk
from torch import nn

from replicate.optim import SGD, TaylorExtrapolation
from replicate.optim.stencils import step_coefficients


@pytest.mark.parametrize("h, s", [(None, DT / LR), (0.05, DT / 0.05)])
@pytest.mark.parametrize("history", ["weights", "gradient"])
def test_a_step_takes_the_time_h_at_every_rate(h, s, history):
    """s stays, and a displacement at the rate before is scaled to the rate of now."""
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, h, order=2, history=history)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    given = gradients(6)
    path = [w.detach().numpy().copy()]
    for step, g in enumerate(given):
        lr = LR * 0.5**step
        c = step_coefficients(s, 2) if step else (0, 0)
        expected = path[-1] - lr * g - c[0] * lr * g - c[1] * lr * given[step - 1]
        path.append(feed(optimizer, w, g[None])[1])
        np.testing.assert_allclose(path[-1], expected, rtol=1e-12)
        scheduler.step()


def test_a_step_at_rate_zero_begins_the_history_anew():
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    said = []
    for rate in (LR, LR, LR, 0.0, LR, LR, LR):
        optimizer.param_groups[0]["lr"] = rate
        before = w.detach().clone()
        walk(optimizer, w, 1)
        said.append(optimizer.did_extrapolate)
        assert torch.equal(w, before) == (rate == 0)
    assert said == [False, False, True, False, False, False, True]


@pytest.mark.parametrize("rise, goes_on", [(10, True), (11, False)])
def test_a_rate_that_rises_too_far_begins_it_anew(rise, goes_on):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    optimizer.param_groups[0]["lr"] = 0.001
    walk(optimizer, w, 3)
    optimizer.param_groups[0]["lr"] = 0.001 * rise
    walk(optimizer, w, 1)
    assert optimizer.did_extrapolate == goes_on


def test_rounding_of_tiny_steps_is_not_made_large():
    """In float32 a step of 1e-8 is all rounding: scaled to a rate of 0.1 it would be a step of 0.6."""
    w = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    for rate in (1e-8, 1e-8, 1e-8, LR):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = w.detach().clone()
        optimizer.step()
    np.testing.assert_allclose(w.detach(), 0.9 * vector().detach(), rtol=1e-5)


def test_under_a_scheduler_made_first_the_unit_is_its_base_rate():
    w = vector()
    inner = SGD([w], lr=LR)
    torch.optim.lr_scheduler.LambdaLR(inner, lambda step: step / 100)
    assert TaylorExtrapolation(inner, DT).eta == [LR]


def test_a_group_that_came_frozen_has_its_first_rate_for_unit():
    thawed = vector()
    alone = vector()
    optimizer = TaylorExtrapolation(SGD([thawed], lr=0.0), DT)
    walk(optimizer, thawed, 2)
    optimizer.param_groups[0]["lr"] = LR
    expected = walk(TaylorExtrapolation(SGD([alone], lr=LR), DT), alone, 6)
    np.testing.assert_array_equal(walk(optimizer, thawed, 6), expected)


def regression_end(wrap, schedule, steps: int = 50) -> float:
    """The loss of a noise-free regression after a schedule, from SGD at 0.1."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((40, 3)))
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = wrap(SGD([w], lr=0.1))
    scheduler = schedule(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (((x @ (w - 1.0)) ** 2).mean()) / 2
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss.item()


SCHEDULES = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50),
    "steps": lambda o: torch.optim.lr_scheduler.StepLR(o, 10),
    "warm restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 10),
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("dt", [0.01, 0.1])
def test_the_call_of_readme_ends_no_higher_than_sgd(kind, dt):
    """With s = dt over the rate of now it ended at 0.07 where SGD is at 1e-4, or at nan."""
    plain = regression_end(lambda inner: inner, SCHEDULES[kind])
    wrapped = regression_end(lambda inner: TaylorExtrapolation(inner, dt=dt), SCHEDULES[kind])
    assert wrapped <= plain
