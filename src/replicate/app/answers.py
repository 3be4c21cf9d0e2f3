"""The answer to "is it true?": a few sentences a source, with numbers that are filled in from data/results/.

`data/answers/<source>.toml` holds the sentences. `{TRAJ-21.loss:reproduced}` in them is the value and interval of the
recorded primary row of that claim; the word after the colon is the verdict that the sentence rests on, so a sentence whose
row has another verdict by now is refused. A second word asks for another form of the number (NUMBER_FORMS). `{night/TRAJ-21.loss:inconclusive}`
is that row as another preset's record has it.
"""

import string
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from replicate import claims, paths
from replicate.app import verdicts
from replicate.errors import BadData
from replicate.sources.protocol import Source

PROSE_COLUMNS = 118  # columns of prose


class Answer(NamedTuple):
    """What stands at the head of README, notebook and report for one source, as Markdown."""

    source: str
    title: str  # the source's name and its question
    short: str  # a few words
    text: str  # two or three sentences with numbers
    setting: str  # what the numbers hold for
    alt: str  # what one sees in the source's figure

    def in_markdown(self) -> str:
        """The answer as paragraphs."""
        paragraphs = (f"**{self.short}**", self.text, f"Measured on {self.setting}.")
        return "\n\n".join(
            textwrap.fill(each, PROSE_COLUMNS, break_on_hyphens=False, break_long_words=False)
            for each in paragraphs
        )


def answer(source: Source) -> Answer | None:
    """The source's answer from its records; None for a source without a file of sentences.

    Raises BadData if a sentence rests on a verdict that the records do not show.
    """
    said = _read(source)
    if not said:
        return None
    file = _path_of(source).name
    rows = read_rows(source, said["preset"], said["text"] + said["setting"])
    return Answer(
        source.name,
        said["title"],
        said["short"],
        " ".join(fill(said["text"], file, rows).split()),
        fill(said["setting"], file, rows),
        said["alt"],
    )


def read_rows(source: Source, preset: str, text: str) -> pd.DataFrame:
    """The primary rows of a preset, and of those that the text's fields name, whose claims are called
    `preset/claim`.
    """
    rows = [claims.primary_rows(verdicts.read_recorded(source, preset))]
    fields = [field for _, field, *_ in string.Formatter().parse(text)]
    for named in sorted({field.partition("/")[0] for field in fields if field and "/" in field}):
        others = claims.primary_rows(verdicts.read_recorded(source, named))
        rows.append(others.assign(claim=f"{named}/" + others.claim))
    return pd.concat(rows, ignore_index=True)


def preset_of(source: Source) -> str:
    """The preset whose records the answer, and the figure beside it, rest on; "" without an answer."""
    return _read(source).get("preset", "")


def _path_of(source: Source) -> Path:
    return paths.ANSWERS / f"{source.name}.toml"


def _read(source: Source) -> dict[str, str]:
    path = _path_of(source)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def fill(text: str, file: str, rows: pd.DataFrame) -> str:
    """`text` of a file with its `{claim:verdict form}` filled in from rows, one primary row a claim.

    Raises BadData, which names the file, where the rows have another verdict, or none.
    """
    return _Filler(file, rows).format(text)


class _Row:
    """A recorded row, which a sentence writes down as `{claim:verdict form}`."""

    def __init__(self, file: str, row) -> None:
        self.file = file
        self.row = row

    def __format__(self, spec: str) -> str:
        word, _, form = spec.rpartition(" ")
        if form not in NUMBER_FORMS:
            word, form = spec, "interval"
        if word != self.row.verdict:
            raise BadData(
                f"{self.file} says that {self.row.claim} is {word or 'nothing'}, and data/results/ has it "
                f"{self.row.verdict}; write the sentence anew"
            )
        return NUMBER_FORMS[form](self.row)


class _Filler(string.Formatter):
    """Looks claims up by their ids, which hold dots and dashes."""

    def __init__(self, file: str, rows: pd.DataFrame) -> None:
        self.file = file
        self.rows = {
            row.claim: row for row in reversed(list(rows.itertuples()))
        }  # the first case of each

    def get_field(self, field_name: str, args, kwargs) -> tuple[_Row, str]:
        if field_name not in self.rows:
            raise BadData(f"{self.file} names {field_name}, which has no primary row on record")
        return _Row(self.file, self.rows[field_name]), field_name


def _between(change: Callable[[float], float], unit: str = "") -> Callable[[object], str]:
    """Value and interval after a change of scale."""

    def write(row) -> str:
        value, *ends = (f"{change(x):.3g}" for x in (row.value, row.low, row.high))
        return f"{value}{unit}" if row.low == row.high else f"{value}{unit} [{ends[0]}, {ends[1]}]"

    return write


NUMBER_FORMS: dict[str, Callable[[object], str]] = {
    "interval": verdicts.number,
    "value": lambda row: f"{row.value:.3g}",
    "control": lambda row: f"{row.control_value:.3g}",
    "control-2^": lambda row: f"{2**row.control_value:.3g}",
    "control-points": lambda row: f"{100 * row.control_value:.3g}",
    "magnitude": lambda row: f"{abs(row.value):.2g}",
    "2^": _between(lambda x: 2**x),  # of rows in log2
    "2^%": _between(lambda x: 100 * (2**x - 1), " %"),
    "10^": _between(lambda x: 10**x),  # of rows in log10
    "%": _between(lambda x: 100 * x, " %"),
    "points": _between(lambda x: 100 * x, " points"),
    "seeds": lambda row: f"{row.n}",
}
