"""The loop is the page's algorithm, any step can be replayed bit for bit, and a branch leaves its
origin alone.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from replicate.averaging import KernelAverages, ema, swa
from replicate.datasets import Batches
from replicate.errors import Diverged
from replicate.models import mlp, resnet8
from replicate.optim import SGD, AdamW, Lookahead
from replicate.training import Flat, State, branch, distance, flat_weights, load_flat, steps
from replicate.training import loop as loop_module
from replicate.training.gradient import GraphedGradient
from replicate.training.schedules import constant, cosine

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 4, 96)


def batches(**changes):
    return Batches(
        X, Y, **({"size": 16, "classes": 4, "pad": 1, "flip": True, "pixel_noise": 0.1} | changes)
    )


def fresh(kind="mlp", seed=0):
    model = mlp(192, (16,), 4, seed) if kind == "mlp" else resnet8(4, seed, width=4)
    return State(model, SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3))


def test_a_run_is_heavy_ball_written_out():
    start, data = fresh(), batches()
    theta = [p.detach().double().requires_grad_() for p in start.model.parameters()]
    velocity = [torch.zeros_like(p) for p in theta]
    rate = cosine(0.1, 20)
    for step in range(12):
        x, y = data.batch(3, 0, step)
        hidden = functional.relu(functional.linear(x.double().flatten(1), theta[0], theta[1]))
        loss = functional.cross_entropy(functional.linear(hidden, theta[2], theta[3]), y)
        for i, gradient in enumerate(torch.autograd.grad(loss, theta)):
            velocity[i] = 0.9 * velocity[i] + gradient + 1e-3 * theta[i].detach()
            theta[i] = (theta[i].detach() - rate(step) * velocity[i]).requires_grad_()
    end = branch(start, data, rate, 3, 0, 12)
    expected = torch.cat([p.detach().reshape(-1) for p in theta])
    assert distance(flat_weights(end.model), expected) < 1e-5 * float(expected.norm())


def test_steps_yields_every_step_with_the_loss_before_the_update():
    start, data = fresh(), batches()
    x, y = data.batch(0, 0, 5)
    first = float(functional.cross_entropy(start.model(x), y).detach())
    seen = list(steps(start.model, data, start.optimizer, constant(0.1), 0, 0, 5, 9))
    assert [step for step, _ in seen] == [5, 6, 7, 8]
    assert float(seen[0][1]) == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "resnet8"])
def test_replaying_the_same_stream_is_bitwise_equal_and_another_stream_is_not(kind):
    start = branch(fresh(kind), batches(), constant(0.1), 1, 0, 7)
    ends = [
        flat_weights(branch(start, batches(), constant(0.1), 1, stream, 20).model)
        for stream in (0, 0, 1)
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("cut", [8, 13])
def test_a_run_in_two_pieces_is_the_run_in_one(cut):
    whole = branch(fresh("resnet8"), batches(), cosine(0.1, 30), 0, 0, 20)
    half = branch(fresh("resnet8"), batches(), cosine(0.1, 30), 0, 0, cut)
    rest = branch(half, batches(), cosine(0.1, 30), 0, 0, 20)
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(s.model.state_dict().values() for s in (whole, rest)), strict=True)
    )


@pytest.mark.parametrize("kind", ["mlp", "resnet8"])
def test_a_branch_does_not_disturb_its_origin(kind):
    start = branch(fresh(kind), batches(), constant(0.1), 0, 0, 9)
    weights = flat_weights(start.model).clone()
    buffers = [b.clone() for b in start.model.buffers()]
    momentum = [s["momentum_buffer"].clone() for s in start.optimizer.state.values()]
    branch(start, batches(), constant(0.5), 0, 1, 15)
    assert torch.equal(weights, flat_weights(start.model))
    assert all(torch.equal(a, b) for a, b in zip(buffers, start.model.buffers(), strict=True))
    after = [s["momentum_buffer"] for s in start.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, after, strict=True))


def test_a_branch_inherits_the_optimizers_state():
    start = branch(fresh(), batches(), constant(0.1), 0, 0, 9)
    warm = branch(start, batches(), constant(0.1), 0, 0, 12)
    cold = State(
        start.model, SGD(start.model.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3), (), 9
    )
    cold = branch(cold, batches(), constant(0.1), 0, 0, 12)
    assert distance(flat_weights(warm.model), flat_weights(cold.model)) > 1e-3


def test_a_model_that_was_just_evaluated_trains_all_the_same():
    start, evaluated = fresh("resnet8"), fresh("resnet8")
    evaluated.model.eval()
    ends = [branch(state, batches(), constant(0.1), 0, 0, 3).model for state in (start, evaluated)]
    assert all(
        torch.equal(a, b) for a, b in zip(*(end.state_dict().values() for end in ends), strict=True)
    )


def test_averages_are_told_every_iterate_after_the_start():
    class Iterates(list):
        update = list.append

    seen, start = Iterates(), fresh()
    end = branch(start, batches(), constant(0.1), 0, 0, 6, (seen,))
    assert len(seen) == 6
    assert torch.equal(seen[-1], flat_weights(end.model))
    again = branch(start, batches(), constant(0.1), 0, 0, 3)
    assert torch.equal(seen[2], flat_weights(again.model))


@pytest.mark.parametrize("at", [0, 1, 49, 50, 60])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_first_step(at):
    class Poisoned(Batches):
        def batch(self, seed, stream, step):
            x, y = super().batch(seed, stream, step)
            return (x * torch.nan if step >= at + 5 else x), y

    start = fresh()
    data = Poisoned(X, Y, 16, 4)
    with pytest.raises(Diverged, match=f"loss became nan at step {at + 5} ") as failure:
        for _ in steps(start.model, data, start.optimizer, constant(0.1), 0, 0, 5, 400):
            pass
    assert (failure.value.step, failure.value.exit_code) == (at + 5, 76)


class Reads(TorchDispatchMode):
    """Counts what makes a host wait for a device: a number that is read, a shape that depends on
    values.
    """

    WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal"}

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masks = args[1] if function is torch.ops.aten.index.Tensor else ()
        by_mask = any(one is not None and one.dtype == torch.bool for one in masks)
        self.count += by_mask or function.overloadpacket.__name__ in self.WAITS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("graphed", [False, True])
def test_inside_an_epoch_nothing_is_read_from_the_device(monkeypatch, graphed):
    model, data = Flat(resnet8(4, 0, width=4)), batches(size=1, label_noise=0.2, cutout=2)
    if graphed:  # without a GPU: the computation itself in place of its graph
        graph = GraphedGradient(model, data, lambda compute: compute)
        monkeypatch.setattr(loop_module, "gradient_of", lambda model, data: graph)
    optimizer = Lookahead(
        SGD(model.parameters(), lr=1.0, momentum=0.9, fused=True), inner_state="interpolate"
    )
    averages = (KernelAverages({"swa": swa(100), "ema": ema(70)}, flat_weights(model)),)
    seen = []
    with Reads() as reads:
        for _ in steps(
            model, data, optimizer, constant(0.01), 0, 0, 0, 2 * data.per_epoch, averages
        ):
            seen.append(reads.count)
    looks = [step for step in range(1, len(seen)) if seen[step] > seen[step - 1]]
    assert seen[0] == 0 and looks == [data.per_epoch - 1, 2 * data.per_epoch - 1]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 4)])
def test_a_run_backwards_is_refused(start, stop):
    state = fresh()
    with pytest.raises(ValueError, match="start and stop must satisfy"):
        next(steps(state.model, batches(), state.optimizer, constant(0.1), 0, 0, start, stop))


def test_any_torch_optimizer_fits():
    model = mlp(192, (16,), 4, 0)
    first, last = (float(loss) for _, loss in list(
        steps(model, batches(), AdamW(model.parameters()), constant(0.01), 0, 0, 0, 60))[:: 59])  # fmt: skip
    assert last < first


def test_weights_go_into_a_model_and_come_back():
    model, other = mlp(192, (16,), 4, 0), mlp(192, (16,), 4, 1)
    load_flat(model, flat_weights(other))
    assert torch.equal(flat_weights(model), flat_weights(other))
    assert distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])) == 5.0
    with pytest.raises(ValueError, match=r"weights must have shape \(3156,\), got \(3,\)"):
        load_flat(model, torch.zeros(3))


def test_a_frozen_layer_stays_frozen_while_the_others_train():
    state, data = fresh("resnet8"), batches()
    state.model.train()
    state.model.bn1.eval()
    before = state.model.bn1.running_mean.clone()
    for _ in steps(state.model, data, state.optimizer, constant(0.1), 0, 0, 0, 3):
        pass
    assert not state.model.bn1.training and torch.equal(state.model.bn1.running_mean, before)
    assert state.model.layer1[0].bn1.num_batches_tracked == 3


def test_a_model_that_was_evaluated_trains_in_training_mode():
    state, data = fresh("resnet8"), batches()
    state.model.eval()
    next(steps(state.model, data, state.optimizer, constant(0.1), 0, 0, 0, 3))
    assert all(layer.training for layer in state.model.modules())
