"""A run that is killed with SIGKILL, once or more, ends at the bits of the run that is left in
peace.

Checkpoints fall on steps coprime to every period of the run (Lookahead's 5, the epoch's 6, the
averages' block of 16), so that nothing an item of the state remembers is at rest. A trial counts
only if every life after the first began between the first and the last step. A life is a fork of
this process, which is warm: an interpreter takes seconds.
"""

import copy
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from replicate import paths
from replicate.averaging import KernelAverages, ema, swa, two_point
from replicate.datasets import Batches
from replicate.models import resnet8
from replicate.optim import SGD, AdamW, Lookahead
from replicate.runs import machine
from replicate.training import (
    Checkpoints,
    State,
    advance,
    flat_weights,
    load_state,
    load_tensor_file,
    save_state,
    save_tensor_file,
)
from replicate.training.schedules import cosine

END, BRANCH_AT = 60, 23
SAVED = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 49, 53]  # coprime to 2, 3 and 5
DRAW = np.random.default_rng(0)
DATA = Batches(
    DRAW.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8),
    DRAW.integers(0, 4, 96),
    16,
    4,
    pad=1,
    flip=True,
    label_noise=0.2,
)
OPTIMIZERS = {
    "sgd": lambda p: Lookahead(
        SGD(p, lr=1.0, momentum=0.9, fused=True), k=5, inner_state="interpolate"
    ),
    "adamw": lambda p: AdamW(p, lr=1.0),
}
CASES = ["sgd", "adamw", "branch"]


@dataclass(frozen=True)
class Life:
    """From the newest checkpoint to `until`, where the process kills itself, in the middle of a
    write if `writing`.
    """

    case: str
    folder: Path
    until: int | None = None
    writing: bool = False

    def begin(self) -> State:
        """The state without a checkpoint: of a branch, the point it leaves the main run at."""
        model = resnet8(4, 0, width=4)
        state = State(
            model, OPTIMIZERS["adamw" if self.case == "adamw" else "sgd"](model.parameters())
        )
        if self.case == "branch":
            state = load_state(self.folder / "point.ckpt", state)
        return replace(state, averages=(averages(state),))

    def live(self) -> None:
        """Train; a line of `begun` a life; `end.ckpt` is everything there is at the end."""
        checkpoints = Checkpoints(self.folder / "checkpoints", "run")
        state, at = self.begin(), checkpoints.newest()
        state = state if at is None else checkpoints.load(at, state)
        with (self.folder / "begun").open("a") as file:
            file.write(f"{state.step}\n")
        for stop in range(state.step + 1, END + 1):
            state = step_to(state, stop, self.case)
            if stop == self.until and self.writing:
                os.fsync = die
            elif stop == self.until:
                die()
            if stop in SAVED or stop == self.until:
                checkpoints.save(state)
        save_state(self.folder / "end.ckpt", state)


def averages(state: State) -> KernelAverages:
    kernels = {"swa": swa(33), "two-point": two_point(31), "ema": ema(37, 0.2)}
    return KernelAverages(kernels, flat_weights(state.model))


