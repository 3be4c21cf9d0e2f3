"""A table on disk is one parquet file that carries its provenance and whose every page has a checksum."""

import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from replicate.errors import BadData, Missing
from replicate.paths import write_atomic

FIELD = b"replicate"  # the schema metadata key


def write_table(path: Path, table: pd.DataFrame, provenance: dict) -> None:
    """Write `table` and a JSON-able provenance to `path`, whole or not at all."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    about = json.dumps(provenance, sort_keys=True).encode()
    buffer = io.BytesIO()
    pq.write_table(
        arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), FIELD: about}),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    write_atomic(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """The table at `path`. Raises Missing, or BadData if it is cut short or a byte has changed."""
    return _read(path).to_pandas()


def provenance_of(path: Path) -> dict:
    """What `write_table` was told about the table. Raises Missing or BadData."""
    about = (_read(path).schema.metadata or {}).get(FIELD)
    if about is None:
        raise BadData(f"{path} carries no provenance; it was not written by this program")
    return json.loads(about)


def _read(path: Path) -> pa.Table:
    if not path.exists():
        raise Missing(f"table {path} is not there")
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise BadData(f"{path} is damaged ({line}); delete it and run the same command again") from None
