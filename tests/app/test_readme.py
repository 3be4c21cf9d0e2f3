"""README.md shows what is recorded, between its two marks, as text and never as markup."""

import pandas as pd
import pytest
from records import FILE, SOURCE, write_record

from replicate import claims, paths
from replicate.app import readme, registry, verdicts
from replicate.errors import BadData

PAGE = f"# x\n\n{readme.MARKS[0]}\nwhat stood there\n{readme.MARKS[1]}\n\nafter\n"


@pytest.fixture
def one_source(tmp_path, monkeypatch):
    """One source, with a record at preset gpu of its own."""
    source = registry.source(SOURCE)
    monkeypatch.setattr(registry, "sources", lambda: [source])
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    write_record(tmp_path / "gpu" / SOURCE / FILE)
    return source


def test_readme_shows_what_is_recorded():
    text = (paths.ROOT / "README.md").read_text()
    assert readme.render(text) == text, "run make readme and commit README.md"


def test_rendering_touches_what_lies_between_the_marks_only(one_source):
    once = readme.render(PAGE)
    assert once.startswith("# x\n\n") and once.endswith(f"{readme.MARKS[1]}\n\nafter\n")
    assert "what stood there" not in once and readme.render(once) == once


@pytest.mark.parametrize("text", ["nothing", readme.MARKS[0], PAGE.replace(readme.MARKS[1], "")])
def test_a_page_without_marks_is_refused(text):
    with pytest.raises(BadData, match="must hold the lines"):
        readme.render(text)


def test_nothing_recorded_is_said(one_source, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "empty")
    assert readme.tables() == "Nothing is recorded yet."


def test_every_primary_row_stands_there_with_band_and_setting(one_source):
    lines = readme.tables().splitlines()
    rows = verdicts.read_recorded(one_source, "gpu")
    primary = claims.primary_rows(rows)
    assert len(primary) > 5
    for row in primary[~primary.kind.isin(claims.WITHOUT_INTERVAL)].itertuples():
        (line,) = [line for line in lines if line.startswith(f"| {row.claim} |")]
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[1:4] == [row.statement, row.case, row.setting]
        assert cells[4].startswith(f"**{row.verdict}**") and cells[6] == verdicts.band(row)


def test_the_headline_is_that_of_the_rows(one_source):
    counts = claims.headline(verdicts.read_recorded(one_source, "gpu")).loc["claims of the source"]
    (line,) = [
        line
        for line in readme.tables().splitlines()
        if line.startswith(f"| {SOURCE} | gpu | claims of")
    ]
    words = [
        "reproduced",
        "control fails",
        "contradicted",
        "inconclusive",
        "confirmed",
        "not confirmed",
        "not tested",
    ]
    assert [int(cell) for cell in line.strip("| ").split(" | ")[3:]] == [
        counts[word] for word in words
    ]


HOSTILE = ("<script>alert(1)</script>", "a | b", "two\nlines", "![x](http://example.org/a.png)")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("column", ["statement", "case", "setting", "reason", "unit", "control"])
def test_what_a_row_says_is_text_in_one_cell(one_source, monkeypatch, column, text):
    rows = verdicts.read_recorded(one_source, "gpu")
    first = claims.primary_rows(rows).index[0]
    rows.loc[first, column] = text
    monkeypatch.setattr(
        verdicts,
        "read_recorded",
        lambda source, preset: rows if preset == "gpu" else pd.DataFrame(),
    )
    (line,) = [
        line for line in readme.tables().splitlines() if line.startswith(f"| {rows.claim[first]} |")
    ]
    assert line.replace("\\|", "").count("|") == 9
    assert "<script" not in line and "](http" not in line
