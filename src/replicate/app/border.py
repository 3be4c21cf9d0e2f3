"""What a table from elsewhere has to be before its numbers may enter data/results/.

Everything that the file says of itself is held against what this code knows: the source, the experiment and
the name of the file, the preset with its own settings and data, the key, which has to be the hash of what it
stands for, and in the rows the columns, the names of arms, cases and claims, the seeds, and the numbers. What
is checked is its form: whether somebody measured these numbers nobody can see.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from replicate import claims, runs
from replicate.app import benchmarks, registry
from replicate.errors import BadData, Failure, unknown
from replicate.sources.protocol import Experiment, count_seeds, names

Digits = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[ -~]+$")]
WRITTEN_FORM = "%Y-%m-%dT%H:%M:%SZ"
FIRST_YEAR = 2025  # no result is older than the project
AHEAD = 86_400  # seconds by which the clock of another machine may be before this one's
LONGEST_TEXT = 500  # characters of a cell; the longest recorded one, a formula, has 200
ACCURACIES = {
    "top1",
    "train_top1",
    "test_top1",
    "valid_top1",
    "raw_top1",
}  # shares of images, 0 to 1
ORIGIN = ("dataset", "commit", "device", "key")  # columns that every row of an export has


class Record(BaseModel):
    """The provenance of one result as `run --out` writes it: no field less, none more."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    source: Words
    experiment: Words
    key: Digits
    code: Digits
    found_by_folder: dict[Words, Words]
    settings: dict[Words, object]
    numerics: dict[Words, str | bool | int]
    device: Words
    versions: dict[Words, Annotated[str, StringConstraints(max_length=80, pattern=r"^[ -~]*$")]]
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,12}$")]
    dirty: bool  # False; see `_check_record`
    seconds: Annotated[float, Field(ge=0)]
    written: Annotated[str, StringConstraints(max_length=20)]


@dataclass(frozen=True)
class Export:
    """A file that may be recorded: its experiment and preset, rows, and provenance by key."""

    experiment: Experiment
    source: str
    preset: str
    rows: pd.DataFrame
    records: Mapping[str, dict]


def read(path: Path) -> Export:
    """A file to be recorded, with everything in it checked. Raises BadData, which names the file
    and what is wrong.
    """
    rows, provenance = runs.read_export(path)
    if strange := sorted(provenance.keys() - {"preset", "records"}):
        raise BadData(f"{path}: unknown field {strange[0][:40]!r} beside preset and records")
    preset, records = provenance.get("preset"), provenance["records"]
    if preset not in claims.PRESETS:
        raise BadData(
            f"{path}: preset must be one of {', '.join(claims.PRESETS)}, got {str(preset)[:40]!r}"
        )
    for key, record in records.items():
        _check_record(path, key, record)
    experiment, source = _find_experiment(path, records)
    if path.name != runs.record_path(experiment, preset).name:
        raise BadData(
            f"{path}: a table of {experiment.name} must be called {runs.record_path(experiment, preset).name}"
        )
    _check_rows(path, rows, records)
    for entry, of_entry in rows.groupby("dataset"):
        settings = _find_settings(path, source, experiment, preset, str(entry))
        code = runs.code_digest(experiment, tuple(sorted(runs.list_found_by_folder(settings))))
        for key in of_entry.key.unique():
            _check_settings(path, f"{experiment.name} on {entry}", preset, records[key], settings)
        _check_numbers(path, experiment, of_entry, settings)
        if source != benchmarks.SOURCE:  # speed declares no arms: it has goals and no claims
            is_todays = all(records[key]["code"] == code for key in of_entry.key.unique())
            _check_names(path, source, experiment, of_entry, settings, is_todays)
    _check_agreement(path, experiment, preset, rows)
    return Export(experiment, source, preset, rows, records)


