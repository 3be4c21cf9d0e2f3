"""A run of each kind that is killed, at any of the files it writes, ends at the tables of one that nobody
killed, bit by bit.

A life is a fork of this process, in which everything is imported and nothing has been computed, so that
no thread of a framework is lost. It ends with SIGKILL at its n-th file, half the time before the file has
its name. A trial counts only if every life after the first found something to go on from, and wrote more.
"""

import os
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import replicate.sources
from replicate import paths, progress, runs
from replicate.runs.tables import read_table
from replicate.sources.protocol import Source

KILLED = "kills by SIGKILL, tables bit-identical after the resume"
PATIENCE = 300  # seconds of a life


@dataclass(frozen=True)
class Kind:
    """An experiment with runs of this kind, at the size of a test; the lives of a short trial cost seconds."""

    source: str
    experiment: str
    changes: tuple[tuple[str, object], ...] = ()

    def settings(self):
        source = Source(self.source)
        entries = source[self.experiment].chosen(source.presets["smoke"])
        return replace(source.tiny(next(iter(entries.values()))), **dict(self.changes))


QUICK = {"walks": Kind("walks2026toy", "walk")}  # made for tests; saves after every step
KINDS = {
    "trajectories": Kind("sandler2023trajectories", "figure_5"),
    "Lookahead": Kind("zhang2019lookahead", "table_1"),
    "extrapolation": Kind("fabi2021extrapolation", "networks"),
    "descent": Kind("warmerdam2020descent", "rates"),
}


@pytest.fixture(autouse=True)
def save_at_once(monkeypatch):
    """After every piece of work, not every minute; and the walks beside the sources."""
    made = str(Path(__file__).parent / "sources")
    monkeypatch.setattr(replicate.sources, "__path__", [*replicate.sources.__path__, made])
    monkeypatch.setattr(progress, "SAVE_SECONDS", 0)
    monkeypatch.setattr(progress, "SAVE_SHARE", float("inf"))
    monkeypatch.setenv("REPLICATE_JOBS", "1")


def live(kind: Kind, build: Path, kill_at: int | None, unnamed: bool) -> tuple[int, int]:
    """(signal that ended a life, files that it wrote). kill_at: the file at which it ends, from 1."""
    count = build / "count"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            paths.BUILD = build
            _die_at(kill_at, unnamed, count)
            runs.produce_or_load(Source(kind.source)[kind.experiment], kind.settings())
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    written = int(count.read_text()) if count.exists() else 0
    count.unlink(missing_ok=True)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), written


def _die_at(kill_at: int | None, unnamed: bool, count: Path) -> None:
    """Count the files that are given their names, and end this process at one of them."""
    written, rename = 0, os.replace

    def give_name(source, target):
        nonlocal written
        ends = written + 1 == kill_at
        if not (ends and unnamed):
            rename(source, target)
            written += 1
        count.parent.mkdir(exist_ok=True)
        count.write_text(str(written))
        if ends:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = give_name


def read_tables(build: Path) -> dict[str, pd.DataFrame]:
    return {
        str(path.relative_to(build)): read_table(path)
        for path in sorted(build.rglob("table.parquet"))
    }


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory):
    """kind -> (tables of the run that nobody killed, files that it wrote), made when asked for."""
    made = {}

    def of(name: str):
        if name not in made:
            build = tmp_path_factory.mktemp("peace")
            kind = (QUICK | KINDS)[name]
            kind.settings()  # imports the source and what it needs, before the forks
            ended, written = live(kind, build, None, False)
            assert ended == 0 and written > 2, (name, written)
            made[name] = read_tables(build), written
        return made[name]

    return of


def try_kills(name: str, number: int, most_kills: int, build: Path, in_peace) -> int:
    """Kill a run up to `most_kills` times, let it end, compare; how often it was killed."""
    wanted, files = in_peace(name)
    draw = np.random.default_rng([sorted(QUICK | KINDS).index(name), number])
    planned = np.sort(
        draw.choice(
            np.arange(2, files), min(draw.integers(1, most_kills + 1), files - 2), replace=False
        )
    )
    done, killed, resumed = 0, 0, []
    for at in planned:
        if at <= done:  # a checkpoint is written at other moments in another life
            continue
        unnamed = bool(draw.integers(2))
        ended, written = live((QUICK | KINDS)[name], build, int(at - done), unnamed)
        resumed.append((done, written))
        done += written
        if ended == 0:
            break
        assert ended == signal.SIGKILL
        killed += 1
    ended, written = live((QUICK | KINDS)[name], build, None, False)
    resumed.append((done, written))
    assert ended == 0 and killed > 0 and all(before > 0 for before, _ in resumed[1:]), resumed
    assert written < files, "the last life began anew"
    found = read_tables(build)
    assert found.keys() == wanted.keys()
    for path, table in wanted.items():
        pd.testing.assert_frame_equal(found[path], table, check_exact=True)
    assert not list(build.rglob("*.part"))
    return killed


@pytest.mark.parametrize("number", range(4))
def test_a_killed_run_ends_at_the_tables_of_one_left_in_peace(number, tmp_path, in_peace, tally):
    tally(f"{KILLED} (walks)", try_kills("walks", number, 3, tmp_path, in_peace))


@pytest.mark.long
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("name", KINDS)
def test_twenty_of_each_kind(name, number, tmp_path, in_peace, tally):
    tally(f"{KILLED} ({name})", try_kills(name, 100 + number, 3, tmp_path, in_peace))
