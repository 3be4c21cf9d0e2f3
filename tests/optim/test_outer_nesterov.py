"""Nesterov's momentum on what a cycle moved: torch's own SGD with the displacement as gradient, and
Lookahead where there is none.
"""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam, Lookahead, OuterNesterov

CURVATURE = torch.tensor([1.0, 0.3, 0.05, 2.0], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
INNER = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: Adam(p, lr=0.1),
}


def walk(optimizer, w, steps: int = 23) -> np.ndarray:
    path = []
    for step in range(steps):
        w.grad = CURVATURE * w.detach() + 0.1 * torch.cos(torch.arange(4.0).double() + step)
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("k, alpha, mu", [(4, 0.7, 0.9), (1, 0.3, 0.5), (5, 1.0, 0.2)])
def test_it_is_torchs_nesterov_on_displacements(inner, k, alpha, mu):
    w, phi = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    path = walk(OuterNesterov(INNER[inner]([w]), k, alpha, mu), w)
    theta = nn.Parameter(START.clone())
    inside = INNER[inner]([theta])
    outside = torch.optim.SGD([phi], lr=alpha, momentum=mu, nesterov=True)
    expected = []
    for step in range(23):
        theta.grad = CURVATURE * theta.detach() + 0.1 * torch.cos(torch.arange(4.0).double() + step)
        inside.step()
        if (step + 1) % k == 0:
            phi.grad = phi.detach() - theta.detach()
            outside.step()
            with torch.no_grad():
                theta.copy_(phi)
        expected.append(theta.detach().numpy().copy())
    np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("inner", INNER)
def test_without_momentum_outside_it_is_lookahead(inner):
    w, other = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    path = walk(OuterNesterov(INNER[inner]([w]), 4, 0.6, 0.0), w)
    np.testing.assert_allclose(path, walk(Lookahead(INNER[inner]([other]), 4, 0.6), other), 1e-13)


def test_slow_weights_are_those_after_the_last_pull():
    w = nn.Parameter(START.clone())
    optimizer = OuterNesterov(INNER["momentum"]([w]), 4, 0.7, 0.9)
    path = walk(optimizer, w, 14)
    with optimizer.slow_weights():
        np.testing.assert_array_equal(w.detach().numpy(), path[11])
    np.testing.assert_array_equal(w.detach().numpy(), path[13])


def test_a_lookahead_inside_is_pulled_too():
    w = nn.Parameter(START.clone())
    inside = Lookahead(SGD([w], lr=0.1), 2, 0.5)
    walk(OuterNesterov(inside, 4, 0.7, 0.9), w, 4)
    assert torch.equal(inside.state[w]["slow"], w)


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan"), "x", True])
def test_other_momenta_are_refused(momentum):
    with pytest.raises(BadParameter, match=r"outer_momentum must be a number in \[0, 1\), got"):
        OuterNesterov(SGD([nn.Parameter(START.clone())], lr=0.1), outer_momentum=momentum)


def test_a_state_with_another_momentum_or_shape_is_refused_and_nothing_changes():
    w = nn.Parameter(START.clone())
    optimizer = OuterNesterov(SGD([w], lr=0.1), 2)
    walk(optimizer, w, 4)
    state = optimizer.state_dict()
    for entry, value in (("outer nesterov", {"outer_momentum": 2.0}), ("state", None)):
        broken = dict(state)
        if value is None:
            broken["state"] = {0: {**state["state"][0], "outer": torch.zeros(3)}}
        else:
            broken[entry] = {**state[entry], **value}
        with pytest.raises(BadParameter, match="outer"):
            optimizer.load_state_dict(broken)
    assert optimizer.outer_momentum == 0.9 and optimizer.state[w]["outer"].shape == (4,)