@contextmanager
def blame(place: Path) -> Iterator[None]:
    """Say of what fails within the block, and has no line of its own, that the tables of `place` do
    not go with this code. Raises BadData.
    """
    try:
        yield
    except (Failure, OSError):
        raise
    except Exception as error:
        raise _explain_fault(place, error) from None


def _explain_fault(place: Path, error: Exception) -> BadData:
    line = (str(error) or type(error).__name__).splitlines()[0][:120]
    return BadData(f"{place}: cannot be judged ({type(error).__name__}: {line})")


def _check_record(path: Path, key: str, record: dict) -> None:
    where = f"{path}: the record of {key[:40]!r}"
    if record.get("dirty") is True:
        name = f"{record.get('source')} {record.get('experiment')}"[:80]
        raise BadData(f"{path}: {name} ({key[:40]}) was run by a changed tree; commit the change "
                      "and run it again to record it")  # fmt: skip
    try:
        Record.model_validate(record)
    except (ValidationError, RecursionError) as error:
        raise BadData(f"{where} {_explain(error)}") from None
    if not FIRST_YEAR <= (moment := _read_moment(record["written"])).tm_year:
        raise BadData(f"{where}: written must be a moment such as 2026-01-31T23:59:59Z "
                      f"from {FIRST_YEAR} on, got {record['written']!r}")  # fmt: skip
    if time.strftime(WRITTEN_FORM, moment) > time.strftime(
        WRITTEN_FORM, time.gmtime(time.time() + AHEAD)
    ):
        raise BadData(f"{where}: written {record['written']}, which is in the future; "
                      "set the clock of one of the two machines")  # fmt: skip
    identified = (record[name] for name in ("settings", "code", "found_by_folder", "numerics"))
    if not record["key"] == key == runs.key_of(*identified):
        raise BadData(f"{where}: the key is not that of its settings, code, data and numerics")


def _explain(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))[:60]
    if first["type"] == "missing":
        return f"lacks {name}"
    message = first["msg"].removeprefix("Value error, ").splitlines()[0]
    return f"has a wrong {name}: {message[0].lower()}{message[1:]}"[:200]


def _read_moment(text: str) -> time.struct_time:
    """A moment as `written` names it; one before all results if the text names none."""
    try:
        moment = time.strptime(text, WRITTEN_FORM)
    except ValueError:
        return time.gmtime(0)
    return moment if time.strftime(WRITTEN_FORM, moment) == text else time.gmtime(0)


def _find_experiment(path: Path, records: Mapping[str, dict]) -> tuple[Experiment, str]:
    """The experiment that all records name, and its source."""
    named = {(record["source"], record["experiment"]) for record in records.values()}
    if len(named) != 1:
        raise BadData(f"{path}: all results must be of one experiment, got {sorted(named)[:3]}")
    ((source, name),) = named
    if source == benchmarks.SOURCE:
        experiments = benchmarks.experiments()
    elif source in names():
        experiments = registry.source(source)
    else:
        raise BadData(f"{path}: unknown source {source[:40]!r}; known: {', '.join(names())}")
    if name not in experiments:
        raise BadData(
            f"{path}: unknown experiment {name[:40]!r} of {source}; known: {', '.join(experiments)}"
        )
    return experiments[name], source


def _check_rows(path: Path, rows: pd.DataFrame, records: Mapping[str, dict]) -> None:
    """Raises BadData unless every row says where it comes from, as the record of its key does."""
    for name in ORIGIN:
        if name not in rows or not rows[name].map(lambda value: isinstance(value, str)).all():
            raise BadData(f"{path}: column {name} must hold a text in every row")
    if strange := set(rows.key) ^ set(records):
        raise BadData(
            f"{path}: key {sorted(strange)[0][:40]!r} must have rows and a record, and has only one of them"
        )
    for key, of_key in rows.groupby("key"):
        if of_key.dataset.nunique() > 1:
            raise BadData(f"{path}: the rows of {key} are of {of_key.dataset.nunique()} data sets")
        for name in ("commit", "device"):
            if set(of_key[name]) != {records[key][name]}:
                raise BadData(f"{path}: column {name} of {key} differs from its record")
    for name in rows.select_dtypes(exclude=["number", "bool"]):
        for text in rows[name].dropna().unique():
            if not text.isprintable() or len(text) > LONGEST_TEXT:
                raise BadData(f"{path}: column {name} has the text {text[:40]!r}; a text has at most "
                              f"{LONGEST_TEXT} characters, all of which can be printed")  # fmt: skip


