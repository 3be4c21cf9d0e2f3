"""What every optimizer around an optimizer keeps to, so that all else takes it for one of torch's:
a row for each.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import LBFGS, SGD, Adam, Lookahead, OuterNesterov, TaylorExtrapolation

CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
WRAPPERS = {
    "lookahead": lambda inner: Lookahead(inner, 3, 0.5, "interpolate"),
    "outer nesterov": lambda inner: OuterNesterov(inner, 3, 0.7, 0.6),
    "taylor": lambda inner: TaylorExtrapolation(inner, 0.02),
    "taylor, every fourth": lambda inner: TaylorExtrapolation(
        inner, 0.02, order=2, derivative="backward", every=4
    ),
    "taylor, published": lambda inner: TaylorExtrapolation(inner, 0.02, variant="published"),
}
OTHERS = {  # the same method with other settings, to load into
    "lookahead": lambda inner: Lookahead(inner, 9, 0.9),
    "outer nesterov": lambda inner: OuterNesterov(inner, 9, 0.9, 0.1),
    "taylor": lambda inner: TaylorExtrapolation(inner, 0.5, h=0.3, order=6),
    "taylor, every fourth": lambda inner: TaylorExtrapolation(inner, 0.5, every=None),
    "taylor, published": lambda inner: TaylorExtrapolation(inner, 0.5, order=5),
}
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)


def heavy(parameters, lr=0.1):
    return SGD(parameters, lr=lr, momentum=0.5)


def vector(start=(1.0, -2.0, 3.0, 0.5)) -> nn.Parameter:
    return nn.Parameter(torch.tensor(start, dtype=torch.float64))


def made(name, inner=heavy):
    w = vector()
    return WRAPPERS[name](inner([w])), w


def walk(optimizer, w, steps: int) -> np.ndarray:
    """The path on 1/2 sum a w^2, without its start."""
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.from_numpy(CURVATURE) * w**2).sum().mul(0.5).backward()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path).reshape(steps, 4)


# State.


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 9])
@every_wrapper
def test_a_run_resumed_anywhere_ends_at_the_same_bits(tmp_path, name, cut):
    whole = walk(*made(name), 16)
    optimizer, w = made(name)
    walk(optimizer, w, cut)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    second = vector(w.tolist())
    resumed = OTHERS[name](heavy([second], lr=0.7))
    resumed.load_state_dict(torch.load(tmp_path / "state"))
    np.testing.assert_array_equal(walk(resumed, second, 16 - cut), whole[cut:])


@every_wrapper
def test_a_state_that_was_loaded_belongs_to_one_optimizer_only(name):
    """The inner one has none here: torch's own share theirs with the state_dict they were given."""
    (optimizer, w), (other, other_w) = (
        made(name, lambda p: SGD(p, lr=0.1)),
        made(name, lambda p: SGD(p, lr=0.1)),
    )
    walk(optimizer, w, 4)
    other.load_state_dict(optimizer.state_dict())
    state = copy.deepcopy(optimizer.state_dict()["state"])
    walk(other, other_w, 3)
    assert str(optimizer.state_dict()["state"]) == str(state)


@every_wrapper
def test_another_optimizers_state_is_refused_and_nothing_changes(name):
    optimizer, w = made(name)
    walk(optimizer, w, 5)
    before = copy.deepcopy(optimizer.state_dict())
    foreign = optimizer.inner.state_dict()
    for state in (
        foreign,
        WRAPPERS["taylor" if name == "lookahead" else "lookahead"](heavy([vector()])).state_dict(),
    ):
        with pytest.raises(ValueError, match=f"state_dict must be a {type(optimizer).__name__}'s"):
            optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == str(before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@every_wrapper
def test_a_copy_goes_on_by_itself(name, copied):
    optimizer, w = made(name)
    walk(optimizer, w, 5)
    other_w, other = copied((w, optimizer))
    assert (
        other.param_groups is other.inner.param_groups
        and other.param_groups is not optimizer.param_groups
    )
    before = w.detach().clone()
    there = walk(other, other_w, 6)
    assert torch.equal(w, before)
    np.testing.assert_array_equal(there, walk(optimizer, w, 6))


# What else takes it for an optimizer.


@every_wrapper
def test_a_scheduler_drives_the_inner_one_after_loading_too(name):
    optimizer, w = made(name, lambda p: heavy(p, lr=1.0))
    for _ in range(2):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        walk(optimizer, w, 1)
        before = optimizer.inner.param_groups[0]["lr"]
        scheduler.step()
        assert optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.5 * before)
        optimizer.load_state_dict(optimizer.state_dict())


