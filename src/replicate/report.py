"""Verdicts brought together: from the tables of a source to its rows, and from the rows to what people read."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import pandas as pd

from replicate import claims, paths, runs, sources
from replicate.errors import BadData, unknown

MARKS = ("<!-- verdicts: written by make readme -->", "<!-- end of verdicts -->")
SHOWN = ["claim", "case", "verdict", "value", "low", "high", "control", "reason"]  # of a row, where space is short


def source_names() -> list[str]:
    """The sources, by the stem of their module, notebook and claims file."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__))


def source(name: str) -> ModuleType:
    """The module of one source. Raises BadParameter on an unknown name, with the nearest right one."""
    if name not in source_names():
        raise unknown("source", name, source_names())
    return importlib.import_module(f"replicate.sources.{name}")


def settings_of(module: ModuleType, experiment, settings: Mapping[str, object]) -> Mapping[str, object]:
    """What an experiment runs on: ALGEBRA if it needs no data, else those of `settings` that it is meant for."""
    if experiment in module.WITHOUT_DATA:
        return module.ALGEBRA
    meant = module.RUNS_ON.get(experiment, tuple(settings))
    return {dataset: one for dataset, one in settings.items() if dataset in meant}


def verdicts(module: ModuleType, settings: Mapping[str, object], preset: str, absent=()) -> pd.DataFrame:
    """The rows of one source from the runs in `build/`. absent: data sets that are not at hand."""
    tables = {e.__name__: runs.cached(e, settings_of(module, e, settings)) for e in module.EXPERIMENTS}
    return judged(module, tables, preset, absent)


def recorded(module: ModuleType, preset: str) -> pd.DataFrame:
    """The rows of one source from the runs in `data/results/`, without any row if nothing is recorded."""
    tables = {e.__name__: runs.load_recorded(e, preset) for e in module.EXPERIMENTS}
    if all(table.empty for table in tables.values()):
        return pd.DataFrame(columns=claims.COLUMNS)
    return judged(module, tables, preset)


def older(module: ModuleType, preset: str) -> list[str]:
    """What is recorded by older code than the one here, such as "figure_5 on digits"."""
    return [f"{e.__name__} on {dataset}" for e in module.EXPERIMENTS for dataset in runs.older(e, preset)]


def judged(module: ModuleType, tables: Mapping[str, pd.DataFrame], preset: str, absent=()) -> pd.DataFrame:
    """The whole claims file of a source, judged on these tables."""
    name = module.__name__.rpartition(".")[2]
    return claims.judge(name, claims.load(name), module.measure(tables), preset, module.BUILT, absent)


def write_recorded(module: ModuleType, preset: str) -> None:
    """Judge what is recorded and write it as `data/results/<preset>/<source>/verdicts.csv`, numbers to six digits."""
    name = module.__name__.rpartition(".")[2]
    table = recorded(module, preset)
    if not table.empty:
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        paths.write_atomic(paths.RESULTS / preset / name / "verdicts.csv", text.encode())


def larger(module: ModuleType, preset: str) -> pd.DataFrame:
    """Recorded rows of the presets above this one that were tested, largest preset first."""
    above = reversed(claims.PRESETS[claims.PRESETS.index(preset) + 1 :])
    parts = [recorded(module, one) for one in above]
    parts = [part[part.verdict != "not tested"] for part in parts if not part.empty]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=claims.COLUMNS)


def beside(experiment, preset: str) -> pd.DataFrame:
    """The recorded table of the largest preset above this one, or of this one; empty if nothing is recorded."""
    for one in reversed(claims.PRESETS[claims.PRESETS.index(preset) :]):
        table = runs.load_recorded(experiment, one)
        if not table.empty:
            return table
    return pd.DataFrame()


