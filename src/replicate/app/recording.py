"""What may enter data/results/: results of a preset's own settings, from build/ or from a folder of
any machine.

Everything is checked before anything is written; a folder is recorded whole or not at all.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import claims, runs
from replicate.app import benchmarks, registry, stages, verdicts
from replicate.errors import BadData, Missing, unknown
from replicate.sources.protocol import BY_STAGES, Experiment, Source, names

NEEDED = (
    "source",
    "experiment",
    "key",
    "code",
    "settings",
    "numerics",
    "device",
    "commit",
    "dirty",
    "written",
)


@dataclass(frozen=True)
class Export:
    """A file that may be recorded: its experiment and preset, rows, and provenance by key."""

    experiment: Experiment
    source: str
    preset: str
    rows: pd.DataFrame
    records: Mapping[str, dict]


def record_folder(folder: Path) -> set[tuple[str, str]]:
    """Record every table of a folder that `run --out` wrote; (source, preset) of each. Raises
    Missing or BadData.
    """
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not files:
        raise Missing(f"{folder} has no tables; write them there with run SOURCE --out {folder}")
    exports = [read(path) for path in files]
    for export in exports:
        path = runs.record_path(export.experiment, export.preset)
        runs.merge(path, export.rows, export.records, export.preset)
    return {(export.source, export.preset) for export in exports}


def record_built() -> set[tuple[str, str]]:
    """Record what build/ holds of every preset's own settings; (source, preset) of each.

    Algebra alone is no result of a preset but smoke. Raises BadData if a run was made by a changed
    tree.
    """
    touched = set()
    for source in registry.sources():
        for preset, settings in source.presets.items():
            chosen = {name: each.chosen(settings) for name, each in source.items()}
            ran = any(not runs.load_cached(source[name], entries).empty
                      for name, entries in chosen.items() if source[name].settings is None)  # fmt: skip
            if ran and any(
                [runs.record(source[name], entries, preset) for name, entries in chosen.items()]
            ):
                touched.add((source.name, preset))
    for preset in BY_STAGES:
        for stage in stages.stages(preset=preset):
            # Its whole table, or that of the seeds which no other machine has recorded.
            for settings in (stage.settings, stage.remaining):
                if runs.record(stage.experiment, settings, preset):
                    touched.add((stage.source, preset))
    return touched


def judge_recorded(touched: set[tuple[str, str]]) -> None:
    """Write the verdicts of sources and presets whose tables changed; speed has goals and no
    claims.
    """
    for name, preset in sorted(touched):
        if name in names():
            verdicts.write_recorded(registry.source(name), preset)


def read(path: Path) -> Export:
    """A file to be recorded, with everything in it checked. Raises BadData, which names the file
    and what is wrong.
    """
    rows, provenance = runs.read_export(path)
    preset, records = provenance.get("preset"), provenance["records"]
    if preset not in claims.PRESETS:
        raise BadData(
            f"{path}: preset must be one of {', '.join(claims.PRESETS)}, got {str(preset)[:40]!r}"
        )
    for key, record in records.items():
        if lacking := [name for name in NEEDED if name not in record]:
            raise BadData(f"{path}: the record of {str(key)[:40]!r} lacks {lacking[0]}")
    experiment, source = _experiment(path, records)
    if path.name != runs.record_path(experiment, preset).name:
        raise BadData(
            f"{path}: a table of {experiment.name} must be called {runs.record_path(experiment, preset).name}"
        )
    _check_rows(path, rows, records)
    for key, entry in rows.groupby("key").dataset.first().items():
        _check_settings(path, source, experiment, preset, str(entry), records[key]["settings"])
        _check_fields(path, source, experiment, preset, str(entry), rows[rows.dataset == entry])
    return Export(experiment, source, preset, rows, records)


def carry(source: Source, preset: str) -> Iterator[str]:
    """Carry recorded results to today's code where one seed of theirs, run anew, is equal to six
    digits.

    One line per experiment. Results of another class of machines, or that differ, stay results of
    older code.
    """
    for experiment in source.values():
        for entry in runs.list_older(experiment, preset):
            yield f"{source.name} {experiment.name} on {entry}: {_carry(source, experiment, preset, entry)}"


def _carry(source: Source, experiment: Experiment, preset: str, entry: str) -> str:
    """Run one seed anew and carry the recorded results if it is equal; what came of it."""
    table = runs.load_recorded(experiment, preset)
    recorded = table[table.dataset == entry]
    settings = experiment.chosen(source.presets[preset])[entry]
    record = runs.records_of(experiment, preset)[recorded.key.iloc[0]]
    # A field that settings had not when the result was recorded was at its default.
    before = _plain(asdict(type(settings)())) | record["settings"]
    if runs.without_seeds(before) != runs.without_seeds(_plain(asdict(settings))):
        return "not carried, its settings have changed"
    if record["numerics"] != runs.numerics(experiment, settings):
        return "not carried, it was recorded on another class of machines"
    seeds = [seed for seed in getattr(settings, "seeds", ()) if _has(recorded, seed)]
    settings = replace(settings, seeds=(seeds[0],)) if seeds else settings
    anew = runs.round_numbers(runs.produce_or_load(experiment, settings))
    tables = [_of_seed(each, seeds[:1]) for each in (recorded, anew)]
    if difference := differ(*map(experiment.without_clock, tables)):
        return f"not carried, {difference}"
    runs.carry(experiment, preset, recorded.key.unique())
    return "carried to today's code"


def _has(table: pd.DataFrame, seed: int) -> bool:
    return "seed" not in table or bool((table.seed == seed).any())


def _of_seed(table: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """The rows of a seed, all rows of a table that has no seeds."""
    return table[table.seed.isin(seeds)] if seeds and "seed" in table else table


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


def _plain(settings: Mapping) -> dict:
    """Settings as provenance keeps them: tuples, and those in them, are lists."""
    return json.loads(json.dumps(settings))


def _experiment(path: Path, records: Mapping[str, dict]) -> tuple[Experiment, str]:
    """The experiment that all records name, and its source."""
    named = {(str(record["source"]), str(record["experiment"])) for record in records.values()}
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
    for name in ("dataset", "commit", "device", "key"):
        if name not in rows or not rows[name].map(lambda value: isinstance(value, str)).all():
            raise BadData(f"{path}: column {name} must hold a text in every row")
    if strange := set(rows.key) ^ set(records):
        raise BadData(
            f"{path}: key {sorted(strange)[0][:40]!r} must have rows and a record, and has only one of them"
        )


def _check_settings(
    path: Path, source: str, experiment: Experiment, preset: str, entry: str, settings: object
) -> None:
    """Raises BadData unless these are the preset's own settings, with some or all of its seeds."""
    is_speed = source == benchmarks.SOURCE
    presets = benchmarks.presets() if is_speed else registry.source(source).presets
    entries = experiment.chosen(presets.get(preset, {}))
    if entry not in entries:
        raise BadData(
            f"{path}: preset {preset} runs {experiment.name} on {', '.join(entries) or 'nothing'}, not on {entry[:40]!r}"
        )
    preset_settings = _plain(asdict(entries[entry]))
    if not isinstance(settings, dict) or set(settings) != set(preset_settings):
        raise BadData(
            f"{path}: the settings of {experiment.name} on {entry} are not those of this code"
        )
    for name, value in preset_settings.items():
        same = set(settings[name]) <= set(value) if name == "seeds" else settings[name] == value
        if not same:
            raise BadData(f"{path}: {experiment.name} on {entry} was run with {name} = {settings[name]!r}, which preset "
                          f"{preset} does not have; only a preset's own settings are recorded")  # fmt: skip


def _check_fields(
    path: Path, source: str, experiment: Experiment, preset: str, entry: str, rows: pd.DataFrame
) -> None:
    """Raises BadData if the table that is judged has an arm, or another case by name, that the
    experiment does not declare. A row to which the field does not apply has "" there.
    """
    if source == benchmarks.SOURCE:  # speed declares no arms: it has goals and no claims
        return
    try:
        table = experiment.derive_table(rows)
    except (KeyError, AttributeError):  # of older code; its rows say so
        return
    settings = [experiment.chosen(registry.source(source).presets[preset])[entry]]
    for field in experiment.fields:
        known = experiment.values(field, settings)
        if isinstance(known, type) or field not in table:
            continue
        names = {value for value in table[field].unique() if isinstance(value, str)}
        if strange := names - {*known, ""}:
            name = sorted(strange)[0][:40]
            line = unknown(f"{field} of {experiment.name} on {entry}", name, map(str, known))
            raise BadData(f"{path}: {line}")
