"""Only a preset's own results enter data/results/, a folder whole or not at all; equal results are
carried to new code.
"""

import copy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import FILE, write_record

from replicate import paths, runs
from replicate.app import recording, registry, verdicts
from replicate.errors import BadData, Missing
from replicate.runs import machine

SOURCE = "sandler2023trajectories"
NAME = f"{SOURCE}-table_1.parquet"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A table as `run --out` writes it."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", folder / "build")
        patch.setattr(machine, "commit", lambda: ("0123456789ab", False))
        experiment = registry.source(SOURCE)["table_1"]
        runs.over(experiment, experiment.settings)
        return runs.export(experiment, experiment.settings, "smoke", folder)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(machine, "commit", lambda: ("0123456789ab", False))
    return tmp_path / "results"


def changed(exported: Path, folder: Path, change, name: str = NAME) -> Path:
    """The exported table in a folder of its own, its rows and provenance changed by `change(rows,
    provenance)`.
    """
    rows, provenance = runs.read_export(exported)
    provenance = copy.deepcopy(provenance)
    rows = change(rows, provenance)
    folder.mkdir(exist_ok=True)
    runs.write_table(folder / name, rows, provenance)
    return folder


def every_record(**fields):
    def change(rows, provenance):
        for record in provenance["records"].values():
            record.update(fields)
        return rows

    return change


def every_setting(**fields):
    def change(rows, provenance):
        for record in provenance["records"].values():
            record["settings"].update(fields)
        return rekey(rows, provenance)

    return change


def rekey(rows, provenance):
    """The rows with the keys that the changed records have by right, as their author can compute them."""
    keys = {
        key: runs.key_of(
            *(record[name] for name in ("settings", "code", "found_by_folder", "numerics"))
        )
        for key, record in provenance["records"].items()
    }
    provenance["records"] = {
        keys[key]: record | {"key": keys[key]} for key, record in provenance["records"].items()
    }
    return rows.assign(key=rows.key.map(keys))


def preset(value):
    def change(rows, provenance):
        provenance["preset"] = value
        return rows

    return change


def test_an_exported_table_is_recorded(exported, results):
    assert recording.record_folder(exported.parent) == {(SOURCE, "smoke")}
    recorded = runs.load_recorded(registry.source(SOURCE)["table_1"], "smoke")
    pd.testing.assert_frame_equal(recorded, runs.read_table(exported), check_dtype=False)
    assert [path.name for path in results.rglob("*.parquet")] == [NAME]


def test_recording_twice_changes_nothing(exported, results):
    recording.record_folder(exported.parent)
    before = (results / "smoke" / SOURCE / NAME).read_bytes()
    recording.record_folder(exported.parent)
    assert (results / "smoke" / SOURCE / NAME).read_bytes() == before


@pytest.mark.parametrize(("names_seeds", "asked"), [(True, (0,)), (False, (0, 1, 2))])
def test_a_table_that_names_no_seed_is_run_anew_with_all(recorded, monkeypatch, names_seeds, asked):
    """One seed's sum is not that of three."""
    experiment, asked_for = recorded["table_1"], []

    def make(_, settings):
        asked_for.append(settings.seeds)
        table = pd.DataFrame({"seed": settings.seeds, "value": 1.0})
        return table if names_seeds else pd.DataFrame({"value": [table.value.sum()]})

    before = runs.load_recorded(experiment, "smoke")
    settings = experiment.chosen(recorded.presets["smoke"])["quadratic"]
    there = make(experiment, settings).assign(dataset="quadratic", key=before.key.iloc[0])
    monkeypatch.setattr(runs, "load_recorded", lambda *_: there)
    monkeypatch.setattr(
        runs, "produce_or_load",
        lambda _, settings: make(_, settings).assign(dataset="quadratic", key=before.key.iloc[0]),
    )  # fmt: skip
    (line,) = recording.carry(recorded, "smoke")
    assert line.endswith("carried to today's code") and asked_for[-1] == asked