def plain(table: pd.DataFrame) -> str:
    """The rows of one source for a terminal: primary cases one a line, exact claims in a word each, then the counts."""
    primary, exact = firm(table)
    rows = [("claim", "case", "verdict", "value [interval]", "control", "reason")]
    rows += [(r.claim, r.case, r.verdict, _number(r), r.control, r.reason) for r in primary.itertuples()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    tested = int((table.verdict != "not tested").sum())
    lines.append(f"exact and errata: {_words(exact)}")
    lines.append(f"secondary cases: {tested - len(primary) - len(exact)}, with --json")
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in claims.headline(table).items()))
    reasons = table[table.verdict == "not tested"].reason.value_counts()
    return "\n".join(lines + [f"  not tested, {reason}: {count}" for reason, count in reasons.items()])


def markdown() -> str:
    """The tables of README.md: how many claims came out how, then every primary row that was decided."""
    rows = {(n, p): recorded(source(n), p) for n in source_names() for p in claims.PRESETS}
    rows = {key: table for key, table in rows.items() if not table.empty}
    if not rows:
        return "Nothing is recorded yet."
    counts = [
        "| source | preset | reproduced | contradicted | inconclusive | not tested |",
        "|---|---|---|---|---|---|",
    ]
    for (name, preset), table in rows.items():
        counts.append(f"| {name} | {preset} | {' | '.join(map(str, claims.headline(table)))} |")
    parts = ["\n".join(counts)]
    for (name, preset), table in rows.items():
        primary, exact = firm(table)
        parts.append(f"**{name}, preset `{preset}`**: primary cases with intervals\n\n" + _table(primary))
        parts.append(f"Exact rows and errata (an erratum `reproduced` is a slip confirmed): {_words(exact)}.")
    parts += [one for one in [_speed()] if one]
    return "\n\n".join(parts)


def firm(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that count in a headline: primary cases with intervals, and exact rows and errata."""
    counted = table[(table.verdict != "not tested") & ~table.reason.str.startswith("secondary")]
    exact = counted.kind.isin(claims.WITHOUT_INTERVAL)
    return counted[~exact], counted[exact]


def render(readme: str) -> str:
    """README.md with its verdict tables made anew. Raises BadData if the two marks are not there."""
    before, _, rest = readme.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise BadData(f"README.md must hold the lines {MARKS[0]} and {MARKS[1]}")
    return f"{before}{MARKS[0]}\n{markdown()}\n{MARKS[1]}{after}"


def _speed() -> str:
    """What was measured of speed on a GPU, a row a goal; empty if nothing is recorded."""
    from replicate import speed

    tables = [runs.load_recorded(experiment, "gpu") for experiment in speed.EXPERIMENTS]
    if all(table.empty for table in tables):
        return ""
    found = pd.concat([table for table in tables if not table.empty], ignore_index=True)
    lines = ["| goal | what | wanted | median [smallest, largest round] | met |", "|---|---|---|---|---|"]
    for row in found.itertuples():
        bounds = [f"at {side} {v:g}" for side, v in (("least", row.at_least), ("most", row.at_most)) if pd.notna(v)]
        lines.append(f"| {row.goal} | {row.what} | {', '.join(bounds)} | {_number(row)} {row.unit} | {row.met} |")
    return f"**Speed on {', '.join(sorted(found.device.unique()))}**\n\n" + "\n".join(lines)


def _words(exact: pd.DataFrame) -> str:
    """Each claim with one verdict, or with how many of its cases have each."""
    words = []
    for claim, verdicts in exact.groupby("claim", sort=False).verdict:
        counts = verdicts.value_counts()
        words.append(f"{claim} " + (counts.index[0] if len(counts) == 1 else f"{counts.to_dict()}"))
    return ", ".join(words)


def _number(row) -> str:
    return f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"


def _table(rows: pd.DataFrame) -> str:
    lines = ["| claim | says | case | verdict | value [interval] | control |", "|---|---|---|---|---|---|"]
    for row in rows.itertuples():
        verdict = f"**{row.verdict}**" + (f" ({row.reason})" if row.reason else "")
        number = f"{_number(row)} {row.unit}"
        lines.append(f"| {row.claim} | {row.statement} | {row.case} | {verdict} | {number} | {row.control} |")
    return "\n".join(lines)
