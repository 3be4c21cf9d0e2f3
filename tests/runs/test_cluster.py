"""Runs on the workers of a Dask cluster have the bits of runs here; whatever stops a part of the
cluster costs what was being made there, and nothing else.
"""

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from replicate import errors, paths, runs
from replicate.app import cli
from replicate.runs import machine
from replicate.runs.cache import TABLE

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")

import dask  # noqa: E402
from distributed.utils import get_mp_context  # noqa: E402

from replicate.runs import cluster  # noqa: E402

GRID = [{"seed": s} for s in range(8)]


@dataclass(frozen=True)
class Settings:
    """What the runs below are told."""

    dataset: str = "digits"
    log: str = ""  # a file in which each run leaves a line
    nap: float = 0.0  # seconds


def walk(settings, point, folder, parents, device) -> pd.DataFrame:
    """A random walk that a seed decides; its log says where and how often it was made."""
    with open(settings.log, "a") as log:
        log.write(f"{point['seed']} {os.getpid()}\n")
    time.sleep(settings.nap)
    steps = np.random.default_rng(point["seed"]).standard_normal(500)
    return pd.DataFrame({"place": np.sin(np.cumsum(steps)), "pid": os.getpid()})


def walk_and_die(settings, point, folder, parents, device) -> pd.DataFrame:
    """The first worker that makes seed 3 is killed in the middle of it."""
    mark = Path(settings.log).with_suffix(".died")
    if point["seed"] == 3 and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return walk(settings, point, folder, parents, device)


def die_always(settings, point, folder, parents, device) -> pd.DataFrame:
    os.kill(os.getpid(), signal.SIGKILL)


def read_log(settings) -> list[int]:
    """The seed of every run that was begun, sorted."""
    return sorted(int(line.split()[0]) for line in Path(settings.log).read_text().splitlines())


LARGE = ["torch", "pandas", "distributed", "replicate.runs.cache", "replicate.runs.cluster"]


