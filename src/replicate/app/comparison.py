"""Two recorded pools of one preset side by side: which words depend on where they were measured.

A pool is a folder of tables as `run --out` and `record` write them: flat, or below it
`<preset>/<source>/`. Both pools are judged by today's claims. A row with an interval has `moved`
where its two values lie further apart than half the longer of its two intervals. A table of older
code from which today's rows cannot be made is named, for it is compared with nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from replicate import claims, paths, runs
from replicate.app import border, registry, verdicts
from replicate.errors import BadParameter, Missing, unknown
from replicate.sources.protocol import Experiment, Source

ROW = ["source", "claim", "kind", "case", "role"]
SIDES = ("_first", "_second")
SEEN = ["verdict", "value", "low", "high", "n", "unit", "device", "commit", "reason", "obstacle"]
ONE_SIDED = "only in one"
CHANGES = ("word", "moved", "same", ONE_SIDED)


@dataclass(frozen=True)
class Pool:
    """A folder of recorded tables; once they are judged, the processors that they name, and the
    tables that are too old to be judged.
    """

    folder: Path
    processors: set[str] = field(default_factory=set)
    outdated: list[str] = field(default_factory=list)

    def find(self, source: str, name: str, preset: str) -> Path | None:
        """The table of one experiment; None if the folder has none of this preset. Raises BadData."""
        file = runs.record_file(source, name, preset)
        candidates = (self.folder / file.name, self.folder / file.relative_to(paths.RESULTS))
        for path in candidates:
            if path.exists() and runs.read_export(path)[1].get("preset") == preset:
                return path
        return None

    def judge(self, source: Source, preset: str) -> pd.DataFrame:
        """The rows of one source that were tested, by today's claims; empty without a table.

        Raises BadData for a damaged table.
        """
        files = {name: self.find(source.name, name, preset) for name in source}
        if not any(files.values()):
            return pd.DataFrame(columns=claims.COLUMNS)

        def read(experiment: Experiment) -> pd.DataFrame:
            path = files[experiment.name]
            if path is None:
                return pd.DataFrame()
            table = runs.load_pool(experiment, path)
            records = runs.provenance_of(path)["records"]
            self.processors.update(_name_processor(records[key]) for key in table.key.unique())
            table = registry.with_setting(source, table)
            if not registry.can_judge(experiment, table):
                self.outdated.append(f"{source.name} {experiment.name}")
            return table

        with border.blame(self.folder):
            rows = verdicts.judge_tables(source, read, preset)
        return rows[rows.verdict != "not tested"]


def compare(first: Path, second: Path, preset: str) -> pd.DataFrame:
    """Every row that either pool decides, with both sides and how they differ.

    Columns ROW, each of SEEN with `_first` and `_second`, and `change`, one of CHANGES;
    attrs["processors"] and attrs["outdated"]: those of the two pools. Raises BadParameter for an
    unknown preset, Missing for a folder without a table of it and for two of different sources,
    BadData for a damaged one.
    """
    if preset not in claims.PRESETS:
        raise unknown("preset", preset, claims.PRESETS)
    if first.resolve() == second.resolve():
        raise BadParameter(f"{first} would be compared with itself; name two folders")
    pools = Pool(first), Pool(second)
    sides = [judge_all(pool, preset)[ROW + SEEN] for pool in pools]
    names = [sorted(set(rows.source)) for rows in sides]
    if not set(names[0]) & set(names[1]):
        raise Missing(
            f"{first} has tables of {', '.join(names[0])} and {second} of {', '.join(names[1])}; "
            "name folders with a source in common"
        )
    table = join(*sides)
    table.attrs["processors"] = [sorted(pool.processors) for pool in pools]
    table.attrs["outdated"] = [sorted(set(pool.outdated)) for pool in pools]
    return table


def join(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The rows of two tables of verdicts side by side, with `change`, one of CHANGES."""
    table = first.merge(second, on=ROW, how="outer", suffixes=SIDES, sort=False)
    return table.assign(change=[_name_change(row) for row in table.to_dict("records")])


