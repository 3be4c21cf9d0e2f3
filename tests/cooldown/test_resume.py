"""A comparison that is cut goes on to the same bits, and does not do again what is done."""

import time

import pandas as pd
import pytest
import torch
from test_losses import HELD_OUT, draw, make_net
from test_losses import loss as plain_loss

from replicate import compare, progress
from replicate.averaging import two_point
from replicate.errors import BadData, Paused

CALLS = 2 * (2 * 5 + 4 * 5 + 3 * 5)  # training steps of the comparison below, at most


class Counted:
    """The loss, that counts its calls in training, and breaks at one of them."""

    def __init__(self, at: int | None = None):
        self.at, self.calls = at, 0

    def __call__(self, model, batch):
        if torch.is_grad_enabled():
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
        return plain_loss(model, batch)


def ask(folder=None, loss=plain_loss, **changes):
    net = make_net(dropout=0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    given = {"window": 5, "steps": 15, "branches": 2, "runs": 2, "kernel": two_point}
    return compare(
        net, loss, draw, optimizer, held_out=HELD_OUT, folder=folder, **given | changes
    ).table


@pytest.fixture(scope="module")
def whole():
    counted = Counted()
    return ask(loss=counted), counted.calls


@pytest.fixture
def saves_at_every_step(monkeypatch):
    monkeypatch.setattr(progress, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "SAVE_SHARE", 1e12)


@pytest.mark.parametrize("cuts", [(3,), (8, 4), (13, 13, 2), (27,), (44, 30), (60,)])
def test_a_comparison_that_is_cut_ends_at_the_same_bits(cuts, whole, tmp_path, saves_at_every_step):
    table, calls = whole
    spent = 0
    for at in cuts:
        counted = Counted(at)
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path, counted)
        spent += counted.calls
    counted = Counted()
    pd.testing.assert_frame_equal(ask(tmp_path, counted), table, check_exact=True)
    # A step that was cut is done again, and the one before it that was not saved yet.
    assert calls <= spent + counted.calls <= calls + 2 * len(cuts)


def test_what_is_finished_is_not_done_again(whole, tmp_path):
    pd.testing.assert_frame_equal(ask(tmp_path), whole[0], check_exact=True)
    counted = Counted()
    pd.testing.assert_frame_equal(ask(tmp_path, counted), whole[0], check_exact=True)
    assert counted.calls == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "begin.ckpt", *(f"run-{run}-branch-{branch}.json" for run in (0, 1) for branch in (0, 1))
    } | {f"run-{run}-branch-{branch}" for run in (0, 1) for branch in (0, 1)}  # fmt: skip
    assert not list(tmp_path.glob("run-*/*"))


def test_more_runs_join_those_that_are_there(whole, tmp_path):
    ask(tmp_path, runs=1)
    counted = Counted()
    pd.testing.assert_frame_equal(ask(tmp_path, counted), whole[0], check_exact=True)
    assert counted.calls == whole[1] / 2


def test_a_deadline_pauses_and_the_same_call_goes_on(whole, tmp_path, saves_at_every_step):
    for _ in range(200):
        try:
            with progress.ends_by(time.time() - 1):
                table = ask(tmp_path)
            break
        except Paused as error:
            assert str(error).count("\n") == 0
    pd.testing.assert_frame_equal(table, whole[0], check_exact=True)


@pytest.mark.parametrize(
    "changes", [{"window": 4}, {"seed": 1}, {"directions": 0, "norm_batches": 4}, {"branches": 1}]
)
def test_the_folder_of_another_comparison_is_refused(changes, tmp_path):
    ask(tmp_path, runs=1)
    with pytest.raises(BadData, match="another run") as error:
        ask(tmp_path, runs=1, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"comparison": "0123", "row": {}}'])
def test_a_damaged_row_is_named(content, tmp_path):
    ask(tmp_path, runs=1)
    (tmp_path / "run-0-branch-1.json").write_text(content)
    with pytest.raises(BadData, match="run-0-branch-1.json is (damaged|of another)"):
        ask(tmp_path, runs=1)
