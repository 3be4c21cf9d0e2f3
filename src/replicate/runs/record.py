"""Recording copies what a clean tree produced into `data/results/`, numbers to six digits, and
drops nothing.

data/results/<preset>/<source>/<source>-<experiment>.parquet     rows of every recorded run, provenance by key
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import paths
from replicate.errors import BadData, BadParameter
from replicate.runs import machine, pool
from replicate.runs.cache import TABLE, load_cached, run_folder, source_of
from replicate.runs.digest import code_digest
from replicate.runs.foreign import MOST_BYTES, read_foreign
from replicate.runs.tables import (
    SettingsByKey,
    provenance_of,
    read_columns,
    read_with_provenance,
    to_bytes,
    write_table,
)

MOST_FILES = 8  # what one call exports, each of MOST_BYTES, so that it can be transferred in one go
SIGNIFICANT_DIGITS = (
    6  # significant digits of a recorded number: far below any interval, and small files
)


def export(
    experiment: Callable, settings: Mapping[str, object], preset: str, folder: Path
) -> Path | None:
    """Write what is on disk of one experiment as `folder/<source>-<experiment>.parquet`; None if
    nothing is on disk.

    Raises Missing where the commit of the code is not known: such a file could never be recorded.
    Raises BadParameter if the folder would hold more than one call may carry off, MOST_FILES of
    MOST_BYTES each; no file is written then.
    """
    machine.commit()
    table = load_cached(experiment, settings)
    if table.empty:
        return None
    path = folder / record_path(experiment, preset).name
    if not path.exists() and len(list(folder.glob("*.parquet"))) >= MOST_FILES:
        raise BadParameter(
            f"{folder} has {MOST_FILES} tables already, as many as one call may have; name another folder"
        )
    content = to_bytes(
        round_numbers(table),
        {"preset": preset, "records": _records(experiment, settings, table)},
    )
    if len(content) > MOST_BYTES:
        raise BadParameter(
            f"{path.name} would have {len(content)} bytes, more than the {MOST_BYTES} of one table; name fewer data sets"
        )
    paths.write_atomic(path, content)
    return path


def record(experiment: Callable, settings: Mapping[str, object], preset: str) -> Path | None:
    """Merge what is on disk of one experiment into its recorded file; the path, or None if nothing
    is on disk.

    Raises BadData if a run was made by a tree that differed from its commit.
    """
    table = load_cached(experiment, settings)
    if table.empty:
        return None
    return merge(
        record_path(experiment, preset), table, _records(experiment, settings, table), preset
    )


def read_export(path: Path) -> tuple[pd.DataFrame, dict]:
    """The rows of a file that `export` wrote, and its provenance: preset, and records by key.
    Raises Missing, BadData.
    """
    rows, provenance = read_foreign(path)
    records = provenance.get("records")
    if (
        not isinstance(records, dict)
        or not records
        or not all(isinstance(each, dict) for each in records.values())
    ):
        raise BadData(f"{path} is not a table that `run --out` wrote")
    return rows, provenance


def merge(path: Path, table: pd.DataFrame, records: Mapping[str, dict], preset: str) -> Path:
    """Add rows and their provenance to a recorded file. Rows of keys that are recorded already stay
    as they are.

    table: has a column key; records: key -> what is known of that run. Raises BadData on a run by a
    changed tree.
    """
    for key, record in records.items():
        if record["dirty"]:
            name = f"{record['source']} {record['experiment']}"
            raise BadData(
                f"{name} ({key}) was run by a changed tree; commit the change and run it again to record it"
            )
    if path.exists():
        old, provenance = read_with_provenance(path)
        recorded = provenance["records"]
        table = pd.concat([old, table[~table.key.isin(recorded)]], ignore_index=True)
        records = {**records, **recorded}
    write_table(path, round_numbers(table), {"preset": preset, "records": dict(records)})
    return path


def load_recorded(experiment: Callable, preset: str) -> pd.DataFrame:
    """The recorded rows of one experiment that count, see `pool.counted`; empty if nothing is
    recorded.

    attrs["settings"]: the fields of the settings by key.
    """
    path = record_path(experiment, preset)
    return load_pool(experiment, path) if path.exists() else pd.DataFrame()


def load_pool(experiment: Callable, path: Path) -> pd.DataFrame:
    """The rows that count of a recorded table of one experiment, wherever it lies.

    attrs["settings"]: the fields of the settings by key. Raises Missing or BadData.
    """
    table, provenance = read_with_provenance(path)
    records = provenance["records"]
    rows = pool.select_counted(
        table, records, _todays_code(experiment), machine.history()
    ).reset_index(drop=True)
    rows = rows.drop(columns=_list_foreign(rows))
    fields = {key: records[key]["settings"] for key in rows.key.unique()}
    rows.attrs["settings"] = SettingsByKey(fields)
    return rows


def _list_foreign(rows: pd.DataFrame) -> list[str]:
    """Columns of text that only rows of other code have, with which these share the file.

    A run writes "" where a text does not apply, so a text that is missing throughout is not its
    own. A number that is missing throughout may be: a run that never diverged has no such step.
    """
    texts = rows.select_dtypes(exclude="number")
    return [name for name in texts if texts[name].isna().all() and len(rows)]


def records_of(experiment: Callable, preset: str) -> dict[str, dict]:
    """The provenance of every recorded result of an experiment, by key; empty without a file."""
    path = record_path(experiment, preset)
    return provenance_of(path)["records"] if path.exists() else {}


def list_older(experiment: Callable, preset: str) -> list[str]:
    """Data sets whose recorded rows were made by code that has changed since: still results, but of
    another code.
    """
    path = record_path(experiment, preset)
    return list_older_than(_todays_code(experiment), path)


def list_older_than(code: Callable[[Mapping], str], path: Path) -> list[str]:
    """Data sets whose rows that count, in a recorded file, were made by code of another digest;
    none without a file.

    code: provenance -> today's digest. The values are not verified, for none is used. Raises
    BadData.
    """
    if not path.exists():
        return []
    table, records = read_columns(path, ["dataset", "key"])
    counted = pool.select_counted(table.drop_duplicates(), records, code, machine.history())
    return [
        row.dataset for row in counted.itertuples() if not pool.is_of_today(records[row.key], code)
    ]


def carry(experiment: Callable, preset: str, keys: Iterable[str]) -> None:
    """Let recorded results count as results of today's code too: somebody has seen that the code
    gives the same.
    """
    path, code = record_path(experiment, preset), _todays_code(experiment)
    table, provenance = read_with_provenance(path)
    for key in keys:
        record = provenance["records"][key]
        record["carried"] = sorted({*record.get("carried", ()), code(record)})
    write_table(path, table, provenance)


def _todays_code(experiment: Callable) -> Callable[[Mapping], str]:
    """Provenance -> today's digest of the experiment, with what the settings of that result chose
    among folders.
    """
    return lambda record: code_digest(experiment, tuple(sorted(record.get("found_by_folder", {}))))


def is_recorded(experiment: Callable, preset: str, dataset: str, settings: object) -> bool:
    """Whether a run of these settings is recorded under this data set's name, by whatever code and
    machine.
    """
    path = record_path(experiment, preset)
    if not path.exists():
        return False
    values = json.loads(json.dumps(asdict(settings)))
    table, provenance = read_with_provenance(path)
    keys = {key for key, record in provenance["records"].items() if record["settings"] == values}
    return bool((table.key.isin(keys) & (table.dataset == dataset)).any())


def find_recorded_seeds(
    experiment: Callable, preset: str, dataset: str, settings: object
) -> set[int]:
    """The seeds of these settings that need not be run again: those that count in the recorded file
    and are of today's code, or all of them if older code has run every one.
    """
    path, planned = record_path(experiment, preset), set(getattr(settings, pool.SEEDS, ()))
    if not path.exists():
        return set()
    table, provenance = read_with_provenance(path)
    records = provenance["records"]
    code = _todays_code(experiment)
    counted = pool.select_counted(table, records, code, machine.history())
    wanted = pool.without_seeds(json.loads(json.dumps(asdict(settings))))
    keys = [
        key
        for key in counted.key[counted.dataset == dataset].unique()
        if pool.without_seeds(records[key]["settings"]) == wanted
    ]
    if not keys or "seed" not in counted:
        return set()
    seeds = planned & set(counted.seed[counted.key.isin(keys)].dropna().astype(int))
    is_todays = all(pool.is_of_today(records[key], code) for key in keys)
    return seeds if is_todays or seeds == planned else set()


def record_path(experiment: Callable, preset: str) -> Path:
    """Where one experiment's recorded rows lie."""
    return record_file(source_of(experiment), experiment.__name__, preset)


def record_file(source: str, name: str, preset: str) -> Path:
    """Where the recorded rows of the experiment `name` lie."""
    return paths.RESULTS / preset / source / f"{source}-{name}.parquet"


def round_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its floating-point columns at SIGNIFICANT_DIGITS significant digits."""
    return table.assign(
        **{name: _significant(table[name]) for name in table.select_dtypes("floating")}
    )


def _significant(column: pd.Series) -> pd.Series:
    return column.map(lambda v: float(f"{v:.{SIGNIFICANT_DIGITS - 1}e}") if np.isfinite(v) else v)


def _records(
    experiment: Callable, settings: Mapping[str, object], table: pd.DataFrame
) -> dict[str, dict]:
    """Provenance by key of the runs on disk whose rows the table has; one may have no row."""
    tables = [run_folder(experiment, each) / TABLE for each in settings.values()]
    records = {record["key"]: record for record in map(provenance_of, filter(Path.exists, tables))}
    return {key: record for key, record in records.items() if key in set(table.key)}
