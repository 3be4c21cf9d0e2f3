"""A forward check sees the loss and leaves no trace: buffers, random state, gradients, counts."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import BadParameter
from replicate.optim import KeepStepping, KeepVaulting

METHODS = {
    "stepping": KeepStepping,
    "stepping, published": lambda p, lr: KeepStepping(p, lr, variant="published"),
    "vaulting": KeepVaulting,
    "vaulting, published": lambda p, lr: KeepVaulting(p, lr, variant="published"),
}
every_method = pytest.mark.parametrize("name", METHODS)


class Net(nn.Module):
    """With all that a forward pass may change: statistics, their count, masks, spectral vectors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8))
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


def batch():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((20, 3))).float()
    return x, x.sum(1, keepdim=True)


def buffers(net) -> dict:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


@every_method
@pytest.mark.parametrize("known", [True, False])
def test_checks_leave_buffers_and_random_state_as_they_were(name, known):
    net = Net()
    x, y = batch()
    optimizer = METHODS[name](net.parameters(), lr=0.05)
    passes = 0
    for _ in range(4):
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        before = buffers(net)
        random = torch.get_rng_state()
        optimizer.step(lambda: ((net(x) - y) ** 2).mean(), loss.detach() if known else None)
        passes += optimizer.forwards
        assert all(torch.equal(before[one], value) for one, value in buffers(net).items())
        assert torch.equal(random, torch.get_rng_state())
    assert passes > 4 and net.norm.num_batches_tracked == 4


@every_method
def test_all_checks_of_a_step_see_the_same_masks(name):
    net = Net()
    x, y = batch()
    masks = []
    net.drop.register_forward_hook(lambda _, given, out: masks.append(out == 0))
    optimizer = METHODS[name](net.parameters(), lr=0.01)
    ((net(x) - y) ** 2).mean().backward()
    masks.clear()
    optimizer.step(lambda: ((net(x) - y) ** 2).mean())
    assert len(masks) == optimizer.forwards > 1
    assert all(torch.equal(masks[0], mask) for mask in masks)


def test_the_loop_draws_what_it_drew_without_checks():
    """A walk of one mini-step is SGD, so a loop with dropout ends at SGD's weights, bit by bit."""
    ends = []
    for walks in (False, True):
        net = Net()
        x, y = batch()
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        if walks:
            optimizer = KeepStepping(net.parameters(), lr=0.05, max_steps=1)
        for _ in range(6):
            optimizer.zero_grad()
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            if walks:
                optimizer.step(lambda net=net, x=x, y=y: ((net(x) - y) ** 2).mean(), loss.detach())
            else:
                optimizer.step()
        ends.append(torch.cat([p.detach().reshape(-1) for p in net.parameters()]))
    assert torch.equal(*ends)


@every_method
def test_every_module_of_the_closure_is_put_back(name):
    body = nn.BatchNorm1d(3)
    head = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1))
    x, y = batch()
    optimizer = METHODS[name]([*body.parameters(), *head.parameters()], lr=0.05)
    ((head(body(x)) - y) ** 2).mean().backward()
    optimizer.step(lambda: ((head(body(x)) - y) ** 2).mean())
    assert body.num_batches_tracked == head[1].num_batches_tracked == 1


CLOSURES = {
    "zero_grad and backward": lambda o, loss: (o.zero_grad(), loss().backward(), loss())[-1],
    "backward alone": lambda o, loss: (loss().backward(), loss())[-1],
    "zeros": lambda o, loss: (o.zero_grad(set_to_none=False), loss())[-1],
    "zero_grad alone": lambda o, loss: (o.zero_grad(), loss())[-1],
}


def with_graph(closure):
    def wrapped():
        with torch.enable_grad():
            return closure()

    return wrapped


@every_method
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("kind", CLOSURES)
def test_a_closure_that_touches_gradients_is_refused_in_one_line(name, known, graph, kind):
    theta = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = METHODS[name]([theta], lr=0.1)

    def loss():
        return (theta**2).sum()

    def closure():
        return CLOSURES[kind](optimizer, loss)

    for _ in range(2):  # of a first step and a later one
        optimizer.zero_grad()
        first = loss()
        first.backward()
        gradient = theta.grad
        before = copy.deepcopy((optimizer.state_dict(), theta.detach()))
        given = first.detach() if known else None
        with pytest.raises(BadParameter, match="zero_grad or backward; call both before") as error:
            optimizer.step(with_graph(closure) if graph else closure, given)
        assert "\n" not in str(error.value)
        assert str(before) == str((optimizer.state_dict(), theta.detach()))
        assert theta.grad is gradient
        if kind != "zeros":
            assert torch.equal(gradient, 2 * theta)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step(loss)


def unlucky():
    raise RuntimeError("out of luck")


def test_an_error_of_the_closures_own_stays_what_it_is():
    theta = nn.Parameter(torch.ones(2))
    theta.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="out of luck"):
        KeepStepping([theta], lr=0.1).step(unlucky)


def test_a_copy_takes_its_own_model_under_watch():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    x, y = batch()
    both = net, KeepStepping(net.parameters(), lr=0.05)
    for model, optimizer in (both, copy.deepcopy(both)):
        for _ in range(2):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step(lambda model=model: ((model(x) - y) ** 2).mean(), loss.detach())
        assert model[1].num_batches_tracked == 2


@pytest.mark.parametrize("made", [KeepStepping, KeepVaulting])
@pytest.mark.parametrize("change", [{"max_steps": 0}, {"variant": "text"}, {"steps": -1}])
def test_settings_that_could_not_be_made_cannot_be_loaded(made, change):
    optimizer = made([nn.Parameter(torch.ones(2))], lr=0.1)
    state = copy.deepcopy(optimizer.state_dict())
    state["walk"].update(change)
    before = str(optimizer.state_dict())
    with pytest.raises(BadParameter, match=next(iter(change))):
        optimizer.load_state_dict(state)
    assert str(optimizer.state_dict()) == before
