"""Judging a source once, keeping what came out, and printing it: one file of verdicts per source
and preset.

`verdicts.csv` carries the hashes of the claims file and of the tables it was made from, so it is
printed without being judged anew, and the hash of its own rows, so an edit by hand is noticed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from replicate import claims, paths, runs
from replicate.app import registry
from replicate.claims import Claim
from replicate.errors import BadData
from replicate.sources.protocol import Source

SEAL = "made_from"  # column: hashes of claims file, tables and rows
SHORT_COLUMNS = [
    "claim",
    "case",
    "verdict",
    "value",
    "low",
    "high",
    "unit",
    "control_verdict",
    "reason",
]  # where space is short


def of_runs(source: Source, settings: Mapping[str, object], preset: str) -> pd.DataFrame:
    """The rows of one source from the runs in build/."""
    return judge_tables(source, registry.read_built_tables(source, settings), preset, settings)


def judge_tables(
    source: Source,
    tables: registry.Tables,
    preset: str,
    settings: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """The whole claims file of a source, judged on these tables. settings: those that the tables were
    planned with, the preset's if not given.
    """
    claim_list = registry.claims_of(source)
    planned = source.presets[preset] if settings is None else settings
    measured = claims.measure(claim_list, registry.decide(source, tables, planned))
    absent = registry.list_missing(source, preset)
    return claims.judge(
        source.name,
        claim_list,
        measured,
        preset,
        lambda claim: _explain_absence(source, claim, preset, absent, settings is None),
    )


def read_recorded(source: Source, preset: str) -> pd.DataFrame:
    """The rows of one source from data/results/, without any row if nothing is recorded.

    Read from verdicts.csv where that was made from today's claims and tables, else judged. Raises
    BadData if the file was edited by hand.
    """
    made_from = _hash_inputs(source, preset)
    if not made_from:
        return pd.DataFrame(columns=claims.COLUMNS)
    path = _path(source, preset)
    rows, seal = _read(path) if path.exists() else (None, "")
    if seal == made_from:
        return rows
    return judge_tables(source, registry.read_recorded_tables(source, preset), preset)


def read_written(source: Source, preset: str) -> pd.DataFrame:
    """The rows of verdicts.csv as they were last written, whatever has changed since: what a pilot
    has shown; empty without the file. Raises BadData if it was edited by hand.
    """
    path = _path(source, preset)
    rows, seal = _read(path) if path.exists() else (None, "")
    return rows if seal else pd.DataFrame(columns=claims.COLUMNS)


def write_recorded(source: Source, preset: str) -> None:
    """Judge what is recorded and write it as verdicts.csv, numbers to six digits."""
    if made_from := _hash_inputs(source, preset):
        rows = judge_tables(source, registry.read_recorded_tables(source, preset), preset)
        text = _text(rows)
        sealed = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        sealed = sealed.assign(**{SEAL: f"{made_from} {_hash(text.encode())}"})
        content = sealed.to_csv(index=False, lineterminator="\n")
        paths.write_atomic(_path(source, preset), content.encode())


def read_larger(source: Source, preset: str) -> pd.DataFrame:
    """Recorded rows of the presets above this one that were tested, largest preset first."""
    above = reversed(claims.PRESETS[claims.PRESETS.index(preset) + 1 :])
    tables = [read_recorded(source, each) for each in above]
    tables = [rows[rows.verdict != "not tested"] for rows in tables if not rows.empty]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=claims.COLUMNS)


def list_decided(verdicts: pd.DataFrame) -> str:
    """Claim, case and verdict of the rows that every preset decides, one per line: what strict
    nbval compares.
    """
    rows = claims.primary_rows(verdicts)
    rows = rows[rows.kind.isin(claims.WITHOUT_INTERVAL)]
    width = max(map(len, rows.claim), default=0)
    return "\n".join(
        f"{row.claim:{width}}  {row.case:28}  {row.verdict}" for row in rows.itertuples()
    )


def number(row, name: str = "value") -> str:
    """A value with its interval, or alone where it has none."""
    value = f"{row.value:.3g}"
    return value if row.low == row.high == row.value else f"{value} [{row.low:.3g}, {row.high:.3g}]"


def band(row) -> str:
    """The band of a row, such as "at least 0" or "0.8 to 1.25"."""
    open_below, open_above = row.at_least == -float("inf"), row.at_most == float("inf")
    if open_below or open_above:
        return f"at most {row.at_most:g}" if open_below else f"at least {row.at_least:g}"
    return (
        f"{row.at_least:g}"
        if row.at_least == row.at_most
        else f"{row.at_least:g} to {row.at_most:g}"
    )


def control(row) -> str:
    """What the control was and what became of it; "" where there is none."""
    return f"{row.control}: {row.control_verdict} ({row.control_value:.3g})" if row.control else ""


def plain(table: pd.DataFrame) -> str:
    """The rows of one source for a terminal: primary cases one per line, then words and counts."""
    primary = claims.primary_rows(table)
    intervals = primary[~primary.kind.isin(claims.WITHOUT_INTERVAL)]
    rows = [
        ("claim", "case", "setting", "verdict", "value [interval]", "band", "control", "reason")
    ]
    rows += [(r.claim, r.case, r.setting, r.verdict, f"{number(r)} {r.unit}", band(r), control(r), r.reason)
             for r in intervals.itertuples()]  # fmt: skip
    lines = _align(rows)
    lines.append(
        f"exact statements and errata: {words(primary[primary.kind.isin(claims.WITHOUT_INTERVAL)])}"
    )
    beside = int((table.role != "primary").sum())
    lines.append(f"secondary cases and controls: {beside}, all of them with --json")
    lines += counts(table)
    reasons = table[table.verdict == "not tested"].reason.value_counts()
    return "\n".join(
        lines + [f"  not tested, {reason}: {count}" for reason, count in reasons.items()]
    )


def counts(table: pd.DataFrame) -> list[str]:
    """The headline, one line per group of claims."""
    lines = []
    for group, row in claims.headline(table).iterrows():
        texts = [f"{count} {word}" for word, count in row.drop("control fails").items() if count]
        survived = (
            f" (control fails in {row['control fails']} of the reproduced)"
            if row["reproduced"]
            else ""
        )
        lines.append(f"{group}: {', '.join(texts) or 'none'}{survived}")
    return lines


def closing(table: pd.DataFrame, preset: str) -> str:
    """One sentence: how many claims a run at this preset decided, and how many it could not, and why."""
    tested = claims.primary_rows(table)
    undecided = set(tested[tested.verdict == "inconclusive"].claim)
    left = table[~table.claim.isin(tested.claim)].drop_duplicates("claim")
    reasons = ", ".join(f"{count} {reason}" for reason, count in left.reason.value_counts().items())
    said = f"preset {preset} decided {tested.claim.nunique() - len(undecided)} of {table.claim.nunique()} claims"
    said += f", left {len(undecided)} inconclusive" if undecided else ""
    return f"{said}; {len(left)} it could not test: {reasons}." if len(left) else f"{said}."


def words(exact: pd.DataFrame) -> str:
    """Each claim with one verdict, or with how many of its cases have each."""
    texts = []
    for claim, verdicts in exact.groupby("claim", sort=False).verdict:
        counts = verdicts.value_counts()
        several = ", ".join(f"{count} {word}" for word, count in counts.items())
        texts.append(f"{claim} {counts.index[0] if len(counts) == 1 else f'({several})'}")
    return ", ".join(texts) or "none"


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _explain_absence(
    source: Source, claim: Claim, preset: str, absent: Sequence[str], recorded: bool
) -> str:
    """Why a claim was not tested: its primary case needs a data set that is not at hand, or, of what
    is `recorded`, older code did not have it.
    """
    entry = claim.primary.get(preset, {}).get("dataset")
    settings = source.presets[preset].get(entry)
    if settings is not None and settings.dataset in absent:
        return f"data set {settings.dataset} is not in REPLICATE_DATA; run make data NAME={settings.dataset}"
    files = (runs.record_file(source.name, name, preset) for name in claim.experiments)
    if recorded and any(path.exists() for path in files):
        return f"not in what older code recorded; make replicate PRESET={preset} runs it anew"
    return ""


def _path(source: Source, preset: str) -> Path:
    return paths.RESULTS / preset / source.name / "verdicts.csv"


def _hash_inputs(source: Source, preset: str) -> str:
    """Hashes of the claims file and of the recorded tables; "" if nothing is recorded."""
    tables = sorted(_path(source, preset).parent.glob("*.parquet"))
    if not tables:
        return ""
    of_tables = "".join(f"{path.name} {runs.checksum_of(path)}\n" for path in tables)
    return (
        f"{_hash((paths.CLAIMS / f'{source.name}.toml').read_bytes())} {_hash(of_tables.encode())}"
    )


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    """The rows of a verdicts.csv and what they were made from. Raises BadData if it is damaged or
    edited.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # of decoding too
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise BadData(f"{path} is damaged ({line}); delete it and run make readme") from None
    seals = text.pop(SEAL).unique() if SEAL in text else []
    if len(seals) != 1 or list(text) != claims.COLUMNS:
        return text, ""
    made_from, _, rows_hash = seals[0].rpartition(" ")
    if _hash(_text(text).encode()) != rows_hash:
        raise BadData(
            f"{path} was edited by hand; delete it and run make readme, which judges the tables anew"
        )
    return text.assign(**{name: pd.to_numeric(text[name]) for name in claims.NUMBERS}), made_from


def _text(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
