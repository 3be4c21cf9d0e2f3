"""A checkpoint gives back every bit, and a damaged one is never believed."""

import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from replicate.averaging import KernelAverages, ema, swa, two_point
from replicate.datasets import Batches
from replicate.errors import BadData, DiskFull, Diverged, Missing
from replicate.models import mlp, resnet8
from replicate.optim import SGD, AdamW, Lookahead
from replicate.training import (
    Checkpoints,
    State,
    advance,
    branch,
    flat_weights,
    load_state,
    load_tensor_file,
    save_state,
    save_tensor_file,
)
from replicate.training.schedules import constant

DRAW = np.random.default_rng(0)
DATA = Batches(
    DRAW.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 4, 64), 16, 4, flip=True
)
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=1.0),
    "momentum": lambda p: SGD(p, lr=1.0, momentum=0.9, fused=True),
    "adamw": lambda p: AdamW(p),
    "lookahead": lambda p: Lookahead(
        SGD(p, lr=1.0, momentum=0.9, fused=True), k=4, inner_state="interpolate"
    ),
}


def fresh(optimizer="momentum", seed=0):
    model = resnet8(4, seed, width=4)
    return State(model, OPTIMIZERS[optimizer](model.parameters()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_resumed_from_a_file_ends_at_the_same_bits(tmp_path, optimizer):
    whole = branch(fresh(optimizer), DATA, constant(0.05), 0, 0, 17)
    save_state(tmp_path / "state.ckpt", branch(fresh(optimizer), DATA, constant(0.05), 0, 0, 7))
    resumed = load_state(tmp_path / "state.ckpt", fresh(optimizer, seed=9))
    assert resumed.step == 7
    end = branch(resumed, DATA, constant(0.05), 0, 0, 17)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, end.model.state_dict()[name]), name


@pytest.mark.parametrize(
    "lost, names",
    [("model/conv1", "model"), ("model/bn1.running_mean", "model"), ("optimizer/state", "optimizer"),
     ("optimizer/inner", "optimizer")],
)  # fmt: skip
def test_a_checkpoint_without_one_of_its_tensors_is_refused(tmp_path, lost, names):
    save_state(tmp_path / "state.ckpt", branch(fresh("lookahead"), DATA, constant(0.05), 0, 0, 7))
    tensors, about = load_tensor_file(tmp_path / "state.ckpt")
    kept = {name: t for name, t in tensors.items() if not name.startswith(lost)}
    assert len(kept) < len(tensors)
    save_tensor_file(tmp_path / "less.ckpt", kept, about)
    with pytest.raises(BadData, match=f"another {names}"):
        load_state(tmp_path / "less.ckpt", fresh("lookahead"))


@pytest.mark.parametrize(
    "part", ["momentum_buffer", "slow", "slow momentum_buffer", "running_var", "weight"]
)
def test_a_checkpoint_with_one_part_forgotten_ends_elsewhere(tmp_path, part):
    save_state(tmp_path / "state.ckpt", branch(fresh("lookahead"), DATA, constant(0.05), 0, 0, 7))
    tensors, about = load_tensor_file(tmp_path / "state.ckpt")
    forgotten = {
        name: torch.zeros_like(t) if name.endswith(part) else t for name, t in tensors.items()
    }
    save_tensor_file(tmp_path / "less.ckpt", forgotten, about)
    ends = [branch(load_state(tmp_path / f, fresh("lookahead")), DATA, constant(0.05), 0, 0, 9).model.state_dict()
            for f in ("state.ckpt", "less.ckpt")]  # fmt: skip
    assert not all(torch.equal(*(end[name] for end in ends)) for name in ends[0])


def test_the_optimizer_of_a_file_has_to_be_the_one_asked_for(tmp_path):
    save_state(tmp_path / "state.ckpt", branch(fresh("momentum"), DATA, constant(0.05), 0, 0, 3))
    target = fresh("lookahead")
    before = {name: t.clone() for name, t in target.model.state_dict().items()}
    with pytest.raises(BadData, match="another optimizer"):
        load_state(tmp_path / "state.ckpt", target)
    assert all(torch.equal(before[name], t) for name, t in target.model.state_dict().items())


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path):
    save_tensor_file(tmp_path / "good", {"a": torch.arange(6.0)}, {"step": 3})
    content = (tmp_path / "good").read_bytes()
    bad = [bytes(b ^ (1 << bit) if i == at else b for i, b in enumerate(content))
           for at in range(len(content)) for bit in (0, 7)]  # fmt: skip
    bad += [content[:length] for length in range(len(content))]
    for wrong in bad:
        (tmp_path / "bad").write_bytes(wrong)
        with pytest.raises(BadData):
            load_tensor_file(tmp_path / "bad")
    tensors, about = load_tensor_file(tmp_path / "good")
    assert torch.equal(tensors["a"], torch.arange(6.0)) and about == {"step": 3}


