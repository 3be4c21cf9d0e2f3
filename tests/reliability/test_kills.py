"""A run of each kind that is killed, at any of the files it writes, ends at the tables of one that nobody
killed, bit by bit; but for columns of seconds, which no two runs share.

A life is a fork of this process, in which everything is imported and nothing has been computed, so that
no thread of a framework is lost; the last one of every fifth trial is an interpreter of its own. It ends
with SIGKILL at its n-th file, half the time in the middle of the write. A trial counts only if every life
after the first found something to go on from, and wrote more.

Trajectories save inside a run, here after every piece of work; the other kinds keep what a run of their
grid gave when it is done, and begin anew the one that was killed, as trajectories do before their first
save.
"""

import importlib
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch  # noqa: F401 - here, since in a fork it would be imported in every life

import replicate.sources
from replicate import datasets, paths, progress, runs
from replicate.runs.tables import read_table
from replicate.sources.protocol import Source

KILLED = "kills by SIGKILL, tables bit-identical after the resume"
ANEW = "kills by SIGKILL before the first save, begun anew to bit-identical tables"
PATIENCE = 300  # seconds of a life


@dataclass(frozen=True)
class Kind:
    """An experiment with runs of this kind, at the size of a test; the lives of a short trial cost seconds.

    first: the first file at which a killed life, even in the middle of the write, leaves something to
    go on from.
    """

    source: str
    experiment: str
    changes: tuple[tuple[str, object], ...] = ()
    first: int = 2

    def settings(self):
        source = Source(self.source)
        entries = source[self.experiment].chosen(source.presets["smoke"])
        return replace(source.tiny(next(iter(entries.values()))), **dict(self.changes))

    def spend(self, build: Path) -> None:
        """What a life does when nothing ends it."""
        paths.BUILD = build
        runs.produce_or_load(Source(self.source)[self.experiment], self.settings())

    def read_tables(self, build: Path) -> dict[str, pd.DataFrame]:
        """Path -> table without seconds, of the experiment and of each run of its grid."""
        timeless = Source(self.source)[self.experiment].without_clock
        return {
            str(path.relative_to(build)): timeless(read_table(path))
            for path in sorted(build.rglob("table.parquet"))
        }


QUICK = {"walks": Kind("walks2026toy", "walk")}  # made for tests; saves after every step
KINDS = {
    "trajectories": Kind("sandler2023trajectories", "figure_5", first=3),  # 2 is a checkpoint
    "Lookahead": Kind("zhang2019lookahead", "table_1"),
    "extrapolation": Kind("fabi2021extrapolation", "networks", (("seeds", (0, 1, 2, 3)),)),
    "descent": Kind("warmerdam2020descent", "rates"),
    "text": Kind("zhang2019lookahead", "language_model"),
}
ALL = QUICK | KINDS
SLOW = ("torch._dynamo", "sklearn.datasets", "pyarrow.parquet")  # seconds of every life otherwise


WALKS = str(Path(__file__).parent / "sources")  # a folder of sources, with the walks


@pytest.fixture(autouse=True)
def save_at_once(monkeypatch):
    """After every piece of work, not every minute; and the walks beside the sources."""
    monkeypatch.setattr(replicate.sources, "__path__", [*replicate.sources.__path__, WALKS])
    monkeypatch.setattr(progress, "SAVE_SECONDS", 0)
    monkeypatch.setattr(progress, "SAVE_SHARE", float("inf"))
    monkeypatch.setenv("REPLICATE_JOBS", "1")


