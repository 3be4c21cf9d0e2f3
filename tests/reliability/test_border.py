"""`record DIR` is a border: a table that claims to be what it is not is refused in one line, and
data/results/ keeps every byte.

The attacker knows the code: checksums and keys are computed anew after each change, so that only what is
told apart by its meaning can be. A table that was measured passes.
"""

import copy

import numpy as np
import pytest
from foreign_tables import (
    FILE,
    SOURCE,
    another,
    cell,
    column,
    field,
    key,
    moment,
    refused,
    setting,
    todays,
    top,
    write,
)

from replicate import paths, runs
from replicate.app import border, recording, registry
from replicate.runs import tables

KIND = "tables from elsewhere"
MARKUP = "<script>alert(1)</script>"


CASES = {
    "preset is a path upwards": (top(preset="../../../canary"), "preset must be one of"),
    "preset is an absolute path": (top(preset="/tmp/canary"), "preset must be one of"),
    "preset goes through a right one": (top(preset="gpu/../../canary"), "preset must be one of"),
    "preset is empty": (top(preset=""), "preset must be one of"),
    "preset is a point": (top(preset="."), "preset must be one of"),
    "preset is unknown": (top(preset="nosuch"), "preset must be one of"),
    "preset is a number": (top(preset=7), "preset must be one of"),
    "preset is nothing": (top(preset=None), "preset must be one of"),
    "preset is a list": (top(preset=["gpu"]), "preset must be one of"),
    "preset holds a zero byte": (top(preset="gpu\0"), "preset must be one of"),
    "preset is long": (top(preset="g" * 300), "preset must be one of"),
    "preset has other sizes": (top(preset="cpu"), "preset cpu"),
    "a field more at the top": (top(note="x"), "unknown field 'note'"),
    "records are a list": (top(records=[{}]), "is not a table that"),
    "records are empty": (top(records={}), "is not a table that"),
    "records are numbers": (top(records={"k": 1}), "is not a table that"),
    "source is a path upwards": (field(source="../../canary"), "unknown source"),
    "source is an absolute path": (field(source="/tmp/canary"), "unknown source"),
    "source is a module of Python": (field(source="os"), "unknown source"),
    "source is another one": (field(source="fabi2021extrapolation"), "unknown experiment"),
    "source is a number": (field(source=7), "wrong source"),
    "source is nothing": (field(source=None), "wrong source"),
    "source is missing": (field(source=...), "lacks source"),
    "experiment is unknown": (field(experiment="figure_99"), "unknown experiment"),
    "experiment is a private module": (field(experiment="_branches"), "unknown experiment"),
    "experiment is its settings": (field(experiment="settings"), "unknown experiment"),
    "experiment is another one": (field(experiment="figure_6"), "must be called"),
    "experiment is a path": (field(experiment="../figure_5"), "unknown experiment"),
    "two experiments": (another(experiment="figure_6"), "must be of one experiment"),
    "key is another": (key("0" * 16), "key is not that of its settings"),
    "key is a path": (key("../../canary"), "wrong key"),
    "key is empty": (key(""), "wrong key"),
    "a key without rows": (top(records={}), "is not a table that"),
    "rows of a key without a record": (cell("key", "f" * 16), "must have rows and a record"),
    "code is markup": (field(code=MARKUP), "wrong code"),
    "code is missing": (field(code=...), "lacks code"),
    "carried to today's code by itself": (field(carried=["0" * 16]), "wrong carried"),
    "data of another checksum": (field(found_by_folder={"replicate.datasets.cifar10": "0"}), "other data"),
    "a module by an absolute path": (field(found_by_folder={"replicate./tmp/canary": "0"}), "other data"),
    "data are not named": (field(found_by_folder=...), "lacks found_by_folder"),
    "settings are a text": (field(settings="lr=0.1"), "wrong settings"),
    "settings lack one": (field(settings={}), "are not those of this code"),
    "a setting more": (setting(nosuch=1), "are not those of this code"),
    "another rate": (setting(lr=7.0), "lr = 7.0, which preset gpu does not have"),
    "a truth for a number": (setting(branches=True), "branches = True"),
    "a text for a number": (setting(lr="0.1"), "lr = 0.1"),
    "another seed": (setting(seeds=[99]), "seeds = [99]"),
    "a seed twice": (setting(seeds=[0, 0]), "seeds = [0, 0]"),
    "seeds are a number": (setting(seeds=0), "seeds = 0"),
    "seeds are lists": (setting(seeds=[[0]]), "seeds = [[0]]"),
    "seeds are truths": (setting(seeds=[False]), "seeds = [False]"),
    "numerics are a text": (field(numerics="AVX512"), "wrong numerics"),
    "device is markup over lines": (field(device="a\nb"), "wrong device"),
    "device is long": (field(device="a" * 300), "wrong device"),
    "device of the rows is another": (column("device", "another"), "column device of"),
    "commit is a path": (field(commit="../../x"), "wrong commit"),
    "commit is unknown": (field(commit="unknown"), "wrong commit"),
    "commit of the rows is another": (column("commit", "f" * 12), "column commit of"),
    "the tree was changed": (field(dirty=True), "changed tree"),
    "whether it was changed is empty": (field(dirty=""), "wrong dirty"),
    "whether it was changed is zero": (field(dirty=0), "wrong dirty"),
    "whether it was changed is not said": (field(dirty=...), "lacks dirty"),
    "seconds below zero": (field(seconds=-1.0), "wrong seconds"),
    "seconds are a text": (field(seconds="1"), "wrong seconds"),
    "versions are a list": (field(versions=["torch"]), "wrong versions"),
    "written in the year 9999": (field(written="9999-01-01T00:00:00Z"), "in the future"),
    "written in two days": (field(written=moment(2 * 86400)), "in the future"),
    "written before the project": (field(written="1970-01-01T00:00:00Z"), "must be a moment"),
    "written on no day": (field(written="2026-02-30T00:00:00Z"), "must be a moment"),
    "written without a zone": (field(written="2026-01-01T00:00:00"), "must be a moment"),
    "written is a number": (field(written=20260101), "wrong written"),
    "data set of no preset": (column("dataset", "imagenet"), "not on 'imagenet'"),
    "data set is a number": (column("dataset", 5), "column dataset must hold a text"),
    "two data sets for one key": (cell("dataset", "digits"), "are of 2 data sets"),
    "no column key": (lambda rows, about: (rows.drop(columns="key"), about), "column key"),
    "no column device": (lambda rows, about: (rows.drop(columns="device"), about), "column device"),
    "no rows": (lambda rows, about: (rows.iloc[:0], about), "must have rows and a record"),
    "an arm that none declares": (cell("arm", "side-trop"), "did you mean 'side-trip'"),
    "a kernel that none declares": (cell("kernel", MARKUP), "unknown kernel"),
    "a window that none declares": (cell("k", 77), "unknown k"),
    "an arm of two lines": (cell("arm", "raw\nraw"), "can be printed"),
    "an arm that turns the line": (cell("arm", "raw\u202e"), "can be printed"),
    "a text without end": (column("kernel", "x" * 5000), "at most"),
    "a seed that was not run": (cell("seed", 99), "has no seed 99"),
    "an infinite loss": (cell("train_loss", np.inf), "holds an infinite number"),
    "a loss below all": (cell("test_loss", -np.inf), "holds an infinite number"),
    "an accuracy of seven": (cell("top1", 7.0), "a share from 0 to 1"),
    "an accuracy below zero": (cell("train_top1", -0.1), "a share from 0 to 1"),
    "texts for losses": (column("train_loss", "0.1"), "must hold numbers"),
    "a text for a loss": (column("test_loss", "low"), "must hold numbers"),
    "today's code without a loss": (todays(lambda rows, about: (rows.drop(columns="arm"), about)), "lacks a column"),
    "a number for an arm": (column("arm", 1), "unknown arm"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_table_that_is_not_what_it_says_is_refused(honest, home, name):
    change, words = CASES[name]
    rows, provenance = runs.read_export(honest)
    rows, provenance = change(rows, copy.deepcopy(provenance))
    assert words in refused(write(home / "out", rows, provenance), home)


def test_the_table_that_the_cases_change_is_recorded(honest, home):
    assert recording.record_folder(honest.parent) == {(SOURCE, "gpu")}
    assert {path.name for path in (home / "data").rglob("*.*")} >= {FILE, "verdicts.csv"}
    assert (paths.RESULTS / "gpu" / SOURCE / FILE).exists()


# Each check, taken out, and a case that then comes through or ends in a traceback.
MUTANTS = {
    "_check_record": "written in the year 9999",
    "_check_rows": "commit of the rows is another",
    "_check_settings": "another rate",
    "_check_numbers": "an accuracy of seven",
    "_check_names": "an arm that none declares",
    "_check_agreement": None,
}


def test_without_any_one_check_an_attack_succeeds(honest, home, monkeypatch, record_property):
    rows, provenance = runs.read_export(honest)
    write(paths.RESULTS / "gpu" / SOURCE, rows, provenance)
    for name, case in MUTANTS.items():
        change = CASES[case][0] if case else column("train_loss", 0.25)
        with monkeypatch.context() as patch:
            patch.setattr(border, name, lambda *_: None)
            if name != "_check_agreement":
                patch.setattr(border, "_check_agreement", lambda *_: None)
            write(home / "mutant", *change(rows, copy.deepcopy(provenance)))
            assert border.read(home / "mutant" / FILE).preset == "gpu", name
    checks = {name for name in vars(border) if name.startswith("_check_")} - {"_check_type"}
    assert checks == set(MUTANTS)
    record_property("tally", ("mutants of the border", len(MUTANTS)))


@pytest.mark.parametrize("preset", ["smoke", "cpu"])
def test_what_stands_in_the_repository_passes_the_border(home, preset):
    """Tables that were measured, some of each source: of their rows those that count today, for what
    a preset's settings were before stays in the file.
    """
    folder, passed = paths.ROOT / "data" / "results" / preset, 0
    for path in sorted(folder.glob("*/*.parquet"))[::6]:
        rows, provenance = tables.read_table(path), tables.provenance_of(path)
        source = registry.source(path.parent.name)
        experiment = source[path.stem.removeprefix(f"{source.name}-")]
        counted = set(runs.load_pool(experiment, path).key)
        records = {
            key: {name: value for name, value in record.items() if name != "carried"}
            for key, record in provenance["records"].items()
            if "found_by_folder" in record  # older ones do not say on which data they were run
            and key in counted
        }
        if records:
            rows = rows[rows.key.isin(records)]
            write(home / "out", rows, {"preset": preset, "records": records}, path.name)
            passed += len(border.read(home / "out" / path.name).records)
    assert passed or not folder.exists()
