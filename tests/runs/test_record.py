"""What is recorded comes from a clean tree, keeps six digits, drops nothing and knows its code."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from replicate import paths, runs
from replicate.errors import BadData, BadParameter, Missing, Unavailable
from replicate.runs import machine, tables
from replicate.runs.record import round_numbers


@dataclass(frozen=True)
class Settings:
    dataset: str = "digits"
    lr: float = 0.1


def thirds(settings: Settings) -> pd.DataFrame:
    return pd.DataFrame({"seed": [0, 1], "loss": [settings.lr / 3, np.nan]})


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(machine, "commit", lambda: ("abc", False))
    return tmp_path


def test_recorded_numbers_have_six_digits():
    runs.produce_or_load(thirds, Settings())
    runs.record(thirds, {"digits": Settings()}, "cpu")
    table = runs.load_recorded(thirds, "cpu")
    assert table.loss[0] == 0.0333333 and np.isnan(table.loss[1])
    assert table[["dataset", "commit"]].drop_duplicates().to_numpy().tolist() == [["digits", "abc"]]


def test_settings_stay_with_a_table_and_are_not_copied_at_every_operation():
    runs.produce_or_load(thirds, Settings())
    runs.record(thirds, {"digits": Settings()}, "cpu")
    for table in (
        runs.load_recorded(thirds, "cpu"),
        runs.load_cached(thirds, {"digits": Settings()}),
    ):
        selected = table[table.seed == 0].assign(more=1)
        (key,) = table.key.unique()
        assert selected.attrs["settings"][key] == {"dataset": "digits", "lr": 0.1}
        assert selected.attrs["settings"] is table.attrs["settings"]


def test_a_recorded_table_is_verified_once_a_reading(monkeypatch):
    runs.produce_or_load(thirds, Settings())
    runs.record(thirds, {"digits": Settings()}, "cpu")
    verified, verify = [], tables.has_its_checksum
    monkeypatch.setattr(
        tables, "has_its_checksum", lambda arrow: verified.append(1) or verify(arrow)
    )
    assert len(runs.load_recorded(thirds, "cpu")) == 2
    assert len(verified) == 1


@pytest.mark.parametrize("value", [0.0, -1234567.0, 1e-30, np.inf])
def test_rounding_keeps_the_size(value):
    found = round_numbers(pd.DataFrame({"x": [value]})).x[0]
    assert found == pytest.approx(value, rel=5e-6)


def test_what_a_changed_tree_ran_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: ("abc", True))
    runs.produce_or_load(thirds, Settings())
    with pytest.raises(BadData, match="changed tree; commit"):
        runs.record(thirds, {"digits": Settings()}, "cpu")
    assert not paths.RESULTS.exists()


def test_nothing_on_disk_records_nothing():
    assert runs.record(thirds, {"digits": Settings()}, "cpu") is None and not paths.RESULTS.exists()


def test_recording_again_drops_nothing_and_changes_nothing():
    for lr in (0.1, 0.2):
        runs.produce_or_load(thirds, Settings(lr=lr))
        path = runs.record(thirds, {"digits": Settings(lr=lr)}, "cpu")
    before = path.read_bytes()
    runs.record(thirds, {"digits": Settings(lr=0.1)}, "cpu")
    assert path.read_bytes() == before
    assert (
        runs.read_table(path).key.nunique() == 2 and len(runs.provenance_of(path)["records"]) == 2
    )


def test_code_that_changed_since_is_older_code(monkeypatch):
    runs.produce_or_load(thirds, Settings())
    runs.record(thirds, {"digits": Settings()}, "cpu")
    assert runs.list_older(thirds, "cpu") == []
    monkeypatch.setattr(
        sys.modules["replicate.runs.record"], "code_digest", lambda experiment, chosen=(): "another"
    )
    assert runs.list_older(thirds, "cpu") == ["digits"]


def named_before(settings: Settings) -> pd.DataFrame:
    return pd.DataFrame({"seed": [0], "regime": ["source"], "lost": [3.0]})


def named_now(settings: Settings) -> pd.DataFrame:
    return pd.DataFrame({"seed": [0], "loss": [0.5], "note": [""], "lost": [np.nan]})


def test_a_text_that_only_older_rows_have_does_not_reach_the_rows_that_count(monkeypatch):
    """A column `regime` that today's code adds when it judges would meet an empty one of that name."""
    named_before.__name__ = named_now.__name__ = "named"
    codes = {named_before: "before", named_now: "now"}
    for module in ("record", "cache"):
        patched = sys.modules[f"replicate.runs.{module}"]
        monkeypatch.setattr(patched, "code_digest", lambda run, chosen=(): codes[run])
    for code in (named_before, named_now):
        runs.produce_or_load(code, Settings())
        runs.record(code, {"digits": Settings()}, "cpu")
    table = runs.load_recorded(named_now, "cpu")
    assert table.loss.tolist() == [0.5] and table.note.tolist() == [""]
    assert "regime" not in table and np.isnan(table.lost.item())
    assert "regime" in runs.read_table(runs.record_path(named_now, "cpu"))


