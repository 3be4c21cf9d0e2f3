"""The printed loop against one written out; what its clock, its mini-batches and its cosines say."""

import weakref

import numpy as np
import pytest
import torch

from replicate import numerics
from replicate.models.chain import chain
from replicate.optim import SGD, KeepStepping
from replicate.training import full_batch

DIMS = (4, 3, 1)


def task(rows: int = 50) -> tuple:
    noise = np.random.Generator(np.random.Philox(1))
    x = noise.standard_normal((rows, 4))
    return x, x.sum(1, keepdims=True)


def test_the_chain_is_the_net_as_printed():
    net = chain((4, 3, 3, 1), 0)
    assert [type(layer).__name__ for layer in net] == ["Linear"] * 3
    assert [type(layer).__name__ for layer in chain((4, 3, 3, 1), 0, "relu")] == [
        "Linear",
        "ReLU",
    ] * 2 + ["Linear"]
    assert torch.equal(net[0].weight, chain((4, 3, 3, 1), 0)[0].weight)
    assert not torch.equal(net[0].weight, chain((4, 3, 3, 1), 1)[0].weight)


@pytest.mark.parametrize(
    "dims, activation",
    [((4,), "linear"), ((4, 0, 1), "linear"), ((4, 1), "tanh")],
    ids=["one", "zero", "tanh"],
)
def test_the_chain_refuses_what_is_no_net(dims, activation):
    with pytest.raises(ValueError, match="must"):
        chain(dims, 0, activation)


@pytest.mark.parametrize("zero", [True, False])
def test_the_loop_is_gradient_descent_with_or_without_zeroed_gradients(zero):
    """One linear map, by hand: gradients that are not zeroed add up."""
    x, y = task()
    model = chain((4, 1), 0)
    w, b = model[0].weight.detach().double().numpy().copy().ravel(), float(model[0].bias.detach())
    losses, _ = full_batch.train(
        model, *full_batch.tensors(x, y), SGD(model.parameters(), lr=0.05), 6, zero=zero
    )
    gw, gb = 0 * w, 0.0
    for loss in losses:
        off = x @ w + b - y[:, 0]
        assert loss == pytest.approx(np.mean(off**2), rel=1e-5)
        gw, gb = (
            (gw if not zero else 0) + 2 * x.T @ off / len(x),
            (gb if not zero else 0) + 2 * off.mean(),
        )
        w, b = w - 0.05 * gw, b - 0.05 * gb


def test_a_walk_gets_the_loops_loss_and_walks():
    x, y = full_batch.tensors(*task())
    model = chain(DIMS, 0)
    walk = KeepStepping(model.parameters(), lr=1e-3, max_steps=5)
    losses, seconds = full_batch.train(model, x, y, walk, 3, walks=True)
    assert (np.diff(losses) < 0).all() and walk.total_mini_steps == walk.total_forwards == 15
    assert (np.diff(seconds) >= 0).all()


def test_labels_are_classified_and_numbers_fitted():
    x, labels = np.eye(3), np.array([0, 1, 2])
    model = chain((3, 3), 0)
    logits = torch.from_numpy(full_batch.outputs(model, x)).double()
    a, b = full_batch.tensors(x, labels)
    dull = -torch.log_softmax(logits, 1).diagonal().mean()
    assert full_batch.loss_of(model, a, b)().item() == pytest.approx(float(dull), rel=1e-6)
    a, b = full_batch.tensors(x, x)
    assert full_batch.loss_of(model, a, b)().item() == pytest.approx(
        float(((logits.numpy() - x) ** 2).mean()), rel=1e-6
    )


class Cost:
    """A clock that only the operations of torch move on, each by its own number of seconds."""

    def __init__(self, monkeypatch, model):
        self.now = 0.0
        self.saved = (
            weakref.WeakSet()
        )  # what the graphs that are alive keep for their backward pass
        monkeypatch.setattr(numerics.time, "process_time", lambda: self.now)
        self.charge(monkeypatch, torch.Tensor, "backward", 20.0)
        self.charge(monkeypatch, torch.optim.SGD, "step", 3.0)
        self.charge(monkeypatch, torch.optim.Adam, "step", 5.0)
        model.register_forward_pre_hook(self.forward)

    def charge(self, monkeypatch, owner, name, seconds):
        inner = getattr(owner, name)

        def charged(*args, **kwargs):
            self.now += seconds
            return inner(*args, **kwargs)

        monkeypatch.setattr(owner, name, charged)

    def forward(self, model, inputs):
        """10 s, 7 without a graph, and 1000 more while the graph of a pass before keeps its memory."""
        self.now += (10.0 if torch.is_grad_enabled() else 7.0) + 1000.0 * (len(self.saved) > 0)

    def pack(self, tensor):
        kept = Kept(tensor)
        self.saved.add(kept)
        return kept