@pytest.fixture(scope="module")
def two():
    """A scheduler and two worker processes of one thread, forked from one that has imported all."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(LARGE)
        with distributed.LocalCluster(**options, silence_logs=50) as local:
            yield local


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    monkeypatch.delenv(machine.WORKERS, raising=False)
    return tmp_path / "build"


@pytest.fixture
def on_two(two, monkeypatch):
    monkeypatch.setenv(machine.WORKERS, two.scheduler_address)
    return two


def rows_here(run, settings, monkeypatch, tmp_path) -> pd.DataFrame:
    """The rows of the same runs, made one after the other by this process."""
    with monkeypatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path / "serial")
        patch.delenv(machine.WORKERS, raising=False)
        return runs.each(run, settings, GRID).table.drop(columns="pid")


def test_runs_have_the_bits_of_serial_ones_and_happen_elsewhere(on_two, monkeypatch, tmp_path):
    settings = Settings(log=str(tmp_path / "log"))
    serial = rows_here(walk, settings, monkeypatch, tmp_path)
    Path(settings.log).unlink()
    table = runs.each(walk, settings, GRID).table
    pd.testing.assert_frame_equal(table.drop(columns="pid"), serial, check_exact=True)
    assert os.getpid() not in set(table.pid) and len(set(table.pid)) == 2
    assert read_log(settings) == list(range(8))
    runs.each(walk, settings, GRID)
    assert read_log(settings) == list(range(8))  # the second time they are read from disk


def test_the_runs_of_a_killed_worker_are_made_by_another(on_two, monkeypatch, tmp_path):
    settings = Settings(log=str(tmp_path / "log"))
    table = runs.each(walk_and_die, settings, GRID).table
    pd.testing.assert_frame_equal(
        table.drop(columns="pid"), rows_here(walk, settings, monkeypatch, tmp_path)
    )
    killed = int(Path(settings.log).with_suffix(".died").read_text())
    assert killed not in table.pid[table.seed == 3].tolist()


def test_two_sweeps_at_once_make_each_run_once(on_two, tmp_path):
    settings = Settings(log=str(tmp_path / "log"), nap=0.1)
    tables, failures = [], []

    def sweep(grid):
        try:
            tables.append(runs.each(walk, settings, grid).table)
        except BaseException as error:
            failures.append(error)

    both = [threading.Thread(target=sweep, args=(grid,)) for grid in (GRID, GRID[::-1])]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert failures == [] and read_log(settings) == list(range(8))
    first, second = (table.sort_values("seed", kind="stable") for table in tables)
    assert first.place.tolist() == second.place.tolist()


def test_what_took_longest_before_goes_first(on_two, monkeypatch, tmp_path):
    settings = Settings(log=str(tmp_path / "log"))
    runs.each(walk, settings, GRID)
    seconds = {f"seed{s}": float(s == 5) for s in range(8)}
    monkeypatch.setattr(
        "replicate.runs.cache.provenance_of", lambda path: {"seconds": seconds[path.parent.name]}
    )
    sent = []
    monkeypatch.setattr(cluster, "finish", lambda tasks, label, grid: sent.extend(tasks) or 0)
    with pytest.raises(errors.Busy, match="8 of 8 runs are left"):
        runs.each(walk, Settings(log=str(tmp_path / "other")), GRID)
    assert [task[1][2]["seed"] for task in sent] == [5, 0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("what, words", [
    ("code", "code 0123456789ab, here "), ("package", "torch 2.0, here "), ("folder", "results folder"),
])  # fmt: skip
def test_a_worker_that_differs_gets_no_run_and_is_named(
    on_two, monkeypatch, tmp_path, capsys, what, words
):
    settings = Settings(log=str(tmp_path / "log"))
    client = cluster.connect(on_two.scheduler_address)
    (odd, even) = client.scheduler_info(n_workers=-1)["workers"]
    client.run(make_different, what, workers=[odd])
    try:
        table = runs.each(walk, settings, GRID).table
        assert set(table.pid) == {client.run(os.getpid, workers=[even])[even]}
        line = capsys.readouterr().err
        assert line.startswith(f"going on without worker {odd}: ") and words in line
        client.run(make_different, what, workers=[even])
        with pytest.raises(
            errors.Unavailable, match="no worker can make these runs: tcp"
        ) as failed:
            runs.each(walk, Settings(log=settings.log, nap=0.01), GRID)
        assert words in str(failed.value) and "\n" not in str(failed.value)
        assert len(read_log(settings)) == 8
    finally:
        client.run(put_back)


def make_different(what: str) -> None:
    """In a worker: as if it had imported other code, another torch, or saw another disk."""
    from replicate.runs import identity, machine

    put_back()
    torn = machine.numerics, identity.hash_imported, Path.exists
    machine.before = torn
    if what == "code":
        identity.hash_imported = lambda: "0123456789abcdef"
    if what == "package":
        machine.numerics = lambda *words: torn[0](*words) | {"torch": "2.0"}
    if what == "folder":
        Path.exists = lambda path: False if ".shared-" in path.name else torn[2](path)


def put_back() -> None:
    from replicate.runs import identity, machine

    if hasattr(machine, "before"):
        machine.numerics, identity.hash_imported, Path.exists = machine.before
        del machine.before


def test_a_failure_of_a_run_is_its_own_and_the_others_are_kept(on_two, build, tmp_path):
    with pytest.raises(errors.BadData, match="^x.bin is cut short$"):
        runs.each(fail_at_seven, Settings(log=str(tmp_path / "log")), GRID)
    assert len(list(build.rglob(TABLE))) == 7


def fail_at_seven(settings, point, folder, parents, device) -> pd.DataFrame:
    for _ in range(500):
        if point["seed"] < 7 or len(list(folder.parent.glob(f"*/{TABLE}"))) == 7:
            break
        time.sleep(0.02)
    if point["seed"] == 7:
        raise errors.BadData("x.bin is cut short")
    return pd.DataFrame({"loss": [0.0]})


def test_past_the_deadline_nothing_is_started(on_two, monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATE_DEADLINE", str(time.time() - 1))
    with pytest.raises(errors.Busy, match="8 of 8 runs are left"):
        runs.each(walk, Settings(log=str(tmp_path / "log")), GRID)
    assert not (tmp_path / "log").exists()


def test_nobody_answers_is_one_line_and_nothing_is_written(monkeypatch, capsys, build):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        where = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        words = ["run", "fabi2021extrapolation", "--workers", where]
        monkeypatch.setattr("sys.argv", ["replicate", *words])
        assert cli.main() == 69
    out, err = capsys.readouterr()
    assert f"no scheduler answers at {where} (" in err and err.count("\n") == 1 and out == ""
    assert not build.exists()
