"""docs/processors.md: which words depend on the processor. Beside the recorded verdicts stand those of a
second pool, made by the same command on another processor.

data/results/<preset>/<source>/elsewhere.csv    the second pool's rows that decide something; written
                                                by `compare FOLDER --keep NAME`, which names its processor
"""

import io
import re
from pathlib import Path

import pandas as pd

from replicate import paths
from replicate.app import comparison, registry, verdicts
from replicate.app.readme import escape
from replicate.errors import BadData, BadParameter
from replicate.sources.protocol import Source

COMPARED_AT = (
    "cpu"  # the largest that is run whole, so that another machine can be asked for all of it
)
FILE = "elsewhere.csv"
KEPT_NUMBERS = ["value", "low", "high", "n"]
KEPT_COLUMNS = ["processor", *comparison.ROW, "verdict", *KEPT_NUMBERS, "unit", "obstacle"]
KEPT_TEXTS = [name for name in KEPT_COLUMNS if name not in KEPT_NUMBERS]
PROCESSOR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,.()-]{0,59}")
PAGE_HEAD = """\
# Which words depend on the processor?

(Written by `make readme`.) The same command, seeds and settings on another processor round otherwise, and a clock tells
other seconds. Below, the verdicts that are recorded are held against those that a second processor gave, by today's
claims. `word`: the verdict differs. `moved`: it does not, but the two values lie further apart than half the longer of
their intervals. `python -m replicate compare FOLDER` does the same with a pool of your own.
"""
CLOCKED_OTHERWISE = "It judges seconds: what a pass costs beside another differs between processors"
ROUNDED_OTHERWISE = (
    "It judges no seconds, and nothing else holds either word back: what is left is rounding"
)


def page() -> Path:
    """Where the page lies."""
    return paths.ROOT / "docs" / "processors.md"


def keep(folder: Path, processor: str) -> list[Path]:
    """Keep what the pool in a folder decides as the second processor's; the files. Raises BadParameter on
    a name that is none, Missing or BadData as `comparison.compare` does.
    """
    if not PROCESSOR_NAME.fullmatch(processor):
        raise BadParameter(
            "the processor's name must be up to 60 letters, digits, spaces and ,.()-, "
            f"got {processor[:80]!r}"
        )
    rows = comparison.judge_all(comparison.Pool(folder), COMPARED_AT).assign(processor=processor)
    written = []
    for source, judged in rows.groupby("source", sort=True):
        path = _path(source)
        paths.write_atomic(path, judged[KEPT_COLUMNS].to_csv(index=False).encode())
        written.append(path)
    return written


def render() -> str:
    """The page: counts of each source, then each primary row whose word differs, with the reason."""
    compared = {source.name: _compare(source) for source in registry.sources()}
    compared = {name: rows for name, rows in compared.items() if not rows.empty}
    changes = [change for change in comparison.CHANGES if change != comparison.ONE_SIDED]
    head = ["source", "second processor", *(f"{change}, primary" for change in changes)]
    counts = [f"| {' | '.join(head + [f'{each}, others' for each in changes])} |"]
    counts.append("|---" * (2 + 2 * len(changes)) + "|")
    for name, rows in compared.items():
        is_primary = rows.role == "primary"
        cells = [name, rows.processor.iloc[0]]
        for group in (rows[is_primary], rows[~is_primary]):
            cells += [str(int((group.change == change).sum())) for change in changes]
        counts.append(f"| {' | '.join(cells)} |")
    parts = [PAGE_HEAD, "\n".join(counts), *(_list_words(*each) for each in compared.items())]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _path(source: str) -> Path:
    return paths.RESULTS / COMPARED_AT / source / FILE


def _compare(source: Source) -> pd.DataFrame:
    """The rows that both processors decided, with `change`, the statement, and whether they judge seconds."""
    path = _path(source.name)
    recorded = verdicts.read_recorded(source, COMPARED_AT)
    if not path.exists() or recorded.empty:
        return pd.DataFrame()
    decided = recorded[recorded.verdict != "not tested"]
    rows = comparison.join(decided, _read(path))
    told = {claim.id: claim for claim in registry.claims_of(source)}
    rows = rows[(rows.change != comparison.ONE_SIDED) & rows.claim.isin(told)]
    return rows.assign(
        statement=[told[each].statement for each in rows.claim],
        is_clocked=[bool(told[each].level) for each in rows.claim],
    )


def _read(path: Path) -> pd.DataFrame:
    """What `keep` wrote. Raises BadData on anything else."""
    try:
        rows = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=dict.fromkeys(KEPT_TEXTS, str))
        numbers = rows[KEPT_NUMBERS].astype(float)
    except (KeyError, ValueError, pd.errors.ParserError):
        rows = numbers = pd.DataFrame()
    if list(rows.columns) != KEPT_COLUMNS:
        raise BadData(f"{path} is not what `compare FOLDER --keep NAME` writes; write it anew")
    return rows.assign(**numbers).fillna(dict.fromkeys(KEPT_TEXTS, ""))


def _list_words(name: str, rows: pd.DataFrame) -> str:
    """Each primary row whose word differs: recorded, there, and why."""
    differing = rows[(rows.change == "word") & (rows.role == "primary")]
    if differing.empty:
        return ""
    lines = [
        f"## {name}",
        "",
        "| claim | in words | cell | recorded | there | why |",
        "|---" * 6 + "|",
    ]
    for row in differing.to_dict("records"):
        here, there = (comparison.tell_side(row, side) for side in comparison.SIDES)
        cells = (row["claim"], row["statement"], row["case"], here, there, _explain(row))
        lines.append(f"| {' | '.join(map(escape, cells))} |")
    return "\n".join(lines)


def _explain(row: dict) -> str:
    """What holds one of the words back, or else where the numbers come from."""
    for side, where in zip(comparison.SIDES, ("Recorded", "There"), strict=True):
        if isinstance(held := row["obstacle" + side], str) and held:
            return f"{where}: {held}"
    return CLOCKED_OTHERWISE if row["is_clocked"] else ROUNDED_OTHERWISE
