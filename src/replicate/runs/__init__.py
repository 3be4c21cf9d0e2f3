"""Ask for a run; whether it exists, where it lies and on which device it ran is settled here."""

from replicate.numerics import gains_by_bfloat16
from replicate.runs.cache import Runs, cached, deviations, each, over, produce_or_load
from replicate.runs.machine import commit, device, device_name, jobs
from replicate.runs.record import export, load_recorded, older, record, record_file, recorded_at
from replicate.runs.tables import checksum_of, keep_rows, kept_rows, provenance_of, read_table, write_table

__all__ = [
    "Runs",
    "cached",
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
    "older",
    "over",
    "produce_or_load",
    "provenance_of",
    "read_table",
    "record",
    "record_file",
    "recorded_at",
    "write_table",
]
