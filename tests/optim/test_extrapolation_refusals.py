"""What TaylorExtrapolation refuses, in one line, before anything has moved."""

import copy

import pytest
import torch
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam, TaylorExtrapolation, extrapolation

DT, LR = 0.03, 0.1


def vector() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64))


def walk(optimizer, w, steps: int) -> None:
    for _ in range(steps):
        w.grad = w.detach().clone()
        optimizer.step()


@pytest.mark.parametrize(
    "change",
    [{"dt": 0.0}, {"dt": -1.0}, {"dt": float("nan")}, {"dt": float("inf")}, {"h": 0.0}, {"h": -0.1}, {"order": 0},
     {"order": 7}, {"order": 2.5}, {"order": True}, {"every": 0}, {"every": 1.5}, {"every": True}],
)  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=name) as error:
        TaylorExtrapolation(SGD([vector()], lr=LR), **{"dt": DT} | change)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["derivative", "history", "variant"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(BadParameter, match=f"unknown {name} 'forward'"):
        TaylorExtrapolation(SGD([vector()], lr=LR), DT, **{name: "forward"})


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match="inner must be a torch optimizer, got list"):
        TaylorExtrapolation([vector()], DT)


@pytest.mark.parametrize(
    "change", [{"order": 2}, {"derivative": "backward"}, {"history": "weights"}, {"every": 3}]
)
def test_published_is_refused_what_the_source_code_has_not(change):
    with pytest.raises(ValueError, match="variant 'published' must have .* got") as error:
        TaylorExtrapolation(SGD([vector()], lr=LR), DT, variant="published", **change)
    assert repr(next(iter(change.values()))) in str(error.value)


@pytest.mark.parametrize("inner, about", [(Adam, {}), (SGD, {"momentum": 0.9}), (SGD, {"weight_decay": 1e-4}),
                                          (SGD, {"maximize": True})])  # fmt: skip
def test_a_history_of_gradients_takes_plain_sgd_only(inner, about):
    with pytest.raises(
        ValueError, match=f"inner must be plain SGD .*, got {inner.__name__} with"
    ) as error:
        TaylorExtrapolation(inner([vector()], lr=LR, **about), DT, history="gradient")
    assert str(about)[1:-1] in str(error.value)


def test_an_inner_optimizer_that_changed_since_is_refused():
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, history="gradient")
    walk(optimizer, w, 4)
    optimizer.param_groups[0]["momentum"], before = 0.9, w.detach().clone()
    with pytest.raises(ValueError, match=r"'momentum': 0.9.* in group 0"):
        walk(optimizer, w, 1)
    assert torch.equal(w, before) and optimizer.steps == 4


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_a_rate_below_zero_or_not_finite_is_refused(rate):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    optimizer.param_groups[0]["lr"] = rate
    with pytest.raises(BadParameter, match=f"the rate of group 0 must be .* finite, got {rate}"):
        walk(optimizer, w, 1)
    assert torch.equal(w, vector()) and optimizer.steps == 0


def test_weights_that_cannot_be_lent_are_back_where_they_were(monkeypatch):
    a = vector()
    b = vector()
    optimizer = TaylorExtrapolation(SGD([a, b], lr=LR), DT, every=None)
    for _ in range(4):
        b.grad = b.detach().clone()
        walk(optimizer, a, 1)
    before = torch.cat([a, b]).detach()
    add = extrapolation.add
    monkeypatch.setattr(extrapolation, "add", lambda p, *rest: add(p, *rest) if p is a else 1 / 0)
    with pytest.raises(ZeroDivisionError), optimizer.extrapolated():
        pass
    assert torch.equal(torch.cat([a, b]), before) and not optimizer.loans


def test_a_step_on_lent_weights_is_refused():
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, every=None)
    walk(optimizer, w, 4)
    before = w.detach().clone()
    with optimizer.extrapolated(), pytest.raises(BadParameter, match="leave the with block first"):
        walk(optimizer, w, 1)
    assert torch.equal(w, before) and optimizer.steps == 4


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_sparse_and_complex_gradients_are_refused_at_once(kind):
    dtype = torch.complex64 if kind == "complex" else torch.float32
    w, odd = vector(), nn.Parameter(torch.ones(2, 2, dtype=dtype))
    w.grad, odd.grad = (
        torch.ones_like(w),
        torch.ones_like(odd).to_sparse() if kind == "sparse" else torch.ones_like(odd),
    )
    optimizer = TaylorExtrapolation(SGD([w, odd], lr=LR), DT)
    with pytest.raises(ValueError, match=f"gradients must be dense and real, got .*{kind}"):
        optimizer.step()
    assert torch.equal(w, vector()) and optimizer.steps == 0 and not optimizer.state


@pytest.mark.parametrize("change, said", [
    ({"order": 7}, "order must be"), ({"dt": 0.0}, "dt must be"), ({"steps": -1}, "steps -1"),
    ({"eta": []}, "0 first rates for 1 groups"), ({"order": 2}, "'ring' of shape"),
    ({"variant": "text"}, "unknown variant"), ({"step": 1}, "must be a TaylorExtrapolation's"),
])  # fmt: skip
def test_a_spoilt_state_is_refused_before_anything_moves(change, said):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR, momentum=0.9), DT)
    walk(optimizer, w, 5)
    state = copy.deepcopy(optimizer.state_dict())
    state["extrapolation"].update(change)
    walk(optimizer, w, 1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=said) as error:
        optimizer.load_state_dict(state)
    assert "\n" not in str(error.value) and str(before) == str(optimizer.state_dict())


@pytest.mark.parametrize("change", [{"rates": [0.1]}, {"taken": -1}, {"taken": "all"}])
def test_a_spoilt_history_is_refused(change):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    walk(optimizer, w, 5)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0].update(change)
    with pytest.raises(ValueError, match="steps taken for a history of order 3"):
        optimizer.load_state_dict(state)
