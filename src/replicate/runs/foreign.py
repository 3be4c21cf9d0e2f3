"""Reading a table that somebody else wrote.

Nothing in it is believed: its checksum can be computed by whoever wrote it, its header by whoever wants
this process to fill the memory. So size, shape and types are looked at before anything is unpacked, and
what pandas is told in the file about its columns is not listened to.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from replicate.errors import BadData, Missing
from replicate.runs.tables import FIELD, explain_damage, has_its_checksum

# Limits of a foreign table: a hundred times the largest recorded one, and no more than a small machine holds.
MOST_BYTES = 16 * 2**20  # of the file; also what `run --out` writes at most
MOST_UNPACKED_BYTES = 2**28  # of all its columns
MOST_FOREIGN_ROWS, MOST_COLUMNS, MOST_DESCRIBED_BYTES = 2_000_000, 200, 2**22


def read_foreign(path: Path) -> tuple[pd.DataFrame, dict]:
    """The rows of a table, and what it says of itself. Raises BadData, which names the file and what
    is wrong with it, or Missing.

    Columns are numbers or texts with names that differ, values agree with the checksum, and the description
    is an object of JSON in which every number is one.
    """
    if not path.exists():
        raise Missing(f"table {path} is not there")
    if not path.is_file():
        raise BadData(f"{path} is no plain file; name a folder of tables that `run --out` wrote")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise BadData(f"{path} has {size} bytes, more than the {MOST_BYTES} of one table; refused")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_size(path, file)
        _check_columns(path, file.schema_arrow)
        arrow = file.read()
        metadata = arrow.schema.metadata or {}
        if not has_its_checksum(arrow):
            raise BadData(f"{path} is damaged (wrong checksum); fetch it again")
        description = json.loads(metadata[FIELD], parse_constant=_refuse_constant)
        rows = arrow.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise explain_damage(path, error, "fetch it again") from None
    if not isinstance(description, dict):
        raise BadData(f"{path} is not a table that `run --out` wrote")
    return rows, description


def _check_size(path: Path, file: pq.ParquetFile) -> None:
    head = file.metadata
    unpacked = sum(head.row_group(number).total_byte_size for number in range(head.num_row_groups))
    described = sum(map(len, (head.metadata or {}).values()))
    for name, count, limit in (
        ("rows", head.num_rows, MOST_FOREIGN_ROWS),
        ("columns", head.num_columns, MOST_COLUMNS),
        ("bytes when unpacked", unpacked, MOST_UNPACKED_BYTES),
        ("bytes about itself", described, MOST_DESCRIBED_BYTES),
    ):
        if not 0 <= count <= limit:
            raise BadData(f"{path} has {count} {name}, more than {limit}; refused")


def _check_columns(path: Path, schema: pa.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise BadData(f"{path} has two columns called {twice[:40]!r}; refused")
    for field in schema:
        if not field.name.isprintable() or not 0 < len(field.name) <= 80:
            raise BadData(f"{path} has a column called {field.name[:40]!r}; refused")
        if not _holds_numbers_or_texts(field.type):
            kind = str(field.type)[:40]
            raise BadData(f"{path}: column {field.name} holds {kind}, neither numbers nor texts")


def _holds_numbers_or_texts(kind: pa.DataType) -> bool:
    """Whether a column is what an experiment's table is made of; one without any value is both."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string,
             pa.types.is_large_string, pa.types.is_null)  # fmt: skip
    return any(test(kind) for test in tests)


def _refuse_constant(word: str) -> float:
    """NaN and Infinity, which Python's JSON reads and no key was ever made of."""
    raise ValueError(f"{word} is no number of JSON")
