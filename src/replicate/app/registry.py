"""The sources with what belongs to each: its claims, checked, and its tables, from build/ or from
data/results/.

Names are refused before anything large is imported, so pandas is imported where a table is made.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from replicate import claims, paths, runs
from replicate.sources.protocol import THE_SOURCES, Experiment, Source, names

if TYPE_CHECKING:
    import pandas as pd

    from replicate.claims import Claim, Decided

    Tables = Callable[
        [Experiment], pd.DataFrame
    ]  # the rows of one experiment, empty if it has not run


def sources() -> list[Source]:
    """All sources, in the order of their names."""
    return [source(name) for name in names()]


@functools.cache
def source(name: str) -> Source:
    """One source. Raises BadParameter on an unknown name, with the nearest right one."""
    return Source(name)


def claims_of(source: Source) -> list[Claim]:
    """The claims of a source, every name in them checked. Raises BadData."""
    claim_list = claims.load(paths.CLAIMS, source.name)
    claims.check(claim_list, f"{source.name}.toml", source, source.presets)
    return claim_list


def read_built_tables(source: Source, settings: Mapping[str, object]) -> Tables:
    """The tables that runs under these settings left in build/."""
    return lambda experiment: with_setting(
        source, runs.load_cached(experiment, experiment.chosen(settings))
    )


def read_recorded_tables(source: Source, preset: str) -> Tables:
    """The tables in data/results/ of one preset."""
    return lambda experiment: with_setting(source, runs.load_recorded(experiment, preset))


def decide(
    source: Source, tables: Tables, settings: Mapping[str, object] | None = None
) -> Callable[[tuple[str, ...]], Decided | None]:
    """For `claims.measure`: the tables of some experiments together, as they are judged, and the
    seeds that these settings plan for each data set, none if not given.
    """
    import pandas as pd

    from replicate.claims import Decided

    def decide_tables(wanted: tuple[str, ...]) -> Decided | None:
        experiments = [source[name] for name in wanted]
        judged = [
            rows for rows in (derive(each, tables(each)) for each in experiments) if not rows.empty
        ]
        if not judged:
            return None
        fields = dict.fromkeys(name for each in experiments for name in each.fields)
        measures = {
            name: measure for each in experiments for name, measure in each.measures.items()
        }
        named = any(each.settings is None for each in experiments)
        table = pd.concat(judged, ignore_index=True)
        planned = {
            entry: each.units(value)
            for each in experiments
            for entry, value in each.chosen(settings or {}).items()
        }
        stand_ins = frozenset(table.dataset[table.setting != THE_SOURCES])
        return Decided(table, tuple(fields), measures, named, planned, stand_ins)

    return decide_tables


def list_older(source: Source, preset: str) -> list[str]:
    """What is recorded by older code than the code here, such as "figure_5 on digits"."""
    lines = []
    for name in source:
        path = runs.record_file(source.name, name, preset)
        if path.exists():
            code = _todays_code(_file_of(source, name), name)
            lines += [f"{name} on {entry}" for entry in runs.list_older_than(code, path)]
    return lines


def _todays_code(path: Path, name: str) -> Callable[[Mapping], str]:
    """Provenance -> today's digest of an experiment, with what the settings of that result chose
    among folders.
    """
    digest = functools.cache(lambda chosen: runs.digest_of_file(path, name, chosen))
    return lambda record: digest(tuple(sorted(record.get("found_by_folder", {}))))


def _file_of(source: Source, name: str) -> Path:
    """The file of an experiment; it is not imported, which takes seconds."""
    return Path(importlib.util.find_spec(f"replicate.sources.{source.name}.{name}").origin)


def read_largest(source: Source, name: str, preset: str) -> pd.DataFrame:
    """The recorded rows of each data set at the largest preset from this one on that has it, those of
    the largest preset first; attrs["preset"] names the presets. Empty if nothing is recorded, or only
    by older code from whose table today's cannot be made.
    """
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    shown: set[str] = set()
    for larger in reversed(claims.PRESETS[claims.PRESETS.index(preset) :]):
        table = runs.load_recorded(source[name], larger)
        if not table.empty and "dataset" in table:
            table = table[~table.dataset.isin(shown)]
        if not table.empty and not derive(source[name], table).empty:
            tables[larger] = table
            shown |= set(table.get("dataset", ()))
    if not tables:
        return pd.DataFrame()
    settings = [table.attrs.get("settings", {}) for table in tables.values()]
    largest = pd.concat(tables.values(), ignore_index=True)
    largest.attrs = {"preset": " and ".join(tables)}
    by_key = {key: each for fields in settings for key, each in fields.items()}
    largest.attrs["settings"] = runs.SettingsByKey(by_key)
    return largest


def list_missing(source: Source, preset: str) -> list[str]:
    """Data sets of a preset that are not at hand."""
    from replicate import datasets

    needed = {
        value.dataset
        for entry, value in source.presets[preset].items()
        if source.needs_files(entry)
    }
    return sorted(
        name for name in needed if name not in datasets.NAMES or not datasets.at_hand(name)
    )


def derive(experiment: Experiment, table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged, data set by data set, with the columns that say where its rows come
    from; without the rows of older code from which today's table cannot be made.
    """
    import pandas as pd

    if table.empty:
        return table
    tables = []
    for entry, rows in table.groupby("dataset", sort=False):
        origin = {
            name: ", ".join(sorted(rows[name].unique()))
            for name in ("commit", "device", "setting")
            if name in rows
        }
        try:
            tables.append(experiment.derive_table(rows).assign(dataset=entry, **origin))
        except (KeyError, AttributeError):  # recorded by older code, without a column of today's
            continue
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def can_judge(experiment: Experiment, table: pd.DataFrame) -> bool:
    """Whether today's code makes rows to judge of a recorded table, as it may not of older code's."""
    return not derive(experiment, table).empty


def with_setting(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """The table with what its settings are beside the source's: column setting."""
    if table.empty:
        return table
    fields = table.attrs["settings"]
    table = table.copy()
    table.attrs = {}  # the column says it from here on
    entries = table.groupby("key").dataset.first()
    settings = {key: source.setting(entry, fields[key]) for key, entry in entries.items()}
    return table.assign(setting=table.key.map(settings))
