"""A table on disk is one parquet file that carries its provenance and a checksum of both.

The checksum is of the values, not of the bytes: parquet's own covers the pages, but neither names
nor provenance.
"""

import hashlib
import io
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from replicate.errors import BadData, Missing
from replicate.paths import write_atomic

UNFINISHED_ROWS = "rows.parquet"  # of a run that is not done
MENDING = "delete it and run the same command again"  # what mends a table in build/
FIELD, CHECKSUM = b"replicate", b"replicate.sha256"  # keys of the schema's metadata


class SettingsByKey(dict):
    """Key of a run -> the fields of its settings, an attribute of a table.

    pandas copies attributes deeply at every operation. Nobody changes these: a copy is the mapping
    itself.
    """

    def __deepcopy__(self, memo: dict) -> "SettingsByKey":
        return self


def write_table(path: Path, table: pd.DataFrame, provenance: dict) -> None:
    """Write `table` and a JSON-able provenance to `path`, whole or not at all."""
    write_atomic(path, to_bytes(table, provenance))


def to_bytes(table: pd.DataFrame, provenance: dict) -> bytes:
    """A file of the table with its provenance and a checksum of both."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    text = json.dumps(provenance, sort_keys=True).encode()
    metadata = {FIELD: text, CHECKSUM: _checksum(arrow, text)}
    buffer = io.BytesIO()
    pq.write_table(
        arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **metadata}),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    return buffer.getvalue()


def read_table(path: Path) -> pd.DataFrame:
    """The table at `path`. Raises Missing, or BadData if it is cut short, or a value, name, type or
    word of its provenance has changed. (Bytes that carry none of these, such as padding and
    statistics, may change unseen.)
    """
    return _read(path).to_pandas()


def provenance_of(path: Path) -> dict:
    """What `write_table` was told about the table. Raises Missing or BadData."""
    return _parse_provenance(path, _read(path))


def read_with_provenance(path: Path) -> tuple[pd.DataFrame, dict]:
    """The table at `path` and what `write_table` was told about it, from one reading: most of that is
    the checksum. Raises Missing or BadData.
    """
    arrow = _read(path)
    return arrow.to_pandas(), _parse_provenance(path, arrow)


def checksum_of(path: Path) -> str:
    """The checksum that a table carries of its values and provenance, unverified. Raises Missing or
    BadData.
    """
    if not path.exists():
        raise Missing(f"table {path} is not there")
    try:
        return (pq.read_schema(path).metadata or {})[CHECKSUM].decode()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise explain_damage(path, error) from None


def read_columns(path: Path, columns: list[str]) -> tuple[pd.DataFrame, dict]:
    """Some columns of a recorded table and the records of its runs by key, unverified. Raises
    BadData.
    """
    try:
        arrow = pq.read_table(path, columns=columns)
        return arrow.to_pandas(), json.loads(arrow.schema.metadata[FIELD])["records"]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise explain_damage(path, error) from None


def kept_rows(folder: Path) -> list[dict]:
    """The rows that a run in this folder had when it was stopped; none if it is a new one. Raises
    BadData.
    """
    path = folder / UNFINISHED_ROWS
    return read_table(path).to_dict("records") if path.exists() else []


def keep_rows(folder: Path, rows: list[dict]) -> None:
    """Write the rows that a run has so far, to go on from when it is stopped."""
    write_table(folder / UNFINISHED_ROWS, pd.DataFrame(rows), {})


def _parse_provenance(path: Path, arrow: pa.Table) -> dict:
    try:
        return json.loads(arrow.schema.metadata[FIELD])
    except (ValueError, RecursionError) as error:  # with a checksum that is right
        raise explain_damage(path, error) from None


def _read(path: Path) -> pa.Table:
    if not path.exists():
        raise Missing(f"table {path} is not there")
    if not path.is_file():  # parquet would read all files of a folder
        raise BadData(f"{path} is no plain file; {MENDING}")
    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        whole = has_its_checksum(arrow)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise explain_damage(path, error) from None
    if not whole:
        raise BadData(f"{path} is damaged (wrong checksum); {MENDING}")
    return arrow


def has_its_checksum(arrow: pa.Table) -> bool:
    """Whether values and provenance are those that the checksum was made of. Raises KeyError without
    either.
    """
    metadata = arrow.schema.metadata or {}
    return metadata[CHECKSUM] == _checksum(arrow, metadata[FIELD])


def explain_damage(path: Path, error: Exception, remedy: str = MENDING) -> BadData | OSError:
    """What a reader of parquet says of a damaged table, in one line; what the system says, such as
    that it may not be read, with the name of the file.
    """
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    line = (str(error) or type(error).__name__).splitlines()[0]
    return BadData(f"{path} is damaged ({line[:200]}); {remedy}")


def _checksum(arrow: pa.Table, provenance: bytes) -> bytes:
    """SHA-256 of names, types, values and provenance: the same whatever version of parquet wrote
    them.
    """
    types = [(field.name, str(field.type)) for field in arrow.schema]
    layout = arrow.schema.metadata or {}
    content = json.dumps(
        [types, arrow.to_pydict(), layout.get(b"pandas", b"").decode()], default=str
    )
    return hashlib.sha256(content.encode() + provenance).hexdigest().encode()
