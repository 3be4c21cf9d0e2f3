"""Files that are no table of an experiment do not get past `record DIR`; and a folder is recorded whole or
not at all.
"""

import itertools
import json
import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_tables import FILE, SOURCE, another, refused, rewrite, snapshot, write

from replicate import paths, runs
from replicate.app import recording
from replicate.runs import tables

KIND = "tables from elsewhere"


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
    assert words in refused(rewrite(honest, home / "out", change), home)


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
    arrow = pq.read_table(honest)
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Canary(home)),
    }
    field = pa.field("x", pa.list_(pa.int64())).with_metadata(metadata)
    arrow = arrow.append_column(field, pa.array([[1]] * len(arrow)))
    (home / "out").mkdir()
    pq.write_table(arrow, home / "out" / FILE)
    assert "neither numbers nor texts" in refused(home / "out", home)
    pickle.loads(metadata[b"ARROW:extension:metadata"])  # it would have
    assert (home / "canary").is_dir()


def test_a_table_that_unpacks_to_more_than_memory_is_refused_before(honest, home):
    arrow = pq.read_table(honest)
    few = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_001, np.int8)), ["raw"])
    (home / "out").mkdir()
    table = pa.table({"arm": few}, metadata=arrow.schema.metadata)
    pq.write_table(table, home / "out" / FILE, compression="zstd")
    assert (home / "out" / FILE).stat().st_size < 20_000
    assert "has 2000001 rows, more than" in refused(home / "out", home)


def test_texts_that_fill_the_memory_are_refused_before(honest, home):
    (home / "out").mkdir()
    long = pa.array(["x" * 2**20] * 260)
    pq.write_table(
        pa.table({"arm": long}), home / "out" / FILE, compression="zstd", use_dictionary=False
    )
    assert "bytes when unpacked, more than" in refused(home / "out", home)


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
    assert words in refused(out, home)


@pytest.mark.parametrize("name", ["evil.parquet", "figure_5.parquet", "fabi2021extrapolation-paths.parquet",
                                  f"{SOURCE}-figure_6.parquet", f".{FILE}"])  # fmt: skip
def test_a_table_by_another_name_is_refused(honest, home, name):
    write(home / "out", *runs.read_export(honest), name)
    assert "must be called" in refused(home / "out", home)


@pytest.mark.parametrize("bad", ["a.parquet", "z.parquet"])
def test_one_bad_table_keeps_the_good_ones_out(honest, home, bad):
    out = write(home / "out", *runs.read_export(honest))
    write(out, *runs.read_export(honest), bad)
    assert "must be called" in refused(out, home)


# All or nothing, and what the checks are worth.


def test_the_same_run_with_other_numbers_raises_an_alarm(honest, home):
    rows, provenance = runs.read_export(honest)
    write(paths.RESULTS / "gpu" / SOURCE, rows, provenance)
    other = write(home / "out", rows.assign(train_loss=rows.train_loss * 1.001), provenance)
    assert "two attempts of the same run" in refused(other, home)


@pytest.mark.parametrize("error", [KeyError("written"), TypeError("agg"), RecursionError()])
def test_where_judging_fails_nothing_was_recorded(honest, home, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("replicate.app.verdicts.write_recorded", fail)
    assert "cannot be judged" in refused(honest.parent, home)


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
