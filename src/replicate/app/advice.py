"""docs/which.md: which method to use and whether it helps, answered from the records of all sources.

`data/answers/which.md` holds the sentences, with numbers written as in the answers of each source.
"""

import itertools
import string
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from replicate import paths
from replicate.app import answers, registry

RECORDED_AT = "cpu"  # the largest that every source has on record
SENTENCES = "which.md"


def page() -> Path:
    """Where the page lies."""
    return paths.ROOT / "docs" / SENTENCES


def render() -> str:
    """The page as Markdown, its numbers from data/results/.

    Raises BadData if a sentence rests on a verdict that the records do not show.
    """
    text = (paths.ANSWERS / SENTENCES).read_text(encoding="utf-8")
    recorded = [answers.read_rows(source, RECORDED_AT, text) for source in registry.sources()]
    rows = pd.concat([table for table in recorded if not table.empty], ignore_index=True)
    named = "\n".join(_name_claims(text.splitlines()))
    filled = answers.fill(named, SENTENCES, rows)
    return "\n".join(map(_wrap, filled.splitlines())) + "\n"


def _name_claims(lines: list[str]) -> Iterator[str]:
    """The lines, those of the table with one more cell: the claims whose numbers they give."""
    for is_row, group in itertools.groupby(lines, lambda line: line.startswith("|")):
        if not is_row:
            yield from group
            continue
        head, rule, *rows = group
        yield f"{head} rests on |"
        yield f"{rule}---|"
        for row in rows:
            ids = dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(row) if name)
            yield f"{row} {', '.join(f'`{each}`' for each in ids)} |"


def _wrap(line: str) -> str:
    """A paragraph or item, which is one line of the sentences, in the columns of prose."""
    if line.startswith(("|", "#")):
        return line
    return textwrap.fill(
        line,
        answers.PROSE_COLUMNS,
        subsequent_indent="  " if line.startswith("- ") else "",
        break_on_hyphens=False,
        break_long_words=False,
    )
