"""A signal ends a command with its workers in one line, and the same command goes on where it was; two
processes never write one run.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import replicate.sources
from replicate import paths, progress, runs
from replicate.app import registry
from replicate.errors import Busy

SOURCE, SEEDS, STEPS = "walks2026toy", 4, 20
HERE = Path(__file__).parent
PATIENCE = 240  # seconds for three processes to import torch on a busy machine
STOPPED = "stopped; run the same command again to resume\n"


@pytest.fixture
def source(monkeypatch, tmp_path):
    """The walks beside the sources, for this process too, which looks at what the other made."""
    monkeypatch.setattr(
        replicate.sources, "__path__", [*replicate.sources.__path__, str(HERE / "sources")]
    )
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(progress, "SAVE_SECONDS", 0)
    monkeypatch.setattr(progress, "SAVE_SHARE", 1)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    return registry.source(SOURCE)


def start(
    build: Path,
    preset: str = "cpu",
    jobs: int = 2,
    *more: str,
    of: tuple[str, str] = (SOURCE, "walk"),
) -> subprocess.Popen:
    """The command in a session of its own, with workers. of: source and experiment."""
    places = [str(HERE / "startup"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(places), "WALKS_BUILD": str(build),
        "REPLICATE_JOBS": str(jobs), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = [sys.executable, "-m", "replicate", "run", *of, "--preset", preset, *more]
    return subprocess.Popen(
        words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def list_session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state not in "ZX":
            found.append(int(folder.name))
    return found


def wait_for(condition, seconds=PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def lives_in(build: Path) -> dict[str, list[int]]:
    """Run -> the steps at which its lives began."""
    return {
        path.parent.name: [int(line) for line in path.read_text().split()]
        for path in sorted(build.rglob("lives"))
    }


def count_saved(build: Path) -> int:
    return len([*build.rglob("rows.parquet")])


def stop(build: Path, number: int, of_group: bool = False) -> tuple[int, str, list[int]]:
    """Start the command, send the signal in the middle of two walks; exit code, stderr, orphans."""
    process = start(build)
    try:
        assert wait_for(lambda: count_saved(build) == 2), process.poll()
        (os.killpg if of_group else os.kill)(process.pid, number)
        code = process.wait(30)
        wait_for(lambda: not list_session(process.pid), 10)
        return code, process.stderr.read(), list_session(process.pid)
    finally:
        for pid in list_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def goes_on(source, build: Path) -> None:
    """The same run, here, ends at the numbers of one that nobody stopped, from where it was."""
    began = lives_in(build)
    assert len(began) == 2 and all(lives == [0] for lives in began.values())
    settings = source.presets["cpu"]["plane"]
    table = source["walk"](settings)
    assert len(table) == SEEDS * STEPS
    resumed = [lives for lives in lives_in(build).values() if len(lives) == 2]
    assert len(resumed) == 2 and all(0 < lives[1] < STEPS for lives in resumed)
    assert not [path for path in build.rglob("*") if ".part" in path.name]
    paths.BUILD = build.parent / "in peace"
    pd.testing.assert_frame_equal(table, source["walk"](settings))


def test_a_command_that_is_terminated_takes_its_workers_along(
    source, tmp_path, monkeypatch, record_property
):
    code, line, orphans = stop(tmp_path / "build", signal.SIGTERM)
    assert (code, line, orphans) == (128 + signal.SIGTERM, STOPPED, [])
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the walks need not pause here
    goes_on(source, tmp_path / "build")
    record_property("tally", ("signals to a command with workers", 1))


ENDS = {
    "Ctrl-C": (signal.SIGINT, True, 130, STOPPED),
    "SIGINT to the command alone": (signal.SIGINT, False, 130, STOPPED),
    "SIGTERM to all": (signal.SIGTERM, True, 143, STOPPED),
    "the terminal goes": (signal.SIGHUP, False, 143, STOPPED),
    "SIGKILL": (signal.SIGKILL, False, -9, ""),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("trial", range(3))
def test_every_way_to_stop_it_leaves_no_orphan(
    source, tmp_path, monkeypatch, record_property, name, trial
):
    number, of_group, expected, said = ENDS[name]
    code, line, orphans = stop(tmp_path / "build", number, of_group)
    assert (code, line, orphans) == (expected, said, [])
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    goes_on(source, tmp_path / "build")
    record_property("tally", ("signals to a command with workers", 1))


# Two at once.


def test_of_two_commands_on_one_run_one_writes_and_the_other_is_refused(
    source, tmp_path, record_property
):
    build = tmp_path / "build"
    first = start(build, jobs=1)
    try:
        assert wait_for(lambda: count_saved(build) == 1), first.poll()
        second = start(build, jobs=1)
        _, line = second.communicate(timeout=PATIENCE)
        assert first.poll() is None, "the first was done before the second began"
        assert second.returncode == Busy.exit_code
        assert "is being written by another process" in line and len(line.splitlines()) == 1
        assert all(lives == [0] for lives in lives_in(build).values())
    finally:
        os.killpg(first.pid, signal.SIGTERM)
        first.communicate(timeout=PATIENCE)
    record_property("tally", ("processes at one run", 2))


def test_two_commands_with_settings_of_their_own_both_finish(source, tmp_path):
    build = tmp_path / "build"
    both = [start(build, "smoke", 1), start(build, "cpu", 1, "--set", "pause=0.01")]
    ends = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    lives = lives_in(build)
    assert len(lives) == SEEDS and {len(path) for path in lives.values()} == {1}


def test_commands_of_two_sources_at_once_both_finish(source, tmp_path):
    other = ("warmerdam2020descent", "figure_5")
    build = tmp_path / "build"
    both = [start(build, "smoke", 1), start(build, "smoke", 1, of=other)]
    ends = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len(lives_in(build)) == SEEDS
    figure_5 = registry.source(other[0])[other[1]]
    entries = figure_5.chosen(registry.source(other[0]).presets["smoke"])
    assert len(runs.load_cached(figure_5, entries)) > 0


# What killed writers leave.


def in_another_process(work) -> int:
    """The pid of a fork that runs `work()`, and exits with what it gives."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    """Of a process that ends within 20 seconds."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    assert wait_for(lambda: os.waitid(os.P_PID, pid, ended) is not None, 20)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_a_killed_process_was_writing_is_removed_and_what_one_is_writing_is_not(tmp_path):
    def die_while_writing():
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        paths.write_atomic(tmp_path / "table", b"half")

    assert exit_code(in_another_process(die_while_writing)) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    read, write = os.pipe()

    def wait_while_writing():
        os.fsync = lambda _: os.read(read, 1)
        paths.write_atomic(tmp_path / "slow", b"whole")
        return 0

    slow = in_another_process(wait_while_writing)
    assert wait_for(
        lambda: len(list(tmp_path.iterdir())) == 1 and left not in tmp_path.iterdir(), 20
    )
    paths.write_atomic(tmp_path / "table", b"new")
    assert len(list(tmp_path.glob(".slow.*.part"))) == 1
    os.write(write, b"xx")  # the file is synchronised, and its folder
    assert exit_code(slow) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "table": b"new",
        "slow": b"whole",
    }


def test_a_file_of_somebody_else_that_looks_alike_stays(tmp_path):
    for name in (".part", "x.part", ".x.part", ".x.y.part", "figure.part.ipynb"):
        (tmp_path / name).write_text("mine")
    paths.write_atomic(tmp_path / "table", b"new")
    assert len(list(tmp_path.iterdir())) == 6


def test_a_clock_that_jumps_loses_nothing(source, monkeypatch):
    now, jumps = time.time(), iter([0, 86_400, -86_400, 1e9, -1e9] * 1000)
    monkeypatch.setattr("time.time", lambda: now + next(jumps))
    settings = source.presets["smoke"]["plane"]
    table = source["walk"](settings)
    assert len(table) == SEEDS * STEPS and all(
        lives == [0] for lives in lives_in(paths.BUILD).values()
    )
    with runs.cache.ends_by(now + 3600):
        paths.BUILD = paths.BUILD.parent / "again"
        for _ in range(200):
            monkeypatch.setattr(runs.cache, "_near", set())  # as in a process of its own
            try:
                again = source["walk"](settings)
                break
            except Busy as error:
                assert "runs are left; run the same command again" in str(error)
        else:
            pytest.fail("200 commands did not end the walks")
    pd.testing.assert_frame_equal(table, again)