def test_an_exported_file_reads_as_it_was_written(folders):
    runs.produce_or_load(thirds, Settings())
    exported = runs.export(thirds, {"digits": Settings()}, "gpu", folders / "out")
    rows, provenance = runs.read_export(exported)
    assert provenance["preset"] == "gpu" and set(provenance["records"]) == set(rows.key)
    assert rows.loss[0] == 0.0333333


def test_a_table_that_nobody_exported_is_refused(folders):
    for provenance in ({}, {"records": {}}, {"records": [1]}, {"records": {"key": 7}}):
        runs.write_table(folders / "t.parquet", pd.DataFrame({"x": [1]}), provenance)
        with pytest.raises(BadData, match="run --out"):
            runs.read_export(folders / "t.parquet")
    with pytest.raises(Missing):
        runs.read_export(folders / "absent.parquet")


def test_carried_results_are_of_today_s_code(monkeypatch):
    runs.produce_or_load(thirds, Settings())
    runs.record(thirds, {"digits": Settings()}, "cpu")
    monkeypatch.setattr(
        sys.modules["replicate.runs.record"], "code_digest", lambda experiment, chosen=(): "another"
    )
    runs.carry(thirds, "cpu", runs.load_recorded(thirds, "cpu").key.unique())
    assert runs.list_older(thirds, "cpu") == [] and len(runs.load_recorded(thirds, "cpu")) == 2


# The machine.


def test_the_commit_is_gits_else_the_environments_else_missing(monkeypatch, tmp_path):
    monkeypatch.undo()
    machine.commit.cache_clear()
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setenv("REPLICATE_COMMIT", "0123456789abcdef")
    assert machine.commit() == ("0123456789ab", False)
    machine.commit.cache_clear()
    monkeypatch.delenv("REPLICATE_COMMIT")
    with pytest.raises(Missing, match="REPLICATE_COMMIT"):
        machine.commit()
    machine.commit.cache_clear()


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5"])
def test_jobs_are_a_whole_number(monkeypatch, asked):
    monkeypatch.setenv("REPLICATE_JOBS", asked)
    with pytest.raises(BadParameter, match="REPLICATE_JOBS"):
        runs.jobs()


def test_a_device_is_what_was_asked_for_or_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for asked, found in (("", "cpu"), ("auto", "cpu"), ("cpu", "cpu")):
        monkeypatch.setenv("REPLICATE_DEVICE", asked)
        assert runs.device() == found
    monkeypatch.setenv("REPLICATE_DEVICE", "cuda")
    with pytest.raises(Unavailable, match="--device cpu"):
        runs.device()
    monkeypatch.setenv("REPLICATE_DEVICE", "gpu")
    with pytest.raises(BadParameter, match="got 'gpu'"):
        runs.device()


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A repository with a commit, and a tree unpacked in a folder that it ignores; the machine
    looks afresh.
    """
    monkeypatch.undo()
    monkeypatch.delenv("REPLICATE_COMMIT", raising=False)
    (tmp_path / ".gitignore").write_text("unpacked\n")
    (tmp_path / "unpacked").mkdir()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "outer"]):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True
        )
    machine.commit.cache_clear()
    yield tmp_path
    machine.commit.cache_clear()


def test_the_commit_of_a_repository_around_the_tree_is_never_taken_for_the_trees(
    monkeypatch, repository
):
    monkeypatch.setattr(machine, "ROOT", repository / "unpacked")
    with pytest.raises(
        Missing, match="the commit of the code in .*unpacked is not known: .*REPLICATE_COMMIT"
    ):
        machine.commit()
    monkeypatch.setenv("REPLICATE_COMMIT", "0123456789abcdef")
    assert machine.commit() == ("0123456789ab", False)


@pytest.mark.parametrize("linked", [False, True])
def test_the_tree_that_is_the_repository_has_its_commit_and_says_whether_it_differs(
    monkeypatch, repository, linked
):
    if linked:
        (repository / "unpacked" / "link").symlink_to(repository)
    monkeypatch.setattr(machine, "ROOT", repository / "unpacked" / "link" if linked else repository)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert machine.commit() == (head.stdout[:12], False)
    machine.commit.cache_clear()
    (repository / "new").touch()
    assert machine.commit() == (head.stdout[:12], True)


def test_where_a_system_does_not_say_which_cores_are_ours_all_of_them_are_counted(monkeypatch):
    monkeypatch.delenv("REPLICATE_JOBS", raising=False)
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 7)
    assert machine.jobs() == 7
