"""A checkpoint gives back every bit, and a damaged one is never believed."""

import numpy as np
import pytest
import torch

from replicate.datasets import Batches
from replicate.errors import BadData, Missing
from replicate.models import mlp, resnet8
from replicate.optim import SGD, AdamW, Lookahead
from replicate.schedules import constant
from replicate.training import State, branch, load_state, load_tensor_file, save_state, save_tensor_file

DRAW = np.random.default_rng(0)
DATA = Batches(DRAW.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 4, 64), 16, 4, flip=True)
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=1.0),
    "momentum": lambda p: SGD(p, lr=1.0, momentum=0.9, fused=True),
    "adamw": lambda p: AdamW(p),
    "lookahead": lambda p: Lookahead(SGD(p, lr=1.0, momentum=0.9, fused=True), k=4, inner_state="interpolate"),
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


@pytest.mark.parametrize("part", ["momentum_buffer", "slow", "slow momentum_buffer", "running_var", "weight"])
def test_a_checkpoint_with_one_part_forgotten_ends_elsewhere(tmp_path, part):
    save_state(tmp_path / "state.ckpt", branch(fresh("lookahead"), DATA, constant(0.05), 0, 0, 7))
    tensors, about = load_tensor_file(tmp_path / "state.ckpt")
    forgotten = {name: torch.zeros_like(t) if name.endswith(part) else t for name, t in tensors.items()}
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


def test_open_averages_are_not_saved_silently(tmp_path):
    state = fresh()
    with pytest.raises(ValueError, match="averages must be finished"):
        save_state(tmp_path / "state.ckpt", State(state.model, state.optimizer, (object(),), 3))
    assert not (tmp_path / "state.ckpt").exists()
