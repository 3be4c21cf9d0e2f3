"""Copies of the checkout in which a module can be wrong, and the processes that test them.

A process that has imported everything but the package is forked for every test run, which saves the
seconds that torch and pandas take to open.
"""

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from changes import Change

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "pyproject.toml", "data/claims", "data/answers")
LINKED = ("data/results", "notebooks", "docs", "README.md", "benchmarks")
# Packages that are slow to open, and safe to fork as long as they have computed nothing.
OPENED = ("torch", "torch._dynamo", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.sparse.linalg", "sympy",
          "jax", "pydantic", "typer", "pytest", "hypothesis")  # fmt: skip
POLL = 0.02  # seconds between two looks at the processes
PATIENCE = 20  # times the limit: then a process that uses none of its seconds is ended
FAILED_TO_START = (4, 5)  # pytest: wrong words, no tests


@dataclass(frozen=True)
class Trial:
    """Test files to run until one fails, a change of a file or none, and how long that may take."""

    tests: tuple[str, ...]
    limit: int  # processor seconds
    file: str = ""
    change: Change | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a trial. word: "survived" or "killed"; test: which one failed first; seconds of the
    processor.
    """

    word: str
    test: str
    seconds: float


@dataclass
class Copy:
    """A copy in a folder, and the trial that runs in it."""

    folder: Path
    trial: Trial | None = None
    child: int = 0
    begun: float = field(default=0.0)
    whole: bytes = b""

    def __post_init__(self):
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, self.folder / name)
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)

    def start(self, trial: Trial) -> None:
        """Change the file and begin to test."""
        self.trial, self.begun = trial, time.monotonic()
        if trial.change is not None:
            path = self.folder / trial.file
            self.whole = path.read_bytes()
            path.write_bytes(trial.change.apply(self.whole))
        (self.folder / "told.json").unlink(missing_ok=True)
        self.child = os.fork()
        if self.child == 0:
            _become_pytest(self.folder, trial)

    def poll(self) -> Outcome | None:
        """What became of the trial, once it is over; then the file is as it was."""
        done, _, used = os.wait4(self.child, os.WNOHANG)
        if not done and time.monotonic() <= self.begun + PATIENCE * self.trial.limit:
            return None
        if not done:  # it waits, for a lock or for a process
            os.killpg(self.child, signal.SIGKILL)
            _, _, used = os.wait4(self.child, 0)
        if self.trial.change is not None:
            (self.folder / self.trial.file).write_bytes(self.whole)
        return self._read(round(used.ru_utime + used.ru_stime, 1))

    def _read(self, seconds: float) -> Outcome:
        told = self.folder / "told.json"
        if not told.exists():
            return Outcome("killed", "none: it ran on, or died", seconds)
        code, test = json.loads(told.read_text())
        if code in FAILED_TO_START:
            raise ValueError(f"no test ran of {', '.join(self.trial.tests)}\n{self.tail()}")
        return Outcome("survived" if code == 0 else "killed", test, seconds)

    def tail(self) -> str:
        """The end of what the tests said."""
        return (self.folder / "log.txt").read_text()[-3000:]


def try_each(trials: Iterable[Trial], copies: list[Copy]) -> Iterator[tuple[Trial, Outcome, Copy]]:
    """Trials as they end, as many at a time as there are copies."""
    for name in OPENED:
        importlib.import_module(name)
    waiting, free, busy = iter(trials), list(copies), []
    while True:
        while free and (trial := next(waiting, None)) is not None:
            busy.append(free.pop())
            busy[-1].start(trial)
        if not busy:
            return
        time.sleep(POLL)
        for copy in list(busy):
            if (outcome := copy.poll()) is not None:
                busy.remove(copy)
                free.append(copy)
                yield copy.trial, outcome, copy


class _Listener:
    """Remembers the first test that failed."""

    def __init__(self):
        self.test = ""

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.test:
            self.test = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and not self.test:
            self.test = f"{report.nodeid} (import)"


def _become_pytest(folder: Path, trial: Trial) -> None:
    """Run the tests in this process, in a group of its own, and end it."""
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (trial.limit, trial.limit))
        with (folder / "log.txt").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder / "src"))
        os.environ["PYTHONPATH"] = str(folder / "src")  # for what the tests start
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take seconds to open
        pytest, listener = importlib.import_module("pytest"), _Listener()
        words = ["-x", "-q", "--color=no", "-p", "no:cacheprovider", "-m", "not long"]
        code = int(pytest.main([*words, *trial.tests], plugins=[listener]))
        (folder / "told.json").write_text(json.dumps([code, listener.test]))
    finally:
        os._exit(0)
