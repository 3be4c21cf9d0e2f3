"""A lane is the run alone: its batches, its schedule, its optimizer's state, up to the rounding of
batched products.
"""

import shutil

import numpy as np
import pytest
import torch

from replicate.averaging import KernelAverages, swa
from replicate.datasets import Batches
from replicate.errors import Diverged, Unavailable
from replicate.models import mlp, resnet8
from replicate.optim import SGD, Adam, AdamW, Lookahead
from replicate.training import Checkpoints, Flat, Lanes, State, branch, flat_weights, lane_steps
from replicate.training.schedules import constant, cosine

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 4, 96)
RUNS = [(0, 0), (1, 0), (1, 3), (0, 0), (2, 0)]
SCHEDULES = [constant(0.02), cosine(0.05, 40)]
BLOCKS = [3, 2]
STEPS = 40
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=1e-3, fused=True),
    "adam": lambda p: Adam(p, lr=1.0, fused=True),
    "adamw": lambda p: AdamW(p, lr=1.0),
    "lookahead": lambda p: Lookahead(SGD(p, lr=1.0, momentum=0.9), k=3, inner_state="interpolate"),
}
SMALLER = {"sgd": 1.0, "lookahead": 1.0, "adam": 0.1, "adamw": 0.1}


def data():
    return Batches(X, Y, 16, 4, pad=1, flip=True, pixel_noise=0.1)


def network(seed):
    return mlp(192, (16, 8), 4, seed)


def lanes():
    return Lanes(
        Flat(network(0)), torch.stack([flat_weights(network(seed)) for seed, _ in RUNS]), BLOCKS
    )


def rates(optimizer):
    return [lambda step, one=one: SMALLER[optimizer] * one(step) for one in SCHEDULES]


def alone(lane, optimizer, stop=STEPS):
    seed, stream = RUNS[lane]
    model = network(seed)
    start = State(model, OPTIMIZERS[optimizer](model.parameters()))
    rate = rates(optimizer)[0 if lane < BLOCKS[0] else 1]
    return branch(start, data(), rate, seed, stream, stop)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_lane_is_the_run_alone(optimizer):
    both = lanes()
    made = OPTIMIZERS[optimizer](both.groups())
    losses = [one for _, one in lane_steps(both, data(), made, rates(optimizer), RUNS, 0, STEPS)]
    starts = torch.stack([flat_weights(network(seed)) for seed, _ in RUNS])
    for lane in range(len(RUNS)):
        end = flat_weights(alone(lane, optimizer).model)
        # Of the way travelled: 1e-4 is what rounding has grown to after 40 steps, and a wrong batch
        # moves it all.
        assert (both.rows()[lane] - end).norm() < 1e-4 * (end - starts[lane]).norm(), lane
    assert losses[0].shape == (5,) and float(losses[-1].mean()) < float(losses[0].mean())


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler is here")
def test_compiled_lanes_are_the_lanes():
    ends = []
    for compiled in (False, True):
        both = lanes()
        optimizer = OPTIMIZERS["lookahead"](both.groups())
        for _ in lane_steps(both, data(), optimizer, SCHEDULES, RUNS, 0, STEPS, (), compiled):
            pass
        ends.append(both.rows())
    assert (ends[0] - ends[1]).norm() < 1e-4 * (ends[0] - lanes().rows()).norm()


def test_compiled_lanes_without_a_compiler_are_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="compiled lanes need a C\\+\\+ compiler"):
        next(lane_steps(lanes(), data(), None, SCHEDULES, RUNS, 0, 3, compiled=True))


def test_lanes_differ_by_seed_stream_and_schedule():
    both = lanes()
    for _ in lane_steps(both, data(), OPTIMIZERS["sgd"](both.groups()), SCHEDULES, RUNS, 0, STEPS):
        pass
    ends = both.rows()
    apart = torch.cdist(ends, ends) + torch.eye(len(RUNS)) * 9
    assert float(apart.min()) > 1e-2


def test_a_lane_that_diverges_leaves_the_others_alone():
    both, calm = lanes(), lanes()
    wild = [constant(0.02), constant(1e30)]
    for one, rate in ((both, wild), (calm, [constant(0.02), constant(0.02)])):
        for _, losses in lane_steps(
            one, data(), OPTIMIZERS["sgd"](one.groups()), rate, RUNS, 0, 12
        ):
            last = losses
        if one is both:
            assert torch.isfinite(last).tolist() == [True, True, True, False, False]
    assert torch.equal(both.rows()[:3], calm.rows()[:3])


def test_if_every_lane_diverges_the_run_did():
    both = lanes()
    with pytest.raises(Diverged, match="every lane diverged before step 12"):
        for _ in lane_steps(
            both, data(), OPTIMIZERS["sgd"](both.groups()), [constant(1e30)] * 2, RUNS, 0, 12
        ):
            pass


def test_averages_of_lanes_are_the_averages_of_each():
    both = lanes()
    averages = KernelAverages({"swa": swa(10)}, both.rows().view(-1))
    for _ in lane_steps(
        both, data(), OPTIMIZERS["sgd"](both.groups()), SCHEDULES, RUNS, 0, 10, (averages,)
    ):
        pass
    found = averages["swa"].view(len(RUNS), -1)
    for lane, (seed, stream) in enumerate(RUNS):
        model = network(seed)
        own = KernelAverages({"swa": swa(10)}, flat_weights(model))
        rate = SCHEDULES[0 if lane < BLOCKS[0] else 1]
        branch(
            State(model, OPTIMIZERS["sgd"](model.parameters())),
            data(),
            rate,
            seed,
            stream,
            10,
            (own,),
        )
        assert torch.allclose(found[lane], own["swa"], atol=1e-6)


def test_lanes_go_on_from_a_checkpoint_to_the_bit(tmp_path):
    def state(step=0):
        one = lanes()
        return State(one, OPTIMIZERS["lookahead"](one.groups()), (), step)

    def run(state, stop):
        for _ in lane_steps(
            state.model, data(), state.optimizer, SCHEDULES, RUNS, state.step, stop
        ):
            pass
        return State(state.model, state.optimizer, (), stop)

    checkpoints = Checkpoints(tmp_path, "lanes")
    checkpoints.save(run(state(), 7))
    resumed = checkpoints.load(7, state())
    assert torch.equal(run(resumed, 17).model.rows(), run(state(), 17).model.rows())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Lanes(Flat(resnet8(4, 0, width=4)), torch.zeros(2, 3)),
            "lanes need a model without BatchNorm",
        ),
        (
            lambda: Lanes(Flat(network(0)), torch.zeros(2, 3)),
            r"weights must have shape \(lanes, \d+\), got \(2, 3\)",
        ),
        (
            lambda: Lanes(Flat(network(0)), lanes().rows(), [3, 3]),
            r"blocks must .* add up to 5, got \[3, 3\]",
        ),
        (
            lambda: next(lane_steps(lanes(), data(), None, SCHEDULES, RUNS[:2], 0, 3)),
            "must be 2 schedules and 5 runs",
        ),
        (
            lambda: next(lane_steps(lanes(), data(), None, SCHEDULES, RUNS, 3, 2)),
            "start and stop must satisfy",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
