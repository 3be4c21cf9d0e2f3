"""Several processes that share the mini-batches of a run get what one process gets."""

import json
import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_runs import STEPS, Halves, begin, describe, train, work

from replicate import errors, training
from replicate.training import ranks

HERE = Path(__file__).parent
STARTUP = HERE.parent / "reliability" / "startup"  # lets WALKS_BUILD say where runs go
WAIT = 120  # seconds


def run_together(job, count: int, folder: Path) -> list:
    """What the job gives on each of `count` ranks."""
    forked = multiprocessing.get_context("fork")
    results = forked.Queue()
    meeting = str(folder / f"meeting-{count}-{os.urandom(4).hex()}")
    processes = [
        forked.Process(target=work, args=(number, count, meeting, job, results), daemon=True)
        for number in range(count)
    ]
    for process in processes:
        process.start()
    try:
        return [result for _, result in sorted(results.get(timeout=WAIT) for _ in processes)]
    finally:
        for process in processes:
            process.join(WAIT)


def train_by_slices(flat=False, synchronise=True, stop=STEPS, size=7, save=None, load=None):
    state = begin(flat)
    if load is not None:
        state = training.Checkpoints(load, "run").load("half", state)
    with ranks.train_together(synchronise):
        state, losses = train(state, stop, size)
    if save is not None and torch.distributed.get_rank() == 0:
        training.Checkpoints(save, "run").keep("half", state)
    return describe(state, losses)


def assert_alike(these: dict, those: dict, within: float = 1e-6) -> None:
    for name in those:
        np.testing.assert_allclose(these[name], those[name], rtol=0, atol=within, err_msg=name)


@pytest.mark.parametrize("flat", [False, True])
def test_two_ranks_get_the_losses_weights_and_averages_of_one(tmp_path, flat):
    one = describe(*train(begin(flat), STEPS))
    two = run_together(partial(train_by_slices, flat), 2, tmp_path)
    assert two[0] == two[1]  # to the bit
    assert_alike(two[0], one)
    assert np.ptp(one["losses"]) > 0.1  # there was something to get wrong


@pytest.mark.long
def test_four_ranks_and_ranks_of_one_image_each(tmp_path):
    one = describe(*train(begin(), STEPS))
    for four in run_together(train_by_slices, 4, tmp_path):
        assert_alike(four, one)
    few = describe(*train(begin(), STEPS, size=4))
    for four in run_together(partial(train_by_slices, size=4), 4, tmp_path):
        assert_alike(four, few)


def test_moments_of_a_slice_are_another_run(tmp_path):
    one = describe(*train(begin(), STEPS))
    two = run_together(partial(train_by_slices, synchronise=False), 2, tmp_path)
    assert two[0]["weights"] == two[1]["weights"] and two[0]["losses"] == two[1]["losses"]
    assert two[0]["statistics"] != two[1]["statistics"]
    assert np.abs(np.subtract(two[0]["losses"], one["losses"])).max() > 1e-3


def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path):
    whole = describe(*train(begin(), STEPS))
    half = STEPS // 2
    run_together(partial(train_by_slices, stop=half, save=tmp_path), 2, tmp_path)
    for rest in run_together(partial(train_by_slices, load=tmp_path), 3, tmp_path):
        assert_alike(rest, whole | {"losses": whole["losses"][half:]})


class OnDisk:
    """Data that give a slice without the rest."""

    size = 7

    def batch_slice(self, seed, stream, step, rows):
        return torch.arange(7)[rows], (seed, stream, step)


def test_data_that_can_give_a_slice_are_asked_for_no_more():
    size, images, _ = ranks.take_slice(OnDisk(), 1, 0, 5, 1, 2)
    assert size == 7 and images.tolist() == [3, 4, 5, 6]
    size, images, labels = ranks.take_slice(Halves(), 1, 0, 5, 0, 2)
    whole = Halves().batch(1, 0, 5)
    assert size == 7 and torch.equal(images, whole[0][:3]) and torch.equal(labels, whole[1][:3])


@pytest.mark.parametrize("images, count", [(7, 2), (8, 8), (512, 64), (5, 3)])
def test_slices_cover_a_mini_batch_once_and_are_level(images, count):
    rows = [ranks.slice_of(images, rank, count) for rank in range(count)]
    assert [row for each in rows for row in range(images)[each]] == list(range(images))
    sizes = {each.stop - each.start for each in rows}
    assert max(sizes) - min(sizes) <= 1


def refuse_small(size: int):
    with ranks.train_together():
        try:
            train(begin(), 1, size)
        except errors.BadParameter as error:
            return str(error)


def test_more_ranks_than_images_is_one_line_on_every_rank(tmp_path):
    lines = run_together(partial(refuse_small, 2), 3, tmp_path)
    assert set(lines) == {"a mini-batch of 2 images is too small for 3 ranks; start fewer of them"}


def test_the_loop_is_put_back():
    from replicate.training import loop

    before = loop.gradient_of
    with pytest.raises(KeyError), ranks.train_together():
        assert loop.gradient_of is not before
        raise KeyError
    assert loop.gradient_of is before and Halves().batch(1, 0, 3)[0].shape == (7, 2, 5, 5)


def torchrun(*words: str, restarts: int = 0, count: int = 2, **more: str):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node", str(count), "--max-restarts", str(restarts)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | more
    return subprocess.run(
        [*launch, *words], capture_output=True, text=True, env=environment, timeout=3 * WAIT
    )


@pytest.mark.long
@pytest.mark.parametrize("victim, count", [("0", 2), ("1", 2), ("2", 4)])
def test_a_rank_that_is_killed_and_restarted_changes_nothing(tmp_path, victim, count):
    done = torchrun(str(HERE / "rank_runs.py"), str(tmp_path), victim, restarts=1, count=count)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    losses, left = json.loads((tmp_path / "result.json").read_text())
    one = describe(*train(begin(), STEPS))
    np.testing.assert_allclose(losses, one["losses"], rtol=0, atol=1e-6)
    assert left == []


@pytest.mark.long
def test_the_command_line_makes_a_run_on_two_ranks(tmp_path):
    """The table is that of one process up to float32's rounding, and there once."""
    import pandas as pd

    words = ["-m", "replicate", "run", "sandler2023trajectories", "figure_5", "--preset", "smoke"]
    small = ["--set", "seeds=(0,)"]
    places = [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    new = {"WALKS_BUILD": str(tmp_path / "build"), "PYTHONPATH": os.pathsep.join(places)}
    alone = subprocess.run(
        [sys.executable, *words, *small, "--out", str(tmp_path / "one")],
        capture_output=True, text=True, timeout=WAIT, cwd=tmp_path, env=os.environ | new,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    two = torchrun(*words, *small, "--out", str(tmp_path / "two"), **new)
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("rows, ") == 1  # the first rank speaks
    name = "sandler2023trajectories-figure_5.parquet"
    one, several = (pd.read_parquet(tmp_path / folder / name) for folder in ("one", "two"))
    assert several.device.str.startswith("2 x ").all() and set(one.key) != set(several.key)
    np.testing.assert_allclose(several.train_loss, one.train_loss, atol=1e-3)
    few = torchrun(*words, "--set", "batch=1")
    assert few.returncode != 0
    assert few.stderr.count("BadParameter: digits: a mini-batch of 1 images is too small") == 1