def live(kind: Kind, build: Path, kill_at: int | None = None, torn: bool = False):
    """(signal that ended a life, files that it wrote). kill_at: the file at which it ends, from 1."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            _die_at(kill_at, torn, build / "count")
            kind.spend(build)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), _read_count(build)


def live_in_an_interpreter_of_its_own(name: str, build: Path) -> tuple[int, int]:
    """What `live` gives, of a life to the end that begins with `python` and saves once a minute."""
    words = [sys.executable, __file__, name, str(build)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return 0, _read_count(build)


def _read_count(build: Path) -> int:
    count = build / "count"
    written = int(count.read_text()) if count.exists() else 0
    count.unlink(missing_ok=True)
    return written


def _die_at(kill_at: int | None, torn: bool, count: Path) -> None:
    """Count the files that are given their names, and end this process at one of them: `torn` when
    half of it is written, else when it has its name.
    """
    written, rename = 0, os.replace

    def give_name(source, target):
        nonlocal written
        ends = written + 1 == kill_at
        if ends and torn:
            os.truncate(source, os.stat(source).st_size // 2)
        else:
            rename(source, target)
            written += 1
        count.parent.mkdir(exist_ok=True)
        count.write_text(str(written))
        if ends:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = give_name


def assert_same_tables(found: dict[str, pd.DataFrame], wanted: dict[str, pd.DataFrame]) -> None:
    assert found.keys() == wanted.keys()
    for path, table in wanted.items():
        pd.testing.assert_frame_equal(found[path], table, check_exact=True)


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory):
    """kind -> (tables of the run that nobody killed, files that it wrote), made when asked for."""
    made = {}

    def of(name: str):
        if name not in made:
            build, kind = tmp_path_factory.mktemp("peace"), ALL[name]
            # Before the forks: it imports the source and what that needs.
            dataset = kind.settings().dataset
            if dataset in datasets.NAMES and not datasets.at_hand(dataset):
                pytest.skip(f"{dataset} not at hand (data/README.md says how to get it)")
            for slow in SLOW if name in KINDS else ():
                importlib.import_module(slow)
            ended, written = live(kind, build)
            assert ended == 0 and written > 2, (name, written)
            made[name] = kind.read_tables(build), written
        return made[name]

    return of


MOST_KILLS = 3  # of one run


def try_kills(name: str, number: int, most_kills: int, build: Path, in_peace) -> int:
    """Kill a run up to `most_kills` times and let it end; how often it was killed."""
    _, files = in_peace(name)
    draw = np.random.default_rng([list(ALL).index(name), number])
    places = np.arange(ALL[name].first, files)
    times = min(draw.integers(1, most_kills + 1), len(places))
    planned = np.sort(draw.choice(places, times, replace=False))
    done, killed, resumed = 0, 0, []
    for at in planned:
        if at <= done:  # a checkpoint is written at other moments in another life
            continue
        ended, written = live(ALL[name], build, int(at - done), torn=bool(draw.integers(2)))
        resumed.append((done, written))
        done += written
        if ended == 0:
            break
        assert ended == signal.SIGKILL
        killed += 1
    fresh = number % 5 == 0
    last = live_in_an_interpreter_of_its_own(name, build) if fresh else live(ALL[name], build)
    ended, written = last
    resumed.append((done, written))
    assert ended == 0 and killed > 0 and all(before > 0 for before, _ in resumed[1:]), resumed
    assert written < files, "the last life began anew"
    return killed


@pytest.mark.parametrize("number", range(1, 5))
def test_a_killed_run_ends_at_the_tables_of_one_left_in_peace(number, tmp_path, in_peace, tally):
    killed = try_kills("walks", number, MOST_KILLS, tmp_path, in_peace)
    assert 1 <= killed <= MOST_KILLS and not list(tmp_path.rglob("*.part"))
    assert_same_tables(ALL["walks"].read_tables(tmp_path), in_peace("walks")[0])
    tally(f"{KILLED} (walks)", killed)


@pytest.mark.long
@pytest.mark.parametrize("number", range(100, 120))
@pytest.mark.parametrize("name", KINDS)
def test_twenty_of_each_kind(name, number, tmp_path, in_peace, tally):
    killed = try_kills(name, number, MOST_KILLS, tmp_path, in_peace)
    assert 1 <= killed <= MOST_KILLS and not list(tmp_path.rglob("*.part"))
    assert_same_tables(ALL[name].read_tables(tmp_path), in_peace(name)[0])
    tally(f"{KILLED} ({name})", killed)


def begin_anew(name: str, kill_at: int, build: Path, monkeypatch) -> int:
    """Kill a run that has saved nothing, as it does not for a minute; the next life ends it: how many
    files that one writes.
    """
    monkeypatch.undo()  # saves once a minute again
    monkeypatch.setattr(replicate.sources, "__path__", [*replicate.sources.__path__, WALKS])
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    assert live(ALL[name], build, kill_at, torn=kill_at % 2 == 1)[0] == signal.SIGKILL
    assert not [*build.rglob("step-*.ckpt"), *build.rglob("rows.parquet")]
    ended, written = live(ALL[name], build)
    assert ended == 0
    return written


def test_a_walk_that_was_killed_before_it_saved_begins_anew(tmp_path, in_peace, monkeypatch, tally):
    wanted, _ = in_peace("walks")
    assert begin_anew("walks", 1, tmp_path, monkeypatch) >= 1
    assert_same_tables(ALL["walks"].read_tables(tmp_path), wanted)
    assert not list(tmp_path.rglob("*.part"))
    lives = [path.read_text().split() for path in sorted(tmp_path.rglob("lives"))]
    assert lives == [["0", "0"], ["0"], ["0"], ["0"]]
    tally(f"{ANEW} (walks)")


@pytest.mark.long
@pytest.mark.parametrize("kill_at", range(1, 13))
def test_trajectories_that_were_killed_before_they_saved_begin_anew(
    kill_at, tmp_path, in_peace, monkeypatch, tally
):
    wanted, _ = in_peace("trajectories")
    assert begin_anew("trajectories", kill_at, tmp_path, monkeypatch) >= kill_at
    assert_same_tables(ALL["trajectories"].read_tables(tmp_path), wanted)
    assert not list(tmp_path.rglob("*.part"))
    tally(f"{ANEW} (trajectories)")


if __name__ == "__main__":
    replicate.sources.__path__ = [*replicate.sources.__path__, WALKS]
    _die_at(None, False, Path(sys.argv[2]) / "count")
    ALL[sys.argv[1]].spend(Path(sys.argv[2]))