def step_to(state: State, stop: int, case: str) -> State:
    rate = cosine({"sgd": 0.1, "adamw": 0.01, "branch": 0.05}[case], END)
    return advance(state, DATA, rate, 5, 1 if case == "branch" else 0, stop)[0]


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lived(life: Life) -> int:
    """The signal that ended the life, 0 if it reached its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            life.live()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory):
    """case -> the folder of the run that nobody killed."""
    torch.set_num_threads(1)
    folders = {case: made(tmp_path_factory.mktemp(case), case) for case in CASES}
    assert all(lived(Life(case, folder)) == 0 for case, folder in folders.items())
    return folders


def made(folder: Path, case: str) -> Path:
    if case == "branch":
        state = Life("sgd", folder).begin()
        save_state(folder / "point.ckpt", replace(step_to(state, BRANCH_AT, "sgd"), averages=()))
    return folder


def trial(case: str, number: int, folder: Path, reference: Path) -> dict:
    """Kill a run one to three times at random steps, let it end, and compare every byte of its last
    checkpoint.
    """
    draw = np.random.default_rng([CASES.index(case), number])
    first = (BRANCH_AT if case == "branch" else 0) + 12
    kills = np.sort(draw.choice(np.arange(first, END), draw.integers(1, 4), replace=False)).tolist()
    writing = bool(number % 2)
    ended = [lived(Life(case, made(folder, case), kill, writing)) for kill in kills]
    ended.append(lived(Life(case, folder)))
    begun = [int(line) for line in (folder / "begun").read_text().split()]
    start = BRANCH_AT if case == "branch" else 0
    return {
        "case": case,
        "trial": number,
        "killed at": " ".join(map(str, kills)),
        "while writing": writing,
        "went on from": " ".join(map(str, begun[1:])),
        "resumed": ended == [signal.SIGKILL] * len(kills) + [0]
        and all(start < b < END for b in begun[1:]),
        "identical": (folder / "end.ckpt").read_bytes() == (reference / "end.ckpt").read_bytes(),
    }


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_at_the_bits_of_one_left_in_peace(in_peace, tmp_path, case, number):
    row = trial(case, number, tmp_path, in_peace[case])
    assert row["resumed"] and row["identical"], row


@pytest.mark.long
def test_twenty_killed_runs_of_each_kind_end_at_the_same_bits(in_peace, tmp_path_factory):
    rows = [
        trial(case, number, tmp_path_factory.mktemp("trial"), in_peace[case])
        for case in CASES
        for number in range(20)
    ]
    (commit, dirty), device = machine.commit(), machine.device_name("cpu")
    table = pd.DataFrame(rows).assign(
        commit=commit + "+" * dirty, device=device, torch=machine.versions()["torch"]
    )
    paths.write_atomic(paths.BUILD / "kill-trials.csv", table.to_csv(index=False).encode())
    assert table.resumed.all() and table.identical.all(), table[
        ~(table.resumed & table.identical)
    ].to_string()


def test_a_branch_ends_elsewhere_than_the_run_it_left(in_peace):
    ends = [
        load_tensor_file(in_peace[case] / "end.ckpt")[0]["model/conv1.weight"]
        for case in ("sgd", "branch")
    ]
    assert not torch.equal(*ends)


FORGOTTEN = {  # the end of a tensor's name in the file
    "weights": "conv1.weight",
    "running statistics": "running_mean",
    "batches tracked": "num_batches_tracked",
    "momentum": "/momentum_buffer",
    "slow weights": "/slow",
    "slow momentum": "/slow momentum_buffer",
    "adam's first moment": "/exp_avg",
    "adam's second moment": "/exp_avg_sq",
    "adam's step": "/step",
    "start of the averages": "averages/0/start",
    "ring of the averages": "averages/0/ring",
    "sums of the averages": "averages/0/sums",
}


def resumed_end(case: str, path: Path, folder: Path) -> bytes:
    state = load_state(path, Life(case, folder).begin(), "run")
    save_state(folder / "end.ckpt", step_to(state, END, case))
    return (folder / "end.ckpt").read_bytes()


@pytest.fixture(scope="module")
def half_way(in_peace, tmp_path_factory):
    """case -> a checkpoint at step 31, and the bytes of the end it leads to."""
    found = {}
    for case in ("sgd", "adamw"):
        folder = tmp_path_factory.mktemp("half")
        save_state(folder / "half.ckpt", step_to(Life(case, folder).begin(), 31, case), "run")
        found[case] = folder / "half.ckpt", resumed_end(case, folder / "half.ckpt", folder)
        assert found[case][1] == (in_peace[case] / "end.ckpt").read_bytes()
    return found


@pytest.mark.parametrize("item", FORGOTTEN)
def test_leaving_a_tensor_out_of_the_checkpoint_is_seen(half_way, tmp_path, item):
    path, end = half_way["adamw" if item.startswith("adam") else "sgd"]
    tensors, about = load_tensor_file(path)
    kept = {
        n: torch.zeros_like(t) if n.endswith(FORGOTTEN[item]) else t for n, t in tensors.items()
    }
    assert any(not torch.equal(kept[n], t) for n, t in tensors.items())
    save_tensor_file(tmp_path / "less.ckpt", kept, about)
    assert (
        resumed_end("adamw" if item.startswith("adam") else "sgd", tmp_path / "less.ckpt", tmp_path)
        != end
    )


@pytest.mark.parametrize(
    ("name", "value"), [("counter", 0), ("steps", 30), ("summed", 20), ("step", 30)]
)
def test_leaving_a_number_out_of_the_checkpoint_is_seen(half_way, tmp_path, name, value):
    path, end = half_way["sgd"]
    tensors, about = load_tensor_file(path)
    other = {**about, "step": value} if name == "step" else with_number(about, name, value)
    assert other != about
    save_tensor_file(tmp_path / "other.ckpt", tensors, other)
    assert resumed_end("sgd", tmp_path / "other.ckpt", tmp_path) != end


def with_number(about, name, value):
    """A copy of the nested description in which every entry `name` has another value."""
    if isinstance(about, list):
        if len(about) == 2 and about[0] == name:
            return [name, {"plain": value}]
        return [with_number(one, name, value) for one in about]
    if isinstance(about, dict):
        return {key: with_number(one, name, value) for key, one in about.items()}
    return copy.copy(about)
