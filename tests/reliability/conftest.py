"""A recorded table of two seeds, a home whose data/results/ may not change, and the table of what was tried."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "app"))  # where the made-up record is
from records import FILE, SOURCE, write_record

from replicate import paths


@pytest.fixture(scope="session")
def honest(tmp_path_factory):
    """A table of two seeds as another machine writes it."""
    return write_record(tmp_path_factory.mktemp("honest") / FILE, seeds=2, branches=1)


@pytest.fixture
def home(honest, tmp_path, monkeypatch):
    """A folder of its own with a recorded table and its verdicts, neither of which may change."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "data" / "results")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    recorded = paths.RESULTS / "cpu" / SOURCE
    recorded.mkdir(parents=True)
    shutil.copy(honest, recorded)
    (recorded / "verdicts.csv").write_text("claim,verdict\n")
    return tmp_path


@pytest.fixture
def tally(record_property):
    """Count what a test has tried, once it has passed so far: tally("flips of a bit", 300)."""

    def count(kind: str, times: int = 1) -> None:
        record_property("tally", (kind, times))

    return count


@pytest.fixture(autouse=True)
def counted(request, tally) -> None:
    """Every test of a module that names a KIND is one case of it."""
    if kind := getattr(request.module, "KIND", None):
        tally(kind)


def pytest_terminal_summary(terminalreporter) -> None:
    """The table of docs/reliability.md: what was tried, and how often, by the tests that passed."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "tally":
                counts[value[0]] += value[1]
    if counts:
        terminalreporter.section("reliability")
        for kind, times in sorted(counts.items()):
            terminalreporter.write_line(f"| {kind} | {times} |")
