"""TaylorExtrapolation is the source's formula, and its published variant the source's code, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import SGD, TaylorExtrapolation
from replicate.optim.stencils import step_coefficients

CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
DT, LR = 0.03, 0.1


def vector(start=(1.0, -2.0, 3.0, 0.5)) -> nn.Parameter:
    return nn.Parameter(torch.tensor(start, dtype=torch.float64))


def walk(optimizer, parameter, steps: int) -> np.ndarray:
    """The path on 1/2 sum a w^2, (steps + 1, 4)."""
    path = [parameter.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.from_numpy(CURVATURE) * parameter**2).sum().mul(0.5).backward()
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def feed(optimizer, parameter, gradients: np.ndarray) -> np.ndarray:
    """The path under gradients given beforehand; a row of nan is no gradient."""
    path = [parameter.detach().numpy().copy()]
    for row in gradients:
        parameter.grad = None if np.isnan(row).any() else torch.from_numpy(row.copy())
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def gradients(steps: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((steps, 4))


# The published code.


def source_code(start, gradients, eta, h, dt) -> np.ndarray:
    """SGD and after it the source's class, three terms one after the other, its late parameters as it treats them."""
    w, path, calls, one, two = np.array(start), [np.array(start)], 0, None, None
    for g in gradients:
        calls += 1
        if not np.isnan(g).any():
            w = w - LR * g
            if one is None:
                one = two = g
            elif calls > 3:
                w = w - dt * eta / (6 * h) * (11 * g - 7 * one + 2 * two)
                w = w - dt**2 * eta / (2 * h**2) * (2 * g - 3 * one + two)
                w = w - dt**3 * eta / (6 * h**3) * (g - 2 * one + two)
            one, two = g, one
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("late", [0, 2, 5])
@pytest.mark.parametrize("h", [None, 0.02])
def test_published_is_the_source_code_a_late_gradient_included(h, late):
    given, w = gradients(12), vector()
    given[:late] = np.nan
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, h, variant="published")
    expected = source_code(w.detach().numpy(), given, LR, h or LR, DT)
    np.testing.assert_allclose(feed(optimizer, w, given), expected, rtol=1e-14, atol=1e-14)


def test_published_begins_at_call_four_and_corrected_at_the_order():
    plain = vector()
    alone = walk(SGD([plain], lr=LR), plain, 6)
    for variant, order, first in (("published", 3, 4), ("corrected", 3, 3), ("corrected", 1, 1), ("corrected", 5, 5)):
        w = vector()
        optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, order=order, variant=variant)
        found = walk(optimizer, w, 6)
        assert optimizer.first_step == first
        np.testing.assert_array_equal(found[:first], alone[:first])
        assert not np.allclose(found[first], alone[first])


# The corrected method.


def page(start, order, derivative, every, steps, dt=DT, h=LR) -> np.ndarray:
    """Gradient descent on 1/2 sum a w^2 with the formula written out, the gradients kept in a list."""
    w, path, g = np.array(start), [np.array(start)], []
    c = step_coefficients(dt / h, order, derivative)
    for step in range(1, steps + 1):
        g.append(CURVATURE * w)
        w = w - LR * g[-1]
        if step % every == 0 and step >= order:
            w = w + sum(-LR * c_j * g[-1 - j] for j, c_j in enumerate(c))
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("history", ["weights", "gradient"])
@pytest.mark.parametrize("derivative", ["bdf", "backward"])
@pytest.mark.parametrize("order, every", [(1, 1), (2, 1), (3, 1), (3, 4), (3, 2), (6, 1)])
def test_equals_the_formula_written_out_in_both_histories(history, derivative, order, every):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, None, order, derivative, history, every)
    found = walk(optimizer, w, 25)
    expected = page(found[0], order, derivative, every, 25)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
