"""What benchmarks measure on a GPU runs as stages of evidence, recorded as source `speed`."""

import sys

import numpy as np
import pytest

from replicate import paths, runs
from replicate.app import benchmarks, cli, readme, recording, registry, stages
from replicate.errors import BadData
from replicate.runs import digest, identity, machine
from replicate.runs.cache import source_of
from replicate.runs.tables import provenance_of


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Folders of its own, a clean commit, the CPU, no other source."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(machine, "commit", lambda: ("0123456789ab", False))
    monkeypatch.setattr(runs, "commit", lambda: ("0123456789ab", False))
    monkeypatch.setattr(registry, "sources", list)
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    return tmp_path


def call(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    return cli.main()


def test_every_experiment_of_the_folder_is_a_stage():
    assert {each.name for each in stages.stages()} == {
        f"speed.{name}.synthetic"
        for name in ("ceilings", "host", "scripts", "side_by_side", "training_step", "wrappers")
    }
    for name, experiment in benchmarks.experiments().items():
        assert experiment.name == name and source_of(experiment) == "speed" and experiment.evidence


def test_without_the_folder_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert benchmarks.experiments() == {} and benchmarks.presets() == {}
    line = f"going on without speed: no folder benchmarks in {tmp_path}\n"
    assert capsys.readouterr().err == line
    assert readme._speed() == "" and capsys.readouterr().err == ""


def test_a_dry_run_is_no_evidence(alone, monkeypatch):
    out = str(alone / "out")
    words = "evidence --preset gpu --device cpu --budget 1m --only speed.ceilings --out".split()
    assert call(monkeypatch, *words, out) == 0
    (path,) = (alone / "out").iterdir()
    assert path.name == "speed-ceilings.parquet" and provenance_of(path)["preset"] == "smoke"
    ceilings = benchmarks.experiments()["ceilings"]
    assert runs.load_cached(ceilings, benchmarks.presets()["gpu"]).empty


def test_what_was_recorded_is_shown_with_its_goals(alone, monkeypatch):
    presets = benchmarks.presets()
    stages.run(stages.stages("speed.host", dry=True), alone / "out", print, preset="gpu")
    with pytest.raises(BadData, match="only a preset's own settings are recorded"):
        recording.record_folder(alone / "out")
    monkeypatch.setitem(presets, "gpu", presets["smoke"])  # as if the GPU's were the tiny sizes
    assert recording.record_folder(alone / "out") == {("speed", "gpu")}
    text = readme._speed()
    assert text.startswith("**Speed on ") and "| resnet8 b8: host busy, of a round |" in text
    assert all(each.done for each in stages.stages("speed.host"))


def test_a_goal_is_shown_by_its_number_and_range():
    assert benchmarks.goal_in_words("G4 b1024") == ("G4", "at least 1")
    assert benchmarks.goal_in_words("") == ("", "")


def test_the_digest_covers_the_folder(monkeypatch):
    scripts = benchmarks.experiments()["scripts"]
    reached = digest._with_imports(digest._reach(*_syntax_of(scripts))[1])
    assert {"benchmarks.peers", "benchmarks.gpu._jobs", "replicate.datasets.batches"} <= reached
    assert str(paths.ROOT / "benchmarks" / "peers.py") in identity.IMPORTED


def _syntax_of(experiment):
    path = paths.ROOT / "benchmarks" / "gpu" / f"{experiment.name}.py"
    return digest._syntax(path), experiment.name


def test_the_rate_of_the_floor_is_of_products(monkeypatch):
    fake = lambda jobs, rounds, device: {"product": _run(jobs, rounds)}  # noqa: E731
    monkeypatch.setattr(stages, "clock", fake)
    assert stages.matrix_rate("cpu", 10) == 2 * 10**3 / 0.5


def _run(jobs, rounds):
    assert rounds == 5 and jobs["product"]().shape == (10, 10)
    return np.array([0.5, 0.75, 1.0, 2.0, 3.0])