def test_a_file_of_another_kind_or_another_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "text").write_text("hello" * 100)
    with pytest.raises(BadData, match="not a whole checkpoint"):
        load_tensor_file(tmp_path / "text")
    with pytest.raises(Missing, match="is not there"):
        load_tensor_file(tmp_path / "nothing")
    other = mlp(192, (16,), 4, 0)
    save_state(tmp_path / "mlp.ckpt", State(other, SGD(other.parameters(), lr=1.0)))
    target = fresh()
    before = {name: t.clone() for name, t in target.model.state_dict().items()}
    with pytest.raises(BadData, match="another model"):
        load_state(tmp_path / "mlp.ckpt", target)
    assert all(torch.equal(before[name], t) for name, t in target.model.state_dict().items())


def averaged(seed=0):
    state = fresh("lookahead", seed)
    kernels = {"swa": swa(13), "two-point": two_point(15), "ema": ema(15, 0.3)}
    return replace(state, averages=(KernelAverages(kernels, flat_weights(state.model)),))


def on(state, stop):
    return advance(state, DATA, constant(0.05), 0, 0, stop)[0]


def test_open_averages_go_on_to_the_same_bits(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(on(averaged(), 7))
    whole, resumed = on(averaged(), 17), on(checkpoints.load(7, averaged(seed=9)), 17)
    for name in ("swa", "two-point", "ema"):
        assert torch.equal(whole.averages[0][name], resumed.averages[0][name]), name


@pytest.mark.parametrize("part", ["start", "ring", "sums"])
def test_averages_with_one_part_forgotten_end_elsewhere(tmp_path, part):
    state = averaged()
    state.averages[0].BLOCK = 4  # so that by step 7 there are sums
    save_state(tmp_path / "state.ckpt", on(state, 7))
    tensors, about = load_tensor_file(tmp_path / "state.ckpt")
    forgotten = {
        name: torch.zeros_like(t) if name == f"averages/0/{part}" else t
        for name, t in tensors.items()
    }
    save_tensor_file(tmp_path / "less.ckpt", forgotten, about)
    ends = [
        on(load_state(tmp_path / f, averaged()), 17).averages[0]["swa"]
        for f in ("state.ckpt", "less.ckpt")
    ]
    assert not torch.equal(*ends)


def test_a_branch_may_leave_the_averages_of_a_checkpoint_alone_but_not_ask_for_others(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(on(averaged(), 7))
    assert checkpoints.load(7, fresh("lookahead")).step == 7
    other = replace(
        averaged(), averages=(KernelAverages({"swa": swa(3)}, flat_weights(averaged().model)),)
    )
    for wrong in (other, replace(other, averages=other.averages * 2)):
        with pytest.raises(BadData, match="another averages than the one asked for"):
            checkpoints.load(7, wrong)


def test_the_newest_two_and_the_named_stay(tmp_path):
    checkpoints, state = Checkpoints(tmp_path, "a"), fresh()
    assert checkpoints.newest() is None
    for step in (3, 5, 8, 13):
        state = on(state, step)
        checkpoints.save(state, {"losses": np.arange(float(step))})
        if step == 5:
            checkpoints.keep("branch", state)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "branch.ckpt",
        "step-000000008.ckpt",
        "step-000000013.ckpt",
    ]
    assert checkpoints.newest() == 13 and checkpoints.load("branch", fresh()).step == 5
    assert np.array_equal(checkpoints.records(8)["losses"], np.arange(8.0))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:900] + bytes([b[900] ^ 1]) + b[901:], lambda b: b""]
)
def test_a_damaged_newest_is_named_and_the_one_before_is_taken(tmp_path, capsys, damage):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (3, 5):
        checkpoints.save(on(fresh(), step))
    newest = tmp_path / "step-000000005.ckpt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert checkpoints.newest() == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"skipped: {newest}")
    assert newest.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    Checkpoints(tmp_path, "a").save(on(fresh(), 3))
    for ask in (
        Checkpoints(tmp_path, "b").newest,
        lambda: Checkpoints(tmp_path, "b").load(3, fresh()),
    ):
        with pytest.raises(BadData, match=r"is a checkpoint of another run \('a', not 'b'\)"):
            ask()


