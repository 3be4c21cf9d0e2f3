"""Lookahead around Lookahead is two nested loops, and what it refuses leaves every layer as it was."""

import copy

import numpy as np
import pytest
import torch
from rows import is_same, snapshot
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam, Lookahead, TaylorExtrapolation

LR = 0.1
BETA = 0.9
START = np.array([1.0, -2.0, 3.0, 0.5])
CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
STATES = ("maintain", "reset", "interpolate")


def vector() -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(START.copy()))


def momentum(parameters):
    return SGD(parameters, lr=LR, momentum=BETA)


def walk(optimizer, w, steps: int) -> np.ndarray:
    path = []
    for _ in range(steps):
        w.grad = torch.from_numpy(CURVATURE) * w.detach()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def two_layers(k, inner, outer) -> np.ndarray:
    """Nested loops: cycles of cycles of heavy ball. inner, outer: (alpha, what becomes of m)."""
    theta = START.copy()
    m = np.zeros(4)
    slow_m = np.zeros(4)
    slowest_m = np.zeros(4)
    slowest = theta
    path = []
    for _ in range(4):
        slow = slowest
        for _ in range(3):
            theta = slow
            for _ in range(k):
                m = BETA * m + CURVATURE * theta
                theta = theta - LR * m
                path.append(theta)
            slow = slow + inner[0] * (theta - slow)
            if inner[1] == "reset":
                m = np.zeros(4)
            if inner[1] == "interpolate":
                slow_m = slow_m + inner[0] * (m - slow_m)
                m = slow_m
            path[-1] = slow
        slowest = slowest + outer[0] * (slow - slowest)
        if outer[1] == "reset":
            m = np.zeros(4)
            slow_m = np.zeros(4)
        if outer[1] == "interpolate":
            slowest_m = slowest_m + outer[0] * (m - slowest_m)
            m = slowest_m
            slow_m = slowest_m
        path[-1] = slowest
    return np.array(path)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("outer", STATES)
@pytest.mark.parametrize("inner", STATES)
def test_nesting_is_the_two_layer_algorithm(inner, outer, k):
    w = vector()
    layer = Lookahead(momentum([w]), k, 0.5, inner)
    found = walk(Lookahead(layer, 3 * k, 0.8, outer), w, 12 * k)
    expected = two_layers(k, (0.5, inner), (0.8, outer))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("cut", [3, 6, 7])
