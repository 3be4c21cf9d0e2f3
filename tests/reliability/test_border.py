"""`record DIR` is a border: a table that claims to be what it is not is refused in one line, and
data/results/ keeps every byte.

The attacker knows the code: checksums and keys are computed anew after each change, so that only what is
told apart by its meaning can be. A table that was measured passes.
"""

import copy
import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.append(str(Path(__file__).parents[1] / "app"))  # where the made-up record is
from records import FILE, SOURCE, write_record

from replicate import paths, runs
from replicate.app import border, recording, registry
from replicate.errors import BadData
from replicate.runs import tables

KIND = "tables from elsewhere"
IDENTIFIED = ("settings", "code", "found_by_folder", "numerics")
MARKUP = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A table of two seeds as another machine writes it."""
    return write_record(tmp_path_factory.mktemp("honest") / FILE, seeds=2, branches=1)


@pytest.fixture(autouse=True)
def home(honest, tmp_path, monkeypatch):
    """A folder of its own with a recorded table and its verdicts, neither of which may change."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "data" / "results")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    recorded = paths.RESULTS / "cpu" / SOURCE
    recorded.mkdir(parents=True)
    shutil.copy(honest, recorded)
    (recorded / "verdicts.csv").write_text("claim,verdict\n")
    return tmp_path


def snapshot(folder):
    """Every file below a folder, with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder, rows, provenance, name=FILE):
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_table(folder / name, rows, provenance)
    return folder


def rekey(rows, provenance):
    """Rows and provenance with the keys that the records have by right; what has none keeps its own."""
    keys = {}
    for key, record in provenance["records"].items():
        try:
            keys[key] = runs.key_of(*(record[name] for name in IDENTIFIED))
        except (KeyError, TypeError, ValueError):
            keys[key] = key
    records = {
        keys[key]: record | ({"key": keys[key]} if "key" in record else {})
        for key, record in provenance["records"].items()
    }
    return rows.assign(key=rows.key.map(keys)), provenance | {"records": records}


def refused(folder, home, words):
    before = snapshot(home / "data")
    with pytest.raises(BadData) as failure:
        recording.record_folder(folder)
    line = str(failure.value)
    assert "\n" not in line and len(line) < 900 and words in line, line
    assert snapshot(home / "data") == before
    assert not list(home.rglob("*canary*"))


def field(**fields):
    """Every record with other fields; `...` leaves one out."""

    def change(rows, provenance):
        for record in provenance["records"].values():
            record.update(fields)
            for name in [name for name, value in record.items() if value is ...]:
                del record[name]
        return rekey(rows, provenance)

    return change


def setting(**fields):
    def change(rows, provenance):
        for record in provenance["records"].values():
            record["settings"].update(fields)
        return rekey(rows, provenance)

    return change


def top(**fields):
    return lambda rows, provenance: (rows, provenance | fields)


def column(name, value):
    return lambda rows, provenance: (rows.assign(**{name: value}), provenance)


def cell(name, value, row=3):
    """One cell of the rows with another value."""

    def change(rows, provenance):
        values = rows[name].tolist()
        values[row] = value
        return rows.assign(**{name: values}), provenance

    return change


def key(new):
    """The same key in all places, which is not the hash of what it stands for."""

    def change(rows, provenance):
        (record,) = provenance["records"].values()
        return rows.assign(key=new), provenance | {"records": {new: record | {"key": new}}}

    return change


def another(**fields):
    """A second result beside the honest one."""

    def change(rows, provenance):
        (record,) = copy.deepcopy(list(provenance["records"].values()))
        record["code"] = "0" * 16
        record.update(fields)
        more, second = rekey(rows, {"records": {record["key"]: record}})
        together = pd.concat([rows, more], ignore_index=True)
        return together, provenance | {"records": provenance["records"] | second["records"]}

    return change


def todays(change):
    """The change, in a table that says today's code made it."""

    def of_today(rows, provenance):
        for record in provenance["records"].values():
            modules = tuple(sorted(record["found_by_folder"]))
            record["code"] = runs.code_digest(registry.source(SOURCE)["figure_5"], modules)
        return change(*rekey(rows, provenance))

    return of_today


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


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
    refused(write(home / "out", rows, provenance), home, words)


