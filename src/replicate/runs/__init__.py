"""Ask for a run; whether it exists, where it lies and on which device it ran is settled here."""

from replicate.numerics import gains_by_bfloat16
from replicate.runs.cache import Runs, cached, deviations, each, over, produce_or_load, tables_in
from replicate.runs.machine import commit, device, device_name, jobs
from replicate.runs.pool import without_seeds
from replicate.runs.record import (
    carry,
    export,
    load_recorded,
    merge,
    older,
    read_export,
    record,
    recorded_at,
    recorded_path,
    rounded,
)
from replicate.runs.tables import checksum_of, keep_rows, kept_rows, provenance_of, read_table, write_table

__all__ = [
    "Runs",
    "cached",
    "carry",
    "checksum_of",
    "commit",
    "deviations",
    "device",
    "device_name",
    "each",
    "export",
    "gains_by_bfloat16",
    "jobs",
    "keep_rows",
    "kept_rows",
    "load_recorded",
    "merge",
    "older",
    "over",
    "produce_or_load",
    "provenance_of",
    "read_export",
    "read_table",
    "record",
    "recorded_at",
    "recorded_path",
    "rounded",
    "without_seeds",
    "tables_in",
    "write_table",
]
