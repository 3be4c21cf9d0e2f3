"""What an attacker who knows the code writes, with checksums and keys computed anew, and what `record
DIR` must do with it.
"""

import copy
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

sys.path.append(str(Path(__file__).parents[1] / "app"))  # where the made-up record is
from records import FILE, SOURCE

from replicate import runs
from replicate.app import recording, registry
from replicate.errors import BadData
from replicate.runs import tables

IDENTIFIED = ("settings", "code", "found_by_folder", "numerics")


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


def refused(folder, home) -> str:
    """The one line with which a folder is refused, nothing of it having been recorded or run."""
    before = snapshot(home / "data")
    with pytest.raises(BadData) as failure:
        recording.record_folder(folder)
    line = str(failure.value)
    assert "\n" not in line and len(line) < 900, line
    assert snapshot(home / "data") == before
    assert not list(home.rglob("*canary*"))
    return line


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