def test_the_table_that_the_cases_change_is_recorded(honest, home):
    assert recording.record_folder(honest.parent) == {(SOURCE, "gpu")}
    assert {path.name for path in (home / "data").rglob("*.*")} >= {FILE, "verdicts.csv"}
    assert (paths.RESULTS / "gpu" / SOURCE / FILE).exists()


# Files.


def rewrite(honest, folder, change, name=FILE):
    """The table with its parquet changed by `change(arrow) -> arrow`; the checksum is computed anew."""
    arrow = pq.read_table(honest)
    metadata = arrow.schema.metadata
    arrow = change(arrow)
    given = {**metadata, **(arrow.schema.metadata or {})}
    arrow = arrow.replace_schema_metadata(given)
    given[tables.CHECKSUM] = tables._checksum(arrow, given[tables.FIELD])
    folder.mkdir(exist_ok=True)
    pq.write_table(arrow.replace_schema_metadata(given), folder / name)
    return folder


def described(text):
    return lambda arrow: arrow.replace_schema_metadata({tables.FIELD: text})


def with_column(name, values):
    return lambda arrow: arrow.append_column(name, values(len(arrow)))


def pandas_is_told(text):
    return lambda arrow: arrow.replace_schema_metadata({b"pandas": text})


ARROWS = {
    "description is no JSON": (described(b"{"), "damaged"),
    "description is a list": (described(b"[]"), "is not a table that"),
    "description is nested": (described(b"[" * 100_000), "damaged"),
    "description holds NaN": (described(b'{"preset": NaN}'), "no number of JSON"),
    "description is no text": (described(b"\xff\xfe"), "damaged"),
    "description is large": (described(b'"' + b"x" * 2**22 + b'"'), "bytes about itself"),
    "a column of lists": (with_column("x", lambda n: pa.array([[1]] * n)), "neither numbers nor"),
    "a column of bytes": (with_column("x", lambda n: pa.array([b"\x80"] * n)), "neither numbers"),
    "a column of moments": (with_column("x", lambda n: pa.array([0] * n, pa.timestamp("s"))), "neither"),
    "a column of decimals": (with_column("x", lambda n: pa.nulls(n, pa.decimal128(5))), "neither"),
    "a column of structures": (with_column("x", lambda n: pa.array([{"a": 1}] * n)), "neither"),
    "two columns of one name": (with_column("arm", lambda n: pa.array(["raw"] * n)), "two columns"),
    "a column without a name": (with_column("", lambda n: pa.array([1] * n)), "a column called ''"),
    "a column of two lines": (with_column("a\nb", lambda n: pa.array([1] * n)), "a column called"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARROWS)
def test_a_file_of_another_make_is_refused(honest, home, name):
    change, words = ARROWS[name]
    refused(rewrite(honest, home / "out", change), home, words)


def test_what_pandas_is_told_in_the_file_changes_nothing(honest, home):
    told = json.dumps({"index_columns": ["key"], "columns": [], "pandas_version": "x"}).encode()
    rewrite(honest, home / "out", pandas_is_told(told))
    rows, _ = runs.read_export(home / "out" / FILE)
    pd.testing.assert_frame_equal(rows, runs.read_export(honest)[0])


class Canary:
    """What pickle would run: it leaves a file named canary."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "canary"),)


def test_a_type_that_is_a_pickle_is_not_run(honest, home):
    import pickle

    arrow = pq.read_table(honest)
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Canary(home)),
    }
    field = pa.field("x", pa.list_(pa.int64())).with_metadata(metadata)
    arrow = arrow.append_column(field, pa.array([[1]] * len(arrow)))
    (home / "out").mkdir()
    pq.write_table(arrow, home / "out" / FILE)
    refused(home / "out", home, "neither numbers nor texts")
    pickle.loads(metadata[b"ARROW:extension:metadata"])  # it would have
    assert (home / "canary").is_dir()


def test_a_table_that_unpacks_to_more_than_memory_is_refused_before(honest, home):
    arrow = pq.read_table(honest)
    few = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_001, np.int8)), ["raw"])
    (home / "out").mkdir()
    table = pa.table({"arm": few}, metadata=arrow.schema.metadata)
    pq.write_table(table, home / "out" / FILE, compression="zstd")
    assert (home / "out" / FILE).stat().st_size < 20_000
    refused(home / "out", home, "has 2000001 rows, more than")


def test_texts_that_fill_the_memory_are_refused_before(honest, home):
    (home / "out").mkdir()
    long = pa.array(["x" * 2**20] * 260)
    pq.write_table(
        pa.table({"arm": long}), home / "out" / FILE, compression="zstd", use_dictionary=False
    )
    refused(home / "out", home, "bytes when unpacked, more than")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a folder", "text", "nothing in it"])
def test_what_is_no_table_is_refused(honest, home, kind):
    out = home / "out"
    out.mkdir()
    if kind == "folder":
        (out / FILE).mkdir()
        (out / FILE / "inner.parquet").write_bytes(honest.read_bytes())
    elif kind == "pipe":
        os.mkfifo(out / FILE)
    elif kind == "link to a folder":
        (out / FILE).symlink_to(honest.parent)
    else:
        (out / FILE).write_text("#!/bin/sh\ntouch canary\n" if kind == "text" else "")
    words = "damaged" if kind in ("text", "nothing in it") else "is no plain file"
    refused(out, home, words)


@pytest.mark.parametrize("name", ["evil.parquet", "figure_5.parquet", "fabi2021extrapolation-paths.parquet",
                                  f"{SOURCE}-figure_6.parquet", f".{FILE}"])  # fmt: skip
def test_a_table_by_another_name_is_refused(honest, home, name):
    write(home / "out", *runs.read_export(honest), name)
    refused(home / "out", home, "must be called")


@pytest.mark.parametrize("bad", ["a.parquet", "z.parquet"])
def test_one_bad_table_keeps_the_good_ones_out(honest, home, bad):
    out = write(home / "out", *runs.read_export(honest))
    write(out, *runs.read_export(honest), bad)
    refused(out, home, "must be called")


# All or nothing, and what the checks are worth.


def test_the_same_run_with_other_numbers_raises_an_alarm(honest, home):
    rows, provenance = runs.read_export(honest)
    write(paths.RESULTS / "gpu" / SOURCE, rows, provenance)
    other = write(home / "out", rows.assign(train_loss=rows.train_loss * 1.001), provenance)
    refused(other, home, "two attempts of the same run")


@pytest.mark.parametrize("error", [KeyError("written"), TypeError("agg"), RecursionError()])
def test_where_judging_fails_nothing_was_recorded(honest, home, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("replicate.app.verdicts.write_recorded", fail)
    refused(honest.parent, home, "cannot be judged")


@pytest.mark.parametrize("at", [1, 2])
def test_where_a_file_cannot_be_moved_those_before_it_are_moved_back(honest, home, monkeypatch, at):
    judged = itertools.count()
    monkeypatch.setattr(recording, "judge_recorded", lambda touched: [
        paths.write_atomic(paths.RESULTS / preset / name / "verdicts.csv", str(next(judged)).encode())
        for name, preset in touched
    ])  # fmt: skip
    recording.record_folder(honest.parent)
    before = snapshot(home / "data")
    rows, provenance = another()(*runs.read_export(honest))
    out, real, moves = write(home / "out", rows, provenance), os.replace, []

    def fail_once(source, target):
        if "after" in str(source) and str(target).endswith((".parquet", ".csv")):
            if "results" in str(target):
                moves.append(target)
                if len(moves) == at:
                    raise OSError(5, "Input/output error", str(target))
        return real(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        recording.record_folder(out)
    assert len(moves) == at and snapshot(home / "data") == before
    recording.record_folder(out)
    assert snapshot(home / "data") != before


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
    """Tables that were measured, one of each source."""
    folder, passed = paths.ROOT / "data" / "results" / preset, 0
    for path in sorted(folder.glob("*/*.parquet"))[::6]:
        rows, provenance = tables.read_table(path), tables.provenance_of(path)
        records = {
            key: {name: value for name, value in record.items() if name != "carried"}
            for key, record in provenance["records"].items()
            if "found_by_folder" in record  # older ones do not say on which data they were run
            and key in set(rows.key)
        }
        if records:
            rows = rows[rows.key.isin(records)]
            write(home / "out", rows, {"preset": preset, "records": records}, path.name)
            passed += len(border.read(home / "out" / path.name).records)
    assert passed or not folder.exists()
