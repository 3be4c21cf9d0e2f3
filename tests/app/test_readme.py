"""README.md says what is recorded, between its two marks, in few lines, and names what is there."""

import re

import pytest
from records import FILE, SOURCE, write_record

from replicate import claims, paths
from replicate.app import answer_figures, cli, readme, registry, verdicts
from replicate.errors import BadData

PAGE = f"# x\n\n{readme.MARKS[0]}\nwhat stood there\n{readme.MARKS[1]}\n\nafter\n"


@pytest.fixture
def one_source(tmp_path, monkeypatch):
    """One source, with a record at preset gpu of its own."""
    source = registry.source(SOURCE)
    monkeypatch.setattr(registry, "sources", lambda: [source])
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(paths, "ANSWERS", tmp_path)  # without sentences, which rest on other rows
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


def test_readme_is_short_and_its_prose_fits_a_screen():
    lines = (paths.ROOT / "README.md").read_text().splitlines()
    prose = [line for line in lines if not line.startswith(("|", "![", "    "))]
    assert len(lines) <= 200
    assert [line for line in prose if len(line) > 120] == []


def test_what_the_sources_say_is_answered_before_what_is_ours():
    text = (paths.ROOT / "README.md").read_text()
    places = {name: text.index(f"(notebooks/{name}.ipynb)") for name in registry.names()}
    assert max(places, key=places.get) == "across"


def test_links_of_readme_and_docs_lead_to_files():
    for page in (
        paths.ROOT / "README.md",
        paths.ROOT / "CONTRIBUTING.md",
        *(paths.ROOT / "docs").glob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), (
                f"{page.name}: {target}"
            )


def test_messages_under_when_something_goes_wrong_are_those_of_the_code():
    text = (paths.ROOT / "README.md").read_text().partition("## When something goes wrong")[2]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    code = "\n".join(path.read_text() for path in (paths.ROOT / "src").rglob("*.py"))
    code += (paths.ROOT / "Makefile").read_text()
    said = [message for row in rows for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(said) >= 8
    assert [message for message in said if message not in code] == []


def test_every_command_that_readme_names_is_there():
    text = (paths.ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):.*## ", (paths.ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = {
        command.name or command.callback.__name__ for command in cli.app.registered_commands
    }
    commands |= {group.name for group in cli.app.registered_groups}
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=[ `\n])", text)) - {"wheel"} <= set(targets)
    assert set(re.findall(r"python -m replicate ([a-z]+)", text)) <= commands


def test_figures_beside_the_answers_show_what_is_recorded():
    for source in registry.sources():
        assert answer_figures.is_current(source), "run make readme and commit docs/figures/"
