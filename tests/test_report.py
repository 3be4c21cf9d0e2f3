"""The tables that people read are what is recorded, and README.md shows them as they are."""

import pandas as pd
import pytest

from replicate import claims, paths, report
from replicate.errors import BadData, BadParameter

PAGE = f"# x\n\n{report.MARKS[0]}\nwhat stood there\n{report.MARKS[1]}\n\nafter\n"


def test_readme_shows_what_is_recorded():
    text = (paths.ROOT / "README.md").read_text()
    assert report.render(text) == text, "run make readme and commit README.md"


@pytest.mark.parametrize(
    "path", sorted(paths.RESULTS.glob("*/*/verdicts.csv")), ids=lambda path: path.parent.parent.name
)
def test_recorded_verdicts_follow_from_the_recorded_runs(path):
    found = report.recorded(report.source(path.parent.name), path.parent.parent.name)
    recorded = pd.read_csv(path, keep_default_na=False, na_values=[""])
    for column in ("claim", "case", "verdict", "reason", "control", "commit"):
        assert found[column].tolist() == recorded[column].fillna("").astype(str).tolist()


def test_rendering_touches_what_lies_between_the_marks_only():
    once = report.render(PAGE)
    assert once.startswith("# x\n\n") and once.endswith(f"{report.MARKS[1]}\n\nafter\n")
    assert "what stood there" not in once
    assert report.render(once) == once


@pytest.mark.parametrize("text", ["nothing", report.MARKS[0], PAGE.replace(report.MARKS[1], "")])
def test_a_page_without_marks_is_refused(text):
    with pytest.raises(BadData, match="must hold the lines"):
        report.render(text)


def test_nothing_recorded_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    assert report.markdown() == "Nothing is recorded yet."
    module = report.source(report.source_names()[0])
    assert report.larger(module, "smoke").empty and report.beside(module.EXPERIMENTS[0], "smoke").empty


def rows(**verdicts: str) -> pd.DataFrame:
    made = [
        claims.Claim(name, "p", "s", "exact", "q", "1", "smoke", at_least=0, at_most=0) for name in verdicts
    ]  # fmt: skip
    table = claims.judge("someone2020", made, [], "smoke", list(verdicts))
    return table.assign(verdict=list(verdicts.values()), reason="", value=1.0, low=1.0, high=1.0)


def test_a_terminal_sees_primary_rows_exact_words_and_counts():
    table = pd.concat([rows(A="reproduced", B="contradicted", C="not tested"),
                       rows(D="reproduced").assign(kind="ordering", case="digits k=1"),
                       rows(D="contradicted").assign(kind="ordering", reason="secondary, not adjusted")])  # fmt: skip
    lines = report.plain(table).splitlines()
    assert lines[0].split("  ")[0] == "claim" and lines[1].startswith("D      digits k=1")
    assert lines[2] == "exact and errata: A reproduced, B contradicted"
    assert lines[3].startswith("secondary cases: 1")
    assert lines[4] == "2 reproduced, 1 contradicted, 0 inconclusive, 1 not tested"


def test_cases_that_disagree_are_counted():
    table = pd.concat([rows(A="reproduced"), rows(A="contradicted")])
    assert "A {'reproduced': 1, 'contradicted': 1}" in report.plain(table)


def test_the_largest_preset_is_shown_beside(monkeypatch):
    held = {"gpu": pd.DataFrame({"x": [2]}), "cpu": pd.DataFrame({"x": [1]})}
    monkeypatch.setattr(report.runs, "load_recorded", lambda experiment, preset: held.get(preset, pd.DataFrame()))
    assert report.beside(None, "smoke").x[0] == 2
    held.pop("gpu")
    assert report.beside(None, "cpu").x[0] == 1 and report.beside(None, "gpu").empty


def test_an_unknown_source_is_met_with_the_nearest_one():
    with pytest.raises(BadParameter, match="did you mean 'sandler2023trajectories'"):
        report.source("sandler2023")


@pytest.mark.parametrize("source", report.source_names())
def test_what_a_source_says_is_built_has_a_verdict_at_the_preset_that_decides_it(source):
    """BUILT is a promise: where everything has run, its rows are judged."""
    module = report.source(source)
    table = report.recorded(module, "cpu")
    silent = table[
        table.claim.isin(module.BUILT) & (table.verdict == "not tested") & ~table.reason.str.startswith("needs gpu")
    ]
    assert len(table) and silent.claim.tolist() == []