@every_wrapper
def test_a_group_that_is_added_later_moves_as_alone(name):
    optimizer, w = made(name, lambda p: SGD(p, lr=0.1))
    late, alone = vector(), vector()
    for _ in range(12):
        walk(optimizer, w, 1)
    optimizer.add_param_group({"params": [late], "lr": 0.2})
    assert (
        optimizer.param_groups[1] is optimizer.inner.param_groups[1]
        and len(optimizer.param_groups) == 2
    )
    other = WRAPPERS[name](SGD([alone], lr=0.2))
    for step in range(12):
        for parameter, g in ((late, step), (alone, step), (w, 0)):
            parameter.grad = torch.full_like(parameter, float(np.cos(g)))
        optimizer.step(), other.step()
    if (
        name == "taylor, published"
    ):  # the source's counter is the optimizer's, which is past its start
        assert not torch.equal(late, alone)
    else:
        assert torch.equal(late, alone)


@pytest.mark.parametrize("set_to_none", [True, False])
@every_wrapper
def test_gradients_are_cleared_as_asked(name, set_to_none):
    optimizer, w = made(name)
    w.grad = torch.ones_like(w)
    optimizer.zero_grad(set_to_none=set_to_none)
    assert w.grad is None if set_to_none else torch.equal(w.grad, torch.zeros_like(w))


@every_wrapper
def test_a_step_that_the_scaler_leaves_out_does_not_count(name):
    optimizer, w = made(name)
    alone, other = vector(), None
    other = WRAPPERS[name](heavy([alone]))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (1.0, float("inf"), 2.0, float("nan"), 3.0, 4.0, 5.0):
        optimizer.zero_grad()
        scaler.scale((factor * w).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if np.isfinite(factor):
            alone.grad = torch.full_like(alone, factor)
            other.step()
    torch.testing.assert_close(w, alone, rtol=1e-14, atol=0)


@pytest.mark.parametrize("inner", [heavy, lambda p: Adam(p, lr=0.1)])
@every_wrapper
def test_a_closure_gives_its_loss_and_the_same_path(name, inner):
    (one, a), (other, b) = made(name, inner), made(name, inner)

    def closure():
        one.zero_grad()
        loss = (torch.from_numpy(CURVATURE) * a**2).sum() / 2
        loss.backward()
        return loss

    losses = [float(one.step(closure).detach()) for _ in range(9)]
    path = walk(other, b, 9)
    assert torch.equal(a, b)
    np.testing.assert_allclose(losses[1:], (CURVATURE * path[:-1] ** 2).sum(1) / 2, rtol=1e-14)


@every_wrapper
def test_an_inner_optimizer_that_asks_for_many_closures_has_them(name):
    optimizer, w = made(name, lambda p: LBFGS(p, lr=0.5))

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(3)]
    assert losses[0] == pytest.approx(14.25) and losses[2] < 1e-3 * losses[0]


# Any parameters.


def stepped(name, parameters) -> None:
    """Ten steps under gradients that depend on the place in a tensor alone, not on where it lies in
    memory.
    """
    rng, optimizer = np.random.default_rng(5), WRAPPERS[name](heavy(parameters))
    for _ in range(10):
        g = torch.from_numpy(rng.standard_normal(sum(p.numel() for p in parameters)))
        for p, part in zip(parameters, g.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.reshape(p.shape).clone()
        optimizer.step()


@every_wrapper
def test_one_flat_tensor_walks_as_a_list_with_an_empty_one(name):
    flat, pieces = vector(), vector().detach().split([2, 0, 1, 1])
    parts = [
        nn.Parameter(t.reshape(shape).clone())
        for t, shape in zip(pieces, [(2,), (0, 3), (1,), (1, 1)], strict=True)
    ]
    stepped(name, [flat])
    stepped(name, parts)
    torch.testing.assert_close(
        torch.cat([p.reshape(-1) for p in parts]), flat.detach(), rtol=1e-14, atol=0
    )


LAYOUTS = {
    "channels last": lambda w: w.to(memory_format=torch.channels_last),
    "every second column": lambda w: torch.stack([w, w], dim=-1)[..., 0],
    "transposed": lambda w: w.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_wrapper
def test_the_layout_of_a_parameter_in_memory_is_no_matter(name, layout):
    w = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 2, 5)))
    one, other = nn.Parameter(w.clone()), nn.Parameter(LAYOUTS[layout](w))
    assert not other.is_contiguous()
    stepped(name, [one])
    stepped(name, [other])
    torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-14)


@every_wrapper
def test_a_state_goes_on_in_another_layout(name):
    w, rng = (
        torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 2, 2))),
        np.random.default_rng(1),
    )
    places = [nn.Parameter(w.clone()), nn.Parameter(w.to(memory_format=torch.channels_last))]
    one, other = (WRAPPERS[name](heavy([p])) for p in places)
    for step in range(8):
        if step == 4:
            other.load_state_dict(copy.deepcopy(one.state_dict()))
        places[0].grad = torch.from_numpy(rng.standard_normal(w.shape))
        places[1].grad = places[0].grad.clone()
        one.step(), other.step()
    torch.testing.assert_close(places[0], places[1], rtol=1e-12, atol=1e-14)