class Kept:
    """A tensor that a graph keeps."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_every_part_is_timed_alone_and_no_graph_is_alive_when_the_check_runs(monkeypatch):
    x, y = full_batch.tensors(*task())
    model = chain(DIMS, 0)
    cost = Cost(monkeypatch, model)
    with torch.autograd.graph.saved_tensors_hooks(cost.pack, lambda kept: kept.tensor):
        found = full_batch.clock(model, x, y, 3)
    costs = {"forward": 10.0, "check": 7.0, "backward": 20.0, "step": 3.0, "adam": 5.0}
    costs["printed check"] = (
        1010.0  # the graph of the check before is alive, as in the printed walk
    )
    for turn in ("", " again"):
        assert {part: found[part + turn].tolist() for part in costs} == {
            part: [cost] * 3 for part, cost in costs.items()
        }
    assert len(found) == 2 * len(costs) and set(costs) == set(full_batch.PARTS)


def test_both_price_lists_are_made_in_every_round(monkeypatch):
    """A machine that gets slower from round to round slows both alike."""
    asked = {}

    def take(jobs, rounds, device):
        asked.update(jobs=list(jobs), rounds=rounds)
        return {name: np.full(rounds, float(place)) for place, name in enumerate(jobs)}

    monkeypatch.setattr(numerics, "clock", take)
    found = full_batch.clock(chain(DIMS, 0), *full_batch.tensors(*task()), 4)
    loop = "forward backward check adam step".split()
    loop += ["old loss", "printed check", "end of the walk"]
    jobs = loop + [f"{part} again" for part in loop]
    assert asked == {"jobs": jobs, "rounds": 4}
    assert all(seconds.tolist() == [jobs.index(part)] * 4 for part, seconds in found.items())


def test_the_clock_times_every_part_and_leaves_the_weights():
    x, y = full_batch.tensors(*task())
    model = chain(DIMS, 0)
    before = [p.detach().clone() for p in model.parameters()]
    found = full_batch.clock(model, x, y, 3)
    assert all(len(s) == 3 and (s > 0).all() for s in found.values())
    for p, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p, old, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        full_batch.clock(model, x, y, 0)


def test_on_the_whole_set_as_batch_both_drops_are_one_and_the_budget_ends_the_run():
    x, y = task()
    model, every = chain(DIMS, 0), np.arange(len(x))
    walk = KeepStepping(model.parameters(), lr=1e-3, max_steps=7)
    found = full_batch.train_on_batches(
        model, *full_batch.tensors(x, y), walk, ((every, None) for _ in range(99)), passes=25
    )
    np.testing.assert_allclose(found["batch"], found["whole"], atol=1e-5)
    assert len(found["loss"]) == 3  # 10 passes each: three are begun before 25 are spent


def test_checks_on_other_rows_stop_where_those_rows_say():
    """A batch that gains from every step, checked on rows whose target lies the other way: one
    mini-step and a stop.
    """
    x = np.ones((2, 1))
    y = np.array([[10.0], [-10.0]])
    model = chain((1, 1), 0)
    walk = KeepStepping(model.parameters(), lr=1e-3, max_steps=9)
    own, other = np.array([0]), np.array([1])
    full_batch.train_on_batches(model, *full_batch.tensors(x, y), walk, [(own, other)], passes=1)
    assert walk.mini_steps == 1
    full_batch.train_on_batches(model, *full_batch.tensors(x, y), walk, [(own, None)], passes=1)
    assert walk.mini_steps == 9


def test_cosines_are_those_of_successive_gradients():
    x, y = task()
    model, every = chain((4, 1), 0), np.arange(len(x))
    w, b = model[0].weight.detach().double().numpy().copy().ravel(), float(model[0].bias.detach())
    found = full_batch.cosines(
        model, *full_batch.tensors(x, y), SGD(model.parameters(), lr=0.3), [every] * 4
    )
    gradients = []
    for _ in range(4):
        off = x @ w + b - y[:, 0]
        g = np.append(2 * x.T @ off / len(x), 2 * off.mean())
        gradients.append(g)
        w, b = w - 0.3 * g[:-1], b - 0.3 * g[-1]
    dull = [
        a @ c / np.linalg.norm(a) / np.linalg.norm(c)
        for a, c in zip(gradients, gradients[1:], strict=False)
    ]
    np.testing.assert_allclose(found, dull, atol=1e-4)
