"""A recorded table of two seeds, and a home whose data/results/ may not change."""

import shutil
import sys
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
