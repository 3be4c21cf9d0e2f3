"""Two recorded pools of one preset side by side: which words depend on where they were measured.

A pool is a folder of tables as `run --out` and `record` write them: flat, or below it
`<preset>/<source>/`. Both pools are judged by today's claims. A row with an interval has `moved`
where its two values lie further apart than half the longer of its two intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from replicate import claims, paths, runs
from replicate.app import registry, verdicts
from replicate.errors import BadParameter, Missing, unknown
from replicate.sources.protocol import Experiment, Source

ROW = ["source", "claim", "kind", "case", "role"]
SIDES = ("_first", "_second")
SEEN = ["verdict", "value", "low", "high", "n", "unit", "device", "commit", "reason"]
CHANGES = ("word", "moved", "same", "only in one")


@dataclass(frozen=True)
class Pool:
    """A folder of recorded tables."""

    folder: Path

    def find(self, source: str, name: str, preset: str) -> Path | None:
        """The table of one experiment; None if the folder has none of this preset."""
        file = runs.record_file(source, name, preset)
        candidates = (self.folder / file.name, self.folder / file.relative_to(paths.RESULTS))
        for path in candidates:
            if path.exists() and runs.provenance_of(path).get("preset") == preset:
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
            path = files[experiment.__name__]
            table = pd.DataFrame() if path is None else runs.load_pool(experiment, path)
            return registry.with_setting(source, table)

        rows = verdicts.judge_tables(source, read, preset)
        return rows[rows.verdict != "not tested"]


def compare(first: Path, second: Path, preset: str) -> pd.DataFrame:
    """Every row that either pool decides, with both sides and how they differ.

    Columns ROW, each of SEEN with `_first` and `_second`, and `change`, one of CHANGES. Raises
    BadParameter for an unknown preset, Missing for a folder without a table of it, BadData for a
    damaged one.
    """
    if preset not in claims.PRESETS:
        raise unknown("preset", preset, claims.PRESETS)
    pools = [_judge_all(folder, preset) for folder in (first, second)]
    if first.resolve() == second.resolve():
        raise BadParameter(f"{first} would be compared with itself; name two folders")
    sides = [rows[ROW + SEEN] for rows in pools]
    table = sides[0].merge(sides[1], on=ROW, how="outer", suffixes=SIDES, sort=False)
    return table.assign(change=[_name_change(row) for row in table.to_dict("records")])


def _judge_all(folder: Path, preset: str) -> pd.DataFrame:
    if not folder.is_dir():
        raise Missing(f"{folder} is no folder; name one that `run --out` wrote")
    judged = [Pool(folder).judge(source, preset) for source in registry.sources()]
    rows = pd.concat([each for each in judged if not each.empty] or judged[:1], ignore_index=True)
    if rows.empty:
        remedy = f"write them with run SOURCE --preset {preset} --out FOLDER"
        raise Missing(f"{folder} has no table of preset {preset} that decides a row; {remedy}")
    return rows


def _name_change(row: dict) -> str:
    first, second = (row["verdict" + side] for side in SIDES)
    if not (isinstance(first, str) and isinstance(second, str)):
        return "only in one"
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


def tell(table: pd.DataFrame, first: str, second: str) -> str:
    """The comparison for a terminal: both pools, then source by source what differs and counts."""
    lines = [f"{label}: {', '.join(_list_devices(table, side))}"
             for label, side in zip((first, second), SIDES, strict=True)]  # fmt: skip
    for source, rows in table.groupby("source", sort=False):
        lines += ["", source, *_tell_rows(rows), _count(rows)]
    return "\n".join(lines)


def _list_devices(table: pd.DataFrame, side: str) -> Sequence[str]:
    return sorted(table["device" + side].dropna().unique())


def _tell_rows(rows: pd.DataFrame) -> Iterator[str]:
    """The rows whose word differs, primary ones first, then the primary ones that moved."""
    words = rows[rows.change == "word"]
    moved = rows[(rows.change == "moved") & (rows.role == "primary")]
    for row in pd.concat(
        [words[words.role == "primary"], words[words.role != "primary"], moved]
    ).to_dict("records"):
        before, after = (
            f"{row['verdict' + side]} {row['value' + side]:.3g} "
            f"[{row['low' + side]:.3g}, {row['high' + side]:.3g}]"
            for side in SIDES
        )
        note = "" if row["role"] == "primary" else f" ({row['role']})"
        yield f"  {row['claim']}  {row['case']}{note}: {before} -> {after} {row['unit_first']}"


def _count(rows: pd.DataFrame) -> str:
    primary = rows[rows.role == "primary"].change.value_counts()
    others = rows[rows.role != "primary"].change.value_counts()
    counts = [f"{change} {primary.get(change, 0)} + {others.get(change, 0)}" for change in CHANGES]
    return f"  rows, primary + others: {', '.join(counts)}"