def _find_settings(
    path: Path, source: str, experiment: Experiment, preset: str, entry: str
) -> object:
    """The preset's own settings of an entry. Raises BadData if it has none for this experiment."""
    is_speed = source == benchmarks.SOURCE
    presets = benchmarks.presets() if is_speed else registry.source(source).presets
    entries = experiment.chosen(presets.get(preset, {}))
    if entry not in entries:
        raise BadData(
            f"{path}: preset {preset} runs {experiment.name} on {', '.join(entries) or 'nothing'}, not on {entry[:40]!r}"
        )
    return entries[entry]


def _check_settings(
    path: Path, name: str, preset: str, record: Mapping, preset_settings: object
) -> None:
    """Raises BadData unless a result has the preset's own settings, with some or all of its seeds,
    and its data.
    """
    settings, expected = record["settings"], to_plain(asdict(preset_settings))
    if set(settings) != set(expected):
        raise BadData(f"{path}: the settings of {name} are not those of this code")
    for field, value in expected.items():
        given = settings[field]
        if not (_is_part(given, value) if field == "seeds" else _is_same(given, value)):
            raise BadData(f"{path}: {name} was run with {field} = {str(given)[:80]}, which preset {preset} "
                          "does not have; only a preset's own settings are recorded")  # fmt: skip
    if record["found_by_folder"] != runs.list_found_by_folder(preset_settings):
        raise BadData(f"{path}: {name} was run on other data than this code's; run it again")


def _is_same(given: object, expected: object) -> bool:
    """Equality that tells True from 1, and [True] from [1]."""
    return given == expected and repr(given) == repr(expected)


def _is_part(seeds: object, planned: Sequence[int]) -> bool:
    return isinstance(seeds, list) and all(
        any(_is_same(seed, each) for each in planned) and seeds.count(seed) == 1 for seed in seeds
    )


def _check_numbers(path: Path, experiment: Experiment, rows: pd.DataFrame, settings) -> None:
    """Raises BadData for a seed that the settings do not have, an infinite number in a column where
    none is declared, and an accuracy that is no share.
    """
    name = f"{experiment.name} on {rows.dataset.iloc[0]}"
    if "seed" in rows and experiment.units is count_seeds:
        if strange := set(rows.seed.dropna()) - set(settings.seeds):
            raise BadData(f"{path}: {name} has no seed {min(strange)}")
    for column in rows.select_dtypes("number"):
        values = rows[column].to_numpy()
        if np.isinf(values).any() and column not in experiment.unbounded:
            raise BadData(f"{path}: column {column} of {name} holds an infinite number")
        bounded = column in ACCURACIES and column not in experiment.unbounded
        if bounded and ((values < 0) | (values > 1)).any():
            raise BadData(f"{path}: column {column} of {name} must be a share from 0 to 1")


