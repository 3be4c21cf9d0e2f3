"""What the operating system refuses is one line with its exit code, leaves nothing half made, and the
same command finishes once the obstacle is gone.

A user who may not write is no case for root, and a disk without inodes none for a test, so the system's
answer is given in its place, at its own calls; what can be real is real.
"""

import errno
import functools
import os
import sys
from pathlib import Path

import pytest

import replicate.sources
from replicate import paths, runs
from replicate.app import cli, recording, registry
from replicate.runs import machine

KIND = "refusals of the operating system"
SOURCE = "walks2026toy"
RUN = ("run", SOURCE, "walk")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A folder of its own, one process, and the walks beside the sources."""
    here = Path(__file__).parent
    monkeypatch.setattr(
        replicate.sources, "__path__", [*replicate.sources.__path__, str(here / "sources")]
    )
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(machine, "commit", lambda: ("0123456789ab", False))
    monkeypatch.setattr(runs, "commit", machine.commit)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("replicate.datasets.download.REACH", 0.2)
    monkeypatch.setattr("socket.socket.connect", refuse_connection)
    return tmp_path


def refuse_connection(*_):
    raise ConnectionRefusedError("no network in this test")


@pytest.fixture
def call(monkeypatch, capfd):
    """The command line: its exit code, and its lines on stderr."""

    def call(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["replicate", *map(str, words)])
        code = cli.main()
        return code, capfd.readouterr().err.splitlines()

    return call


def list_part_files(folder):
    return [path for path in folder.rglob("*") if ".part" in path.name]


def refused(call, words, code, *says):
    """One line, with the code; no file is left half written."""
    given, lines = call(*words)
    assert given == code and len(lines) == 1, (given, lines)
    assert all(each in lines[0] for each in says), lines
    return lines[0]


def finishes(call, words=RUN):
    code, lines = call(*words)
    assert code == 0, lines
    table = runs.load_cached(
        registry.source(SOURCE)["walk"], registry.source(SOURCE).presets["smoke"]
    )
    assert len(table) == 4 * 20
    assert not list_part_files(paths.BUILD)


# Real obstacles.


def run_home():
    walk = sys.modules[f"replicate.sources.{SOURCE}.walk"]
    settings = registry.source(SOURCE).presets["smoke"]["plane"]
    return runs.cache.run_folder(walk.walk_run, settings, seeds=False)


def put_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


OBSTACLES = {
    "build/ is a file": (lambda: put_file(paths.BUILD), lambda: paths.BUILD.unlink()),
    "runs/ is a file": (
        lambda: put_file(paths.BUILD / "runs"),
        lambda: (paths.BUILD / "runs").unlink(),
    ),
    "a run's folder is a file": (
        lambda: put_file(run_home() / "seed1"),
        lambda: (run_home() / "seed1").unlink(),
    ),
    "a lock is a folder": (
        lambda: (run_home() / "seed1" / "lock").mkdir(parents=True),
        lambda: (run_home() / "seed1" / "lock").rmdir(),
    ),
    "build/ leads to itself": (
        lambda: paths.BUILD.symlink_to(paths.BUILD),
        lambda: paths.BUILD.unlink(),
    ),
    "build/ leads to nowhere": (
        lambda: paths.BUILD.symlink_to("/proc/nowhere"),
        lambda: paths.BUILD.unlink(),
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_lies_in_the_way_is_named_and_then_the_same_command_finishes(alone, call, name):
    obstruct, remove = OBSTACLES[name]
    registry.source(SOURCE)["walk"]
    obstruct()
    line = refused(call, RUN, 74, str(alone))
    assert line.startswith("NotPossible: ")
    remove()
    finishes(call)


DAMAGES = {  # of a file that is read -> what is done to it
    "a table is a folder": lambda path: (path.unlink(), path.mkdir()),
    "a table is empty": lambda path: path.write_bytes(b""),
    "a table is cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "a table is a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_named_and_made_again_once_it_is_removed(call, name):
    finishes(call)
    for path in paths.BUILD.rglob("walk-*/table.parquet"):
        path.unlink()
    path = run_home() / "seed2" / "table.parquet"
    DAMAGES[name](path)
    if name.endswith("nowhere"):  # nothing is there
        return finishes(call)
    assert str(path) in refused(call, RUN, 65)
    path.rmdir() if path.is_dir() else path.unlink()
    finishes(call)


OUTS = {
    "a file": (lambda folder: put_file(folder / "out") or folder / "out", 74),
    "a device": (lambda folder: Path("/dev/null"), 74),
    "below a file": (lambda folder: put_file(folder / "x") or folder / "x" / "out", 74),
    "in /proc": (lambda folder: Path("/proc/nowhere/out"), 66),
    "too long a name": (lambda folder: folder / ("o" * 300), 74),
    "too long a path": (lambda folder: folder / Path(*["o" * 200] * 30), 74),
}


@pytest.mark.parametrize("name", OUTS)
def test_a_folder_for_tables_that_cannot_be_is_refused_and_another_takes_them(alone, call, name):
    make, code = OUTS[name]
    given, lines = call(*RUN, "--out", make(alone))
    assert given == code and sum("Traceback" in line for line in lines) == 0
    assert len(lines) == 2 and lines[0].startswith(f"{SOURCE} walk [smoke]: 80 rows"), lines
    finishes(call, (*RUN, "--out", alone / "right"))
    assert [path.name for path in (alone / "right").iterdir()] == [f"{SOURCE}-walk.parquet"]


@pytest.mark.parametrize("data", ["d" * 300, "/".join(["d" * 200] * 30), "/dev/null", "/dev/null/x",
                                  "~nobody-of-this-name/x"])  # fmt: skip
@pytest.mark.parametrize(
    "words", [("data", "verify", "cifar10"), ("data", "fetch", "cifar10")], ids=" ".join
)
def test_a_data_folder_that_cannot_be_is_one_line(call, monkeypatch, alone, data, words):
    monkeypatch.chdir(alone)
    monkeypatch.setenv("REPLICATE_DATA", data)
    given, lines = call(*words)
    assert given in (64, 66, 74) and len(lines) == 1, lines


VARIABLES = {
    "REPLICATE_JOBS": ["0", "-1", "many", "1.5", "9" * 5000, "٣", " 2", "1e3", "inf"],
    "REPLICATE_DEVICE": ["tpu", "cuda:0", "CPU", "../x", "a\nb"],
    "REPLICATE_DEADLINE": ["soon", "nan", "12:00", "1_0_", "0x10", "a\nb"],
    "REPLICATE_COMMIT": ["v1.0", "../../x", "HEAD", "0123456789abcdefg", "a\nb"],
}


@pytest.mark.parametrize(
    "name, value",
    [(name, value) for name, values in VARIABLES.items() for value in values],
    ids=lambda text: text[:12],
)
def test_a_variable_that_cannot_be_is_refused_before_anything_runs(call, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    line = refused(call, RUN, 64)
    assert name.removeprefix("REPLICATE_DEVICE") in line and repr(value[:12])[1:10] in line
    assert not paths.BUILD.exists()
    if value == VARIABLES[name][0]:
        monkeypatch.setenv(name, {"REPLICATE_JOBS": "1", "REPLICATE_DEVICE": "cpu"}.get(name, ""))
        finishes(call)


# The system's answers.


def answer(monkeypatch, name, code, folder, after=0):
    """os.<name> says `code` of everything below `folder`, from its call `after` on."""
    real, calls = getattr(os, name), []

    @functools.wraps(real)
    def refuse(path, *args, **named):
        target = args[0] if name in ("replace", "link") else path
        reads = name == "open" and not args[0] & (os.O_WRONLY | os.O_RDWR)
        if str(target).startswith(str(folder)) and not reads:
            calls.append(target)
            if len(calls) > after:
                raise OSError(code, os.strerror(code), str(target))
        return real(path, *args, **named)

    monkeypatch.setattr(os, name, refuse)


CODES = (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO)
QUICK = (
    errno.EROFS,
    errno.ENOSPC,
)  # of the system's answers those that every run of the tests gives
ANSWERS = [
    pytest.param(
        name,
        code,
        after,
        marks=[] if code in QUICK and not after else [pytest.mark.long],
        id=f"{name} says {errno.errorcode[code]} after {after}",
    )
    for name in ("mkdir", "open", "replace")
    for code in CODES
    for after in (0, 2)
]


@pytest.mark.parametrize("name, code, after", ANSWERS)
def test_a_folder_that_cannot_be_written_is_one_line(call, monkeypatch, name, code, after):
    with monkeypatch.context() as patch:
        answer(patch, name, code, paths.BUILD, after)
        line = refused(call, RUN, 74, os.strerror(code), str(paths.BUILD))
    assert line.startswith("DiskFull: " if code in paths.NO_ROOM else "NotPossible: ")
    finishes(call)


def test_what_is_done_is_read_from_a_disk_that_cannot_be_written(call, monkeypatch):
    finishes(call)
    before = {path: path.read_bytes() for path in paths.BUILD.rglob("*") if path.is_file()}
    for name in ("mkdir", "replace"):
        answer(monkeypatch, name, errno.EROFS, paths.BUILD)
    refused(call, (*RUN, "--set", "pause=0.01"), 74, os.strerror(errno.EROFS))  # it is not done
    finishes(call)
    after = {path: path.read_bytes() for path in paths.BUILD.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize("call_name", ["open", "replace", "link", "mkdir"])
@pytest.mark.parametrize(
    "code", [errno.EROFS, errno.ENOSPC, errno.EIO], ids=lambda c: errno.errorcode[c]
)
def test_where_recorded_results_cannot_be_written_they_stay(
    call, monkeypatch, alone, honest, call_name, code
):
    monkeypatch.setattr(recording, "judge_recorded", lambda touched: None)
    old = alone / "results" / "smoke" / "x"
    put_file(old)
    with monkeypatch.context() as patch:
        answer(patch, call_name, code, alone / "results")
        answer(patch, call_name, code, alone / ".recording")
        given, lines = call("record", honest.parent)
    if call_name != "link":  # where there are no links it is copied
        assert given == 74 and len(lines) == 1, lines
        assert [path for path in (alone / "results").rglob("*") if path.is_file()] == [old]
    else:
        assert given == 0
    assert not (alone / ".recording").exists()
    assert call("record", honest.parent)[0] == 0 and old.read_text() == "x"
