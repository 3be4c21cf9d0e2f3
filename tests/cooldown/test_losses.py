"""BatchNorm is re-estimated for every weight vector, and dropout is the same in the same step."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate import compare
from replicate.averaging import kernel_weights, swa
from replicate.cooldown.draws import Draws
from replicate.cooldown.losses import Losses
from replicate.streams import rng

RATE = 0.2
EVERY = ("raw", "average", "cool_down", "constant", "other_cool_down")


def draw(stream, step):
    x = torch.from_numpy(rng(1, "noise", step, stream).standard_normal((16, 4))).double()
    return x, (x[:, 0] * x[:, 1] > 0).long()


def make_net(dropout=0.0):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2)
    )
    return net.double()


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


HELD_OUT = [draw(9, step) for step in range(2)]


def ask(net, **changes):
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.5)
    given = {
        "window": 6,
        "steps": 10,
        "branches": 1,
        "runs": 1,
        "held_out": HELD_OUT,
        "norm_batches": 3,
    }
    return compare(net, loss, draw, optimizer, **given | changes)


def train(net, steps, stream, fall=()):
    """Plain training; the parameters after each step, each as a list of tensors."""
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.5)
    path = []
    for step in range(steps):
        later = step - (steps - len(fall))
        optimizer.param_groups[0]["lr"] = RATE * (fall[later] if later >= 0 else 1.0)
        optimizer.zero_grad()
        loss(net, draw(stream(step), step)).backward()
        optimizer.step()
        path.append([each.detach().clone() for each in net.parameters()])
    return path


def judge(net, parameters, norm=True):
    """The loss with statistics that are computed by hand from the linear layer's outputs."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for each, value in zip(net.parameters(), parameters, strict=True):
            each.copy_(value)
        outputs = [net[0](draw(1, step)[0]) for step in range(3)]
        if norm:
            net[1].running_mean.copy_(torch.stack([each.mean(0) for each in outputs]).mean(0))
            net[1].running_var.copy_(torch.stack([each.var(0) for each in outputs]).mean(0))
        net.eval()
        return float(np.mean([float(loss(net, batch)) for batch in HELD_OUT]))


def ends():
    """The network after its run, and the parameters of each end, by plain loops."""
    fall, main, other = kernel_weights(swa(6)), lambda step: 4, lambda step: 5 if step >= 4 else 4
    net = make_net()
    path = train(net, 10, main)
    mean = [torch.stack(each).mean(0) for each in zip(*path[4:], strict=True)]
    trips = {
        "cool_down": train(make_net(), 10, main, fall)[-1],
        "constant": train(make_net(), 10, other)[-1],
        "other_cool_down": train(make_net(), 10, other, fall)[-1],
    }
    return net, {"raw": path[-1], "average": mean, **trips}


def test_every_weight_vector_has_batch_norm_of_its_own():
    (row,) = ask(make_net()).table.to_dict("records")
    net, parameters = ends()
    for name in EVERY:
        assert row[name] == pytest.approx(judge(net, parameters[name]), rel=1e-9), name
        stale = judge(net, parameters[name], norm=False)
        assert abs(row[name] - stale) > 1e-3, f"{name}: the statistics make no difference here"


def test_statistics_are_of_the_batches_of_their_stream_and_modes_come_back():
    net = make_net()
    losses = Losses(net, loss, Draws(draw, 0, torch.device("cpu")), HELD_OUT, 3)
    flat = torch.cat([each.detach().reshape(-1) for each in net.parameters()])
    value = losses.at(flat)
    assert value == pytest.approx(judge(net, [each.detach() for each in net.parameters()]))
    assert net.training and all(layer.training for layer in net)


def test_dropout_of_a_replay_is_that_of_the_cool_down():
    table = ask(make_net(dropout=0.5), branches=1).table
    assert (table.replayed_apart == 0).all() and (table.apart > 0.01).all()
    without = ask(make_net(dropout=0.0)).table
    assert (table.cool_down - without.cool_down).abs().min() > 1e-3


def test_a_frozen_layer_of_batch_norm_stays_as_it_is():
    net = make_net()
    net[1].eval()
    seen = []
    net[1].register_forward_hook(lambda layer, *_: seen.append(layer.running_mean.clone()))
    ask(net)
    assert len(seen) > 10 and all(torch.equal(each, torch.zeros(8).double()) for each in seen)