@pytest.mark.parametrize(("change", "words"), [
    (preset("../../../canary"), "preset must be one of"),
    (preset("nosuch"), "preset must be one of"),
    (preset(7), "preset must be one of"),
    (preset(None), "preset must be one of"),
    (every_record(source="../../canary"), "unknown source"),
    (every_record(source="os"), "unknown source"),
    (every_record(experiment="figure_99"), "unknown experiment"),
    (every_record(experiment="figure_5"), "must be called"),
    (every_setting(lr=7.0), "lr = 7.0, which preset smoke does not have"),
    (every_setting(seeds=[99]), "seeds"),
    (every_setting(nosuch=1), "not those of this code"),
    (every_record(dirty=True), "changed tree"),
    (lambda rows, provenance: rows.assign(dataset="imagenet"), "not on 'imagenet'"),
    (lambda rows, provenance: rows.assign(key="another"), "key"),
    (lambda rows, provenance: rows.drop(columns="device"), "column device"),
    (lambda rows, provenance: rows.assign(commit=1), "column commit"),
    (lambda rows, provenance: (provenance["records"][rows.key[0]].pop("written"), rows)[1], "lacks written"),
])  # fmt: skip
def test_what_is_not_a_preset_s_own_result_is_refused(exported, tmp_path, results, change, words):
    folder = changed(exported, tmp_path / "export", change)
    with pytest.raises(BadData, match=words) as failure:
        recording.record_folder(folder)
    assert "\n" not in str(failure.value)
    assert not list(tmp_path.rglob("canary*")) and not results.exists()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "arm",
            "side-trop",
            "unknown arm of figure_5 on cifar10 'side-trop'; did you mean 'side-trip'",
        ),
        ("kernel", "swan", "unknown kernel of figure_5 on cifar10 'swan'; did you mean 'swa'"),
    ],
)
def test_a_table_with_an_arm_that_no_code_declares_is_refused(
    tmp_path, results, column, value, words
):
    whole = write_record(tmp_path / "whole" / FILE, seeds=2)
    assert recording.record_folder(whole.parent) == {(SOURCE, "gpu")}
    shutil.rmtree(results)

    def misname(rows, provenance):
        rows.loc[(rows.arm == "side-trip") & (rows.kernel == "swa"), column] = value
        return rows

    folder = changed(whole, tmp_path / "export", misname, FILE)
    with pytest.raises(BadData, match=words) as failure:
        recording.record_folder(folder)
    assert "\n" not in str(failure.value) and not results.exists()


@pytest.mark.parametrize(
    ("seeds", "verdict", "reason"),
    [(8, "inconclusive", "8 of 24 seeds"), (24, "reproduced", "")],
)
def test_fewer_seeds_than_planned_are_recorded_and_their_row_says_why(
    tmp_path, results, seeds, verdict, reason
):
    path = write_record(tmp_path / "out" / FILE, preset="cpu", dataset="digits", seeds=seeds)
    assert recording.record_folder(path.parent) == {(SOURCE, "cpu")}
    rows = verdicts.read_recorded(registry.source(SOURCE), "cpu")
    row = rows[(rows.claim == "TRAJ-21.loss") & (rows.role == "primary")].iloc[0]
    assert (row.n, row.verdict, row.reason) == (seeds, verdict, reason)


def test_a_table_of_another_name_is_refused(exported, tmp_path, results):
    folder = changed(exported, tmp_path / "export", lambda rows, provenance: rows, "evil.parquet")
    with pytest.raises(BadData, match="must be called"):
        recording.record_folder(folder)
    assert not results.exists()


def test_a_folder_is_recorded_whole_or_not_at_all(exported, tmp_path, results):
    folder = changed(exported, tmp_path / "export", lambda rows, provenance: rows)
    changed(exported, folder, preset("nosuch"), "z.parquet")
    with pytest.raises(BadData):
        recording.record_folder(folder)
    assert not results.exists()


def test_a_folder_without_tables_is_missing(tmp_path):
    with pytest.raises(Missing, match="has no tables"):
        recording.record_folder(tmp_path)


# Carrying.


@pytest.fixture
def recorded(exported, monkeypatch):
    """The recorded table, made by code whose digest is not today's."""
    recording.record_folder(exported.parent)
    source = registry.source(SOURCE)
    monkeypatch.setattr(
        sys.modules["replicate.runs.record"], "code_digest", lambda experiment, chosen=(): "today"
    )
    assert runs.list_older(source["table_1"], "smoke") == ["quadratic"]
    return source


def test_results_that_today_s_code_gives_again_are_carried(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    assert list(recording.carry(recorded, "smoke")) == [
        f"{SOURCE} table_1 on quadratic: carried to today's code"
    ]
    assert runs.list_older(recorded["table_1"], "smoke") == []


def test_results_that_differ_are_not_carried(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(
        runs, "produce_or_load", lambda experiment, settings: experiment(settings).assign(value=1.5)
    )
    (line,) = recording.carry(recorded, "smoke")
    assert "not carried, value of row 1 is 1.5 instead of" in line
    assert runs.list_older(recorded["table_1"], "smoke") == ["quadratic"]


@pytest.mark.parametrize(("change", "words"), [
    (lambda table: table.assign(x=table.x * (1 + 1e-4)), "x of row 1"),
    (lambda table: table.assign(name="b"), "name of row 1"),
    (lambda table: table.iloc[:1], "1 rows instead of 2"),
    (lambda table: table.assign(x=[np.nan, 2.0]), "x of row 1"),
])  # fmt: skip
def test_a_difference_is_named(change, words):
    table = pd.DataFrame({"x": [1.0, 2.0], "name": "a"})
    assert recording.differ(table, table.copy()) == ""
    assert words in recording.differ(table, change(table))


def test_a_difference_below_six_digits_is_none():
    table = pd.DataFrame({"x": [1.0, 2.0]})
    assert recording.differ(table, table * (1 + 1e-7)) == ""