def _check_names(
    path: Path,
    source: str,
    experiment: Experiment,
    rows: pd.DataFrame,
    settings: object,
    is_todays: bool,
) -> None:
    """Raises BadData if the table that is judged lacks a column, has texts in place of numbers, or
    names an arm, a case or a claim that nothing declares. Older code may have had fewer columns.
    """
    name = f"{experiment.name} on {rows.dataset.iloc[0]}"
    try:
        table = experiment.derive_table(rows)
    except (KeyError, AttributeError) as error:
        if is_todays:
            raise BadData(
                f"{path}: the table of {name} lacks a column ({str(error)[:80]})"
            ) from None
        return  # of older code; its rows say so
    except Exception as error:  # whatever a column of the wrong kind leads to
        raise _explain_fault(path, error) from None
    if is_todays and (lacking := sorted(experiment.fields.keys() - set(table))):
        raise BadData(f"{path}: the table of {name} lacks the column {lacking[0]}")
    if is_todays and not set(experiment.metrics) & set(table):
        raise BadData(f"{path}: the table of {name} has no column that is judged")
    for field in (each for each in experiment.fields if each in table):
        known = experiment.values(field, [settings])
        if isinstance(known, type):
            _check_type(path, name, field, table[field], known)
        elif strange := [value for value in table[field].unique() if not _is_among(value, known)]:
            line = unknown(f"{field} of {name}", str(strange[0])[:40], map(str, known))
            raise BadData(f"{path}: {line}")
    for metric in experiment.metrics:
        if metric in table:
            _check_type(path, name, metric, table[metric], float)
    if "claim" in table and "claim" not in experiment.fields:
        ids = {claim.id for claim in registry.claims_of(registry.source(source))}
        if strange := sorted(set(table.claim.dropna()) - ids - {""}):
            raise BadData(f"{path}: {unknown(f'claim of {name}', strange[0][:40], ids)}")


def _check_type(path: Path, name: str, column: str, values: pd.Series, kind: type) -> None:
    """Raises BadData unless a column holds texts (str), or numbers (float), or nothing at all."""
    is_number = pd.api.types.is_numeric_dtype(values)
    if values.notna().any() and is_number == (kind is str):
        wanted = "texts" if kind is str else "numbers"
        raise BadData(f"{path}: column {column} of {name} must hold {wanted}")


def _is_among(value: object, known: Collection) -> bool:
    """Whether a field has one of its values, to six digits, or does not apply."""
    if isinstance(value, str):
        return value == "" or value in known
    if value is None or value != value:
        return True
    numbers = [each for each in known if not isinstance(each, str)]
    return any(np.isclose(float(value), float(each), rtol=1e-5, atol=0) for each in numbers)


def _check_agreement(path: Path, experiment: Experiment, preset: str, export: pd.DataFrame) -> None:
    """Raises BadData where a result that is recorded already differs from the one in the file, the
    machine's seconds aside: one of the two runs is wrong. Both are kept as they are.
    """
    home = runs.record_path(experiment, preset)
    if not home.exists():
        return
    recorded = runs.read_table(home)
    for key in sorted(set(recorded.key) & set(export.key)):
        tables = [runs.round_numbers(each[each.key == key]) for each in (recorded, export)]
        if difference := differ(*map(experiment.without_clock, tables)):
            raise BadData(f"{path}: two attempts of the same run, {key}, gave different results, "
                          f"{difference}; both are kept, here and in {home}")  # fmt: skip


def differ(recorded: pd.DataFrame, anew: pd.DataFrame) -> str:
    """How two tables differ in the columns they share, "" if they are equal to six digits."""
    if len(recorded) != len(anew):
        return f"{len(anew)} rows instead of {len(recorded)}"
    for name in anew.columns.intersection(recorded.columns):
        before, now = recorded[name].to_numpy(), anew[name].to_numpy()
        if pd.api.types.is_float_dtype(anew[name]):
            equal = np.isclose(before.astype(float), now, rtol=1e-5, atol=0, equal_nan=True)
        else:
            equal = before == now
        if not np.all(equal):
            row = int(np.argmin(equal))
            return f"{name} of row {row + 1} is {now[row]} instead of {before[row]}"
    return ""


def to_plain(settings: Mapping) -> dict:
    """Settings as provenance keeps them: tuples, and those in them, are lists."""
    return json.loads(json.dumps(settings))