def test_two_layers_resume_anywhere_at_the_same_bits(cut):
    w = vector()
    optimizer = Lookahead(Lookahead(momentum([w]), 2), 6, 0.8, "interpolate")
    whole = walk(optimizer, w, 15)
    first = vector()
    optimizer = Lookahead(Lookahead(momentum([first]), 2), 6, 0.8, "interpolate")
    walk(optimizer, first, cut)
    second = nn.Parameter(first.detach().clone())
    resumed = Lookahead(Lookahead(momentum([second]), 1), 1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    np.testing.assert_array_equal(walk(resumed, second, 15 - cut), whole[cut:])


def test_cycles_that_would_not_end_together_are_refused():
    w = vector()
    inner = Lookahead(momentum([w]), 2)
    with pytest.raises(BadParameter, match="k must be a multiple of the inner .* got 5 around 2"):
        Lookahead(inner, 5)
    walk(inner, w, 1)
    with pytest.raises(BadParameter, match="at the start of a cycle, got 4 around 2 at step 1"):
        Lookahead(inner, 4)


def test_reset_reaches_through_an_extrapolation():
    w = vector()
    inner = TaylorExtrapolation(momentum([w]), dt=0.01)
    walk(Lookahead(inner, 5, 0.5, "reset"), w, 5)
    assert not inner.state and not inner.inner.state


# Arguments.


@pytest.mark.parametrize("change", [{"k": np.int64(3)}, {"alpha": np.float32(0.5)}, {"alpha": 1}])
def test_numbers_of_numpy_are_numbers_and_are_saved_as_pythons(change):
    w = vector()
    optimizer = Lookahead(momentum([w]), **change)
    assert type(optimizer.k) is int and type(optimizer.alpha) is float
    walk(optimizer, w, 6)


@pytest.mark.parametrize("change", [{"alpha": "x"}, {"alpha": torch.tensor(0.5)}, {"alpha": True},
                                    {"alpha": 1.5}, {"k": "5"}, {"inner_state": None}])  # fmt: skip
def test_what_is_no_number_or_too_large_is_refused_by_name(change):
    ((name, value),) = change.items()
    with pytest.raises(BadParameter, match=name) as error:
        Lookahead(momentum([vector()]), **change)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_alpha_above_one_has_to_be_asked_for():
    w = vector()
    plain = vector()
    optimizer = Lookahead(SGD([w], lr=LR), 1, 1.5, extrapolate=True)
    expected = walk(SGD([plain], lr=1.5 * LR), plain, 9)
    np.testing.assert_allclose(walk(optimizer, w, 9), expected, rtol=1e-13)


def test_a_step_on_lent_slow_weights_changes_nothing():
    w = vector()
    optimizer = Lookahead(momentum([w]))
    walk(optimizer, w, 3)
    with optimizer.slow_weights():
        before = snapshot(optimizer, w)
        with pytest.raises(BadParameter, match="leave the with block first"):
            walk(optimizer, w, 1)
        assert is_same(before, snapshot(optimizer, w))
    walk(optimizer, w, 1)
    assert optimizer.counter == 4


# States that do not fit.


def spoilt_counter(state):
    state["lookahead"]["counter"] = 7


def spoilt_k(state):
    state["lookahead"]["k"] = 0


def spoilt_name(state):
    state["lookahead"]["step"] = 1


def lost_name(state):
    del state["lookahead"]["alpha"]


def lost_slow(state):
    del state["state"][0]


def spoilt_slow(state):
    state["state"][0]["slow"] = torch.zeros(3)


def spoilt_momentum(state):
    state["inner"]["state"][0]["momentum_buffer"] = torch.zeros(3)


def inner_of_adam(state):
    w = vector()
    adam = Adam([w], lr=LR)
    walk(adam, w, 2)
    state["inner"] = adam.state_dict()
    state["param_groups"] = adam.state_dict()["param_groups"]


def inner_of_two_groups(state):
    two = SGD([{"params": [vector()]}, {"params": [vector()]}], lr=LR)
    state["inner"] = two.state_dict()
    state["param_groups"] = two.state_dict()["param_groups"]


SPOILT = {
    spoilt_counter: "counter 7, which must be in",
    spoilt_k: "k must be a whole number",
    spoilt_name: "must be a Lookahead's",
    lost_name: "must be a Lookahead's",
    lost_slow: "must have 'slow' for every parameter",
    spoilt_slow: r"'slow' of shape \(3,\) for a tensor of shape \(4,\)",
    spoilt_momentum: r"'momentum_buffer' of shape \(3,\)",
    inner_of_adam: "no 'dampening' in group 0, which SGD needs",
    inner_of_two_groups: "2 parameter groups, Lookahead has 1",
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_state_is_refused_before_anything_moves(spoil, nested):
    w = vector()
    optimizer = Lookahead(momentum([w]), 4, 0.5, "interpolate")
    if nested:
        optimizer = Lookahead(optimizer, 8)
    walk(optimizer, w, 5)
    state = copy.deepcopy(optimizer.state_dict())
    spoil(state["inner"] if nested and spoil is not inner_of_two_groups else state)
    if nested and "param_groups" in state["inner"]:
        state["param_groups"] = state["inner"]["param_groups"]
    walk(optimizer, w, 1)
    before = snapshot(optimizer, w)
    with pytest.raises(BadParameter, match=SPOILT[spoil] + "|parameter groups") as error:
        optimizer.load_state_dict(state)
    assert "\n" not in str(error.value)
    assert is_same(before, snapshot(optimizer, w))
    other = copy.deepcopy((optimizer, w))
    assert np.array_equal(walk(optimizer, w, 9), walk(*other, 9))


def test_an_inner_optimizer_that_refuses_leaves_all_as_it_was():
    class Picky(SGD):
        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            raise RuntimeError("not today\nnor tomorrow")

    w = vector()
    optimizer = Lookahead(Picky([w], lr=LR, momentum=BETA))
    walk(optimizer, w, 3)
    state = copy.deepcopy(optimizer.state_dict())
    walk(optimizer, w, 1)
    before = snapshot(optimizer, w)
    with pytest.raises(BadParameter, match="the inner Picky refuses the state_dict: not today$"):
        optimizer.load_state_dict(state)
    assert is_same(before, snapshot(optimizer, w))
    assert optimizer.param_groups is optimizer.inner.param_groups