def judge_all(pool: Pool, preset: str) -> pd.DataFrame:
    if not pool.folder.is_dir():
        raise Missing(f"{pool.folder} is no folder; name one that `run --out` wrote")
    judged = [pool.judge(source, preset) for source in registry.sources()]
    rows = pd.concat([each for each in judged if not each.empty] or judged[:1], ignore_index=True)
    if rows.empty:
        remedy = f"write them with run SOURCE --preset {preset} --out FOLDER"
        raise Missing(f"{pool.folder} has no table of preset {preset} that decides a row; {remedy}")
    return rows


def _name_processor(record: Mapping) -> str:
    """A processor with the precision of its networks, which tells one that gains by bfloat16 from
    one of the same instruction set that does not.
    """
    numerics = record.get("numerics")
    precision = numerics.get("precision") if isinstance(numerics, Mapping) else None
    return f"{record['device']}, {precision}" if precision else record["device"]


def _name_change(row: dict) -> str:
    first, second = (row["verdict" + side] for side in SIDES)
    if not (isinstance(first, str) and isinstance(second, str)):
        return ONE_SIDED
    if first != second:
        return "word"
    if row["kind"] in claims.WITHOUT_INTERVAL:
        return "same"
    values = [row["value" + side] for side in SIDES]
    longest = max(row["high" + side] - row["low" + side] for side in SIDES)
    return "moved" if abs(values[0] - values[1]) > longest / 2 else "same"


def changes_a_verdict(table: pd.DataFrame) -> bool:
    """Whether the word of a primary row differs."""
    return bool(((table.change == "word") & (table.role == "primary")).any())


def to_json(table: pd.DataFrame, first: str, second: str) -> str:
    """The comparison as data: `pools`, each with its folder, processors and outdated tables, and
    `rows`.
    """
    pools = [
        {"folder": folder, "processors": processors, "outdated": outdated}
        for folder, processors, outdated in _zip_pools(table, first, second)
    ]
    rows = json.loads(table.to_json(orient="records"))
    return json.dumps({"pools": pools, "rows": rows}, indent=1)


def tell(table: pd.DataFrame, first: str, second: str) -> str:
    """The comparison for a terminal: both pools, then source by source what differs and counts."""
    lines = []
    for folder, processors, outdated in _zip_pools(table, first, second):
        lines.append(f"{folder}: {'; '.join(processors)}")
        lines += [f"  of older code, so not compared: {', '.join(outdated)}"] if outdated else []
    for source, rows in table.groupby("source", sort=False):
        lines += ["", source, *_tell_rows(rows), _count(rows)]
    return "\n".join(lines)


def _zip_pools(
    table: pd.DataFrame, first: str, second: str
) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, processors, outdated tables) of both pools."""
    return zip((first, second), table.attrs["processors"], table.attrs["outdated"], strict=True)


def _tell_rows(rows: pd.DataFrame) -> Iterator[str]:
    """The rows whose word differs, then those whose value alone moved, primary ones first."""
    for change in ("word", "moved"):
        changed = rows[rows.change == change]
        is_primary = changed.role == "primary"
        for row in pd.concat([changed[is_primary], changed[~is_primary]]).to_dict("records"):
            before, after = (tell_side(row, side) for side in SIDES)
            note = "" if row["role"] == "primary" else f" ({row['role']})"
            yield f"  {change}: {row['claim']}  {row['case']}{note}: {before} -> {after}"


def tell_side(row: Mapping, side: str) -> str:
    """Word, value and interval of one side, the value alone where it has none."""
    value, low, high = (row[name + side] for name in ("value", "low", "high"))
    interval = "" if low == high else f" [{low:.3g}, {high:.3g}]"
    return f"{row['verdict' + side]} {value:.3g}{interval} {row['unit' + side]}"


def _count(rows: pd.DataFrame) -> str:
    primary = rows[rows.role == "primary"].change.value_counts()
    others = rows[rows.role != "primary"].change.value_counts()
    counts = [f"{change} {primary.get(change, 0)} + {others.get(change, 0)}" for change in CHANGES]
    return f"  rows, primary + others: {', '.join(counts)}"