def test_on_a_full_disk_the_last_good_checkpoint_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (3, 5):
        checkpoints.save(on(fresh(), step))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(
            DiskFull, match=r"while writing .*step-000000008.ckpt; what was there before is kept"
        ):
            checkpoints.save(on(fresh(), 8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoints.newest() == 5 and len(list(tmp_path.iterdir())) == 2
    assert checkpoints.load(5, fresh()).step == 5


def test_a_run_that_diverges_leaves_its_last_good_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(on(fresh(), 5))
    with pytest.raises(Diverged) as failure:
        advance(checkpoints.load(5, fresh()), DATA, constant(1e30), 0, 0, 60)
    assert 5 < failure.value.step < 60 and checkpoints.newest() == 5


# What shares memory, and what is not Python's.


class Tied(nn.Module):
    """A network whose first and last layer have one weight, and whose buffers are overlapping
    views.
    """

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.inputs, self.outputs = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.outputs.weight = self.inputs.weight
        whole = torch.rand(6)
        self.register_buffer("first", whole[:4])
        self.register_buffer("last", whole[2:])

    def forward(self, tokens):
        return self.outputs(self.inputs(tokens)) * self.first.sum()


def tied_run(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.arange(5)), torch.arange(5).roll(1)).backward()
        optimizer.step()


def test_tied_weights_and_overlapping_buffers_go_on_to_the_same_bits_and_stay_tied(tmp_path):
    model, resumed = Tied(), Tied(seed=9)
    optimizer, other = (SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, resumed))
    tied_run(model, optimizer, 3)
    save_state(tmp_path / "state.ckpt", State(model, optimizer, (), 3))
    load_state(tmp_path / "state.ckpt", State(resumed, other))
    for m, o in ((model, optimizer), (resumed, other)):
        tied_run(m, o, 3)
    assert (
        torch.equal(model.inputs.weight, resumed.inputs.weight)
        and resumed.inputs.weight is resumed.outputs.weight
    )
    assert torch.equal(model.first, resumed.first) and torch.equal(model.last, resumed.last)


NUMPY = {
    "rate": np.float32(0.1),
    "wide": np.float64(0.1),
    "count": np.int64(3),
    "flag": np.bool_(True),
    "array": np.arange(6.0).reshape(2, 3).T,
    "scalar": np.array(2.5),
    "list": [np.float16(0.5), None, "text", 1, 0.1],
}


def test_numbers_of_numpy_come_back_with_their_precision(tmp_path):
    """1 - float32(0.9) is another number than 1 - 0.9: a run would go on to other bits."""
    state = fresh("sgd")
    state.optimizer.param_groups[0].update(NUMPY)
    save_state(tmp_path / "state.ckpt", replace(state, step=np.int64(4)))
    loaded = load_state(tmp_path / "state.ckpt", fresh("sgd"))
    group = loaded.optimizer.param_groups[0]
    assert loaded.step == 4 and type(loaded.step) is int
    for name, value in NUMPY.items():
        assert type(group[name]) is type(value), name
        np.testing.assert_array_equal(group[name], value)
        assert getattr(group[name], "dtype", None) == getattr(value, "dtype", None), name
    assert type(group["list"][0]) is np.float16


@pytest.mark.parametrize(
    "value, kind",
    [({1, 2}, "set"), (1 + 2j, "complex"), (np.complex64(1), "complex64"), (torch.float32, "dtype"), (len, "builtin.*"),
     (np.array(["a"]), "ndarray"), ({(1, 2): 3}, "tuple")],
)  # fmt: skip
def test_what_a_checkpoint_cannot_hold_is_named_and_nothing_is_written(tmp_path, value, kind):
    state = fresh("sgd")
    state.optimizer.param_groups[0]["strange"] = value
    line = rf"optimizer/param_groups/0/strange is of type {kind}, which a checkpoint cannot hold; it holds tensors"
    with pytest.raises(ValueError, match=line):
        save_state(tmp_path / "state.ckpt", state)
    assert not list(tmp_path.iterdir())


def test_steps_counted_by_numpy_are_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(replace(on(fresh(), 3), step=np.int64(3)), {"losses": np.arange(6.0)[::2]})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003.ckpt"]
    assert checkpoints.load(np.int64(3), fresh()).step == checkpoints.newest() == 3
    assert checkpoints.records(3)["losses"].tolist() == [0, 2, 4]


def test_a_file_of_tensors_is_no_state_of_a_run(tmp_path):
    save_tensor_file(tmp_path / "step-000000003.ckpt", {"a": torch.zeros(2)})
    with pytest.raises(BadData, match="holds tensors and no state of a run"):
        load_state(tmp_path / "step-000000003.ckpt", fresh())
    with pytest.raises(BadData, match=r"another run \(None, not 'a'\)"):
        Checkpoints(tmp_path, "a").newest()
