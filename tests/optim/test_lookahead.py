"""Lookahead is Algorithm 1, in every place where public versions have been known to differ from it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam, AdamW, Lookahead

STATES = ("maintain", "reset", "interpolate")
CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])


def algorithm_1(start, steps, lr, beta, k, alpha, inner_state) -> np.ndarray:
    """The path of the fast weights on 1/2 sum a theta^2, written out from the page with heavy ball
    inside.
    """
    phi = theta = np.array(start)
    v, v_slow, path = np.zeros_like(theta), np.zeros_like(theta), [theta]
    for t in range(1, steps + 1):
        v = beta * v + CURVATURE * theta
        theta = theta - lr * v
        if t % k == 0:
            phi = phi + alpha * (theta - phi)
            theta = phi
            if inner_state == "reset":
                v = np.zeros_like(v)
            if inner_state == "interpolate":
                v = v_slow = v_slow + alpha * (v - v_slow)
        path.append(theta)
    return np.array(path)


def quadratic(start=(1.0, -2.0, 3.0, 0.5)) -> nn.Parameter:
    return nn.Parameter(torch.tensor(start, dtype=torch.float64))


def walk(optimizer, parameter, steps: int) -> np.ndarray:
    path = [parameter.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.from_numpy(CURVATURE) * parameter**2).sum().mul(0.5).backward()
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def made(k=5, alpha=0.5, inner_state="maintain", lr=0.1, beta=0.9, fused=False):
    theta = quadratic()
    inner = SGD([theta], lr=lr, momentum=beta, fused=fused)
    return Lookahead(inner, k, alpha, inner_state, extrapolate=alpha > 1), theta


@pytest.mark.parametrize("inner_state", STATES)
@pytest.mark.parametrize("k, alpha", [(5, 0.5), (1, 0.8), (7, 0.2), (3, 1.3)])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_equals_algorithm_1_in_float64(k, alpha, inner_state, beta):
    optimizer, theta = made(k, alpha, inner_state, beta=beta)
    found = walk(optimizer, theta, 43)
    np.testing.assert_allclose(
        found, algorithm_1(found[0], 43, 0.1, beta, k, alpha, inner_state), rtol=1e-12, atol=1e-14
    )


def test_the_three_inner_states_part_after_the_first_cycle():
    paths = [walk(*made(inner_state=state), 12) for state in STATES]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.array_equal(paths[a][:6], paths[b][:6]) and not np.allclose(
            paths[a][6:], paths[b][6:]
        )


def test_a_cycle_is_k_steps_and_pulls_back_to_the_start():
    """Public versions with a period of k + 1, or slow weights that start at the first pull, fail
    here.
    """
    optimizer, theta = made(k=4, alpha=0.25, beta=0.0)
    plain = quadratic()
    alone = walk(SGD([plain], lr=0.1), plain, 4)
    found = walk(optimizer, theta, 4)
    np.testing.assert_array_equal(found[:4], alone[:4])
    np.testing.assert_allclose(found[4], alone[0] + 0.25 * (alone[4] - alone[0]), rtol=1e-15)


@pytest.mark.parametrize(
    "inner", [lambda p: SGD(p, lr=0.1, momentum=0.9), lambda p: Adam(p, lr=0.1)]
)
def test_alpha_of_one_is_the_inner_optimizer_bit_by_bit(inner):
    a, b = quadratic(), quadratic()
    np.testing.assert_array_equal(
        walk(Lookahead(inner([a]), 3, 1.0), a, 20), walk(inner([b]), b, 20)
    )


def test_k_of_one_is_a_smaller_rate_for_plain_sgd():
    optimizer, theta = made(k=1, alpha=0.3, beta=0.0)
    plain = quadratic()
    np.testing.assert_allclose(
        walk(optimizer, theta, 20), walk(SGD([plain], lr=0.03), plain, 20), rtol=1e-13
    )


def test_interpolated_momentum_is_no_alias_of_the_live_buffer():
    optimizer, theta = made(k=2, inner_state="interpolate")
    walk(optimizer, theta, 2)
    live, slow = (
        optimizer.inner.state[theta]["momentum_buffer"],
        optimizer.state[theta]["slow momentum_buffer"],
    )
    assert torch.equal(live, slow) and live.data_ptr() != slow.data_ptr()
    walk(optimizer, theta, 1)
    assert not torch.equal(live, slow)


def test_slow_weights_are_no_alias_of_the_parameters():
    optimizer, theta = made()
    start = theta.detach().clone()
    walk(optimizer, theta, 3)
    assert torch.equal(optimizer.state[theta]["slow"], start) and not torch.equal(theta, start)


# State.

INNER = {
    "sgd": lambda p: SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: AdamW(p, lr=0.05),
    "fused": lambda p: SGD(p, lr=0.05, momentum=0.9, fused=True),
}


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 7, 13])
@pytest.mark.parametrize("inner_state", STATES)
@pytest.mark.parametrize("inner", INNER)
def test_a_run_resumed_in_mid_cycle_ends_at_the_same_bits(tmp_path, inner, inner_state, cut):
    theta = quadratic()
    whole = walk(Lookahead(INNER[inner]([theta]), 5, 0.5, inner_state), theta, 20)
    first = quadratic()
    optimizer = Lookahead(INNER[inner]([first]), 5, 0.5, inner_state)
    walk(optimizer, first, cut)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    second = quadratic(first.tolist())
    resumed = Lookahead(INNER[inner]([second]), 9, 0.9)
    resumed.load_state_dict(torch.load(tmp_path / "state"))
    np.testing.assert_array_equal(walk(resumed, second, 20 - cut), whole[cut:])


@pytest.mark.parametrize("lost", ["slow", "counter", "inner"])
def test_a_state_without_one_of_its_parts_ends_elsewhere(lost):
    optimizer, theta = made()
    walk(optimizer, theta, 7)
    state = copy.deepcopy(optimizer.state_dict())
    if lost == "slow":
        state["state"][0]["slow"] = theta.detach().clone()
    elif lost == "counter":
        state["lookahead"]["counter"] = 0
    else:
        state["inner"]["state"] = {}
    other = quadratic(theta.tolist())
    resumed = Lookahead(SGD([other], lr=0.1, momentum=0.9))
    resumed.load_state_dict(state)
    assert not np.array_equal(walk(resumed, other, 8), walk(optimizer, theta, 8))


def test_another_optimizers_state_is_refused_and_nothing_changes():
    optimizer, theta = made()
    walk(optimizer, theta, 3)
    with pytest.raises(ValueError, match="must be a Lookahead's"):
        optimizer.load_state_dict(optimizer.inner.state_dict())
    assert optimizer.counter == 3


def test_a_deep_copy_goes_on_by_itself():
    optimizer, theta = made()
    walk(optimizer, theta, 7)
    copied_theta, copied = copy.deepcopy((theta, optimizer))
    assert (
        copied.param_groups is copied.inner.param_groups
        and copied.param_groups is not optimizer.param_groups
    )
    before = theta.detach().clone()
    there = walk(copied, copied_theta, 6)
    assert torch.equal(theta, before)
    np.testing.assert_array_equal(there, walk(optimizer, theta, 6))


# What else takes it for an optimizer.


def test_a_scheduler_drives_the_inner_one_after_loading_too():
    optimizer, theta = made(lr=1.0)
    for _ in range(2):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        walk(optimizer, theta, 1)
        before = optimizer.inner.param_groups[0]["lr"]
        scheduler.step()
        assert optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.5 * before)
        optimizer.load_state_dict(optimizer.state_dict())


def test_a_group_added_in_mid_cycle_starts_where_it_is():
    optimizer, theta = made(k=4, alpha=0.25, beta=0.0)
    walk(optimizer, theta, 3)
    late = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    assert (
        optimizer.param_groups[1] is optimizer.inner.param_groups[1]
        and len(optimizer.param_groups) == 2
    )
    theta.grad, late.grad = torch.zeros_like(theta), torch.ones_like(late)
    optimizer.step()
    np.testing.assert_allclose(late.detach(), 1 - 0.25 * 0.5)


def test_a_parameter_without_gradient_stays_where_it_is():
    frozen, theta = nn.Parameter(torch.ones(2)), quadratic()
    walk(
        Lookahead(SGD([theta, frozen], lr=0.1, momentum=0.9), 2, inner_state="interpolate"),
        theta,
        6,
    )
    assert torch.equal(frozen, torch.ones(2))


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_cleared_as_asked(set_to_none):
    optimizer, theta = made()
    theta.grad = torch.ones_like(theta)
    optimizer.zero_grad(set_to_none=set_to_none)
    assert theta.grad is None if set_to_none else torch.equal(theta.grad, torch.zeros_like(theta))


def test_a_step_that_the_scaler_leaves_out_does_not_count():
    theta = nn.Parameter(torch.ones(3))
    optimizer = Lookahead(SGD([theta], lr=0.1), k=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step, factor in enumerate((1.0, float("inf"), 1.0)):
        optimizer.zero_grad()
        scaler.scale((factor * theta).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert optimizer.counter == (1, 1, 0)[step]
    torch.testing.assert_close(theta.detach(), torch.full((3,), 1 - 0.5 * 0.2))


def test_a_closure_gives_its_loss():
    theta = quadratic()
    optimizer = Lookahead(torch.optim.LBFGS([theta], lr=0.5), k=2)

    def closure():
        optimizer.zero_grad()
        loss = (theta**2).sum()
        loss.backward()
        return loss.detach()

    first = float(optimizer.step(closure))
    assert first == pytest.approx(14.25) and float(optimizer.step(closure)) < first


def test_one_flat_tensor_walks_as_a_list_of_tensors():
    flat, parts = quadratic(), [nn.Parameter(t.clone()) for t in quadratic().detach().split(2)]
    one, many = (Lookahead(SGD(p, lr=0.1, momentum=0.9), 3) for p in ([flat], parts))
    for _ in range(10):
        for optimizer in (one, many):
            optimizer.zero_grad()
        flat.grad = torch.from_numpy(CURVATURE) * flat.detach()
        for part, a in zip(parts, torch.from_numpy(CURVATURE).split(2), strict=True):
            part.grad = a * part.detach()
        one.step(), many.step()
    assert torch.equal(flat, torch.cat(parts))


@pytest.mark.parametrize("inner_state", STATES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pull_in_pieces_is_the_pull_in_one(monkeypatch, inner_state, layout):
    def ends(piece):
        monkeypatch.setattr("replicate.optim.lookahead.PIECE", piece)
        weights = (
            torch.arange(2.0 * 3 * 5 * 5).view(2, 3, 5, 5).sin().contiguous(memory_format=layout)
        )
        parameter = nn.Parameter(weights)
        optimizer = Lookahead(SGD([parameter], lr=0.1, momentum=0.9), 3, 0.7, inner_state)
        for _ in range(8):
            parameter.grad = parameter.detach().cos()
            optimizer.step()
        return parameter.detach()

    assert torch.equal(ends(7), ends(10**9))


def test_slow_weights_are_lent_and_the_fast_ones_come_back():
    optimizer, theta = made()
    walk(optimizer, theta, 3)
    fast, slow = theta.detach().clone(), optimizer.state[theta]["slow"].clone()
    with pytest.raises(KeyError), optimizer.slow_weights():
        assert torch.equal(theta, slow)
        with optimizer.slow_weights():
            assert torch.equal(theta, slow)
        raise KeyError
    assert torch.equal(theta, fast) and not torch.equal(fast, slow)


@pytest.mark.parametrize("change", [{"k": 0}, {"k": 2.5}, {"k": True}, {"alpha": 0.0}, {"alpha": -1.0},
                                    {"alpha": float("nan")}, {"inner_state": "restart"}])  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=name) as error:
        Lookahead(SGD([quadratic()], lr=0.1), **change)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match="inner must be a torch optimizer, got list"):
        Lookahead([quadratic()])
    assert issubclass(BadParameter, ValueError)
