"""docs/which.md takes its numbers from the records of all sources, and says which claims they are of."""

import re

import pytest

from replicate import claims, paths
from replicate.app import advice, registry, verdicts
from replicate.errors import BadData


@pytest.fixture(scope="module")
def rows() -> dict:
    """Claim -> its recorded primary row, read from the files beside the code under test."""
    tables = [verdicts.read_recorded(source, advice.RECORDED_AT) for source in registry.sources()]
    return {
        row.claim: row
        for table in tables
        if not table.empty
        for row in claims.primary_rows(table).itertuples()
    }


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(text): the page whose sentences are `text`."""
    monkeypatch.setattr(paths, "ANSWERS", tmp_path)

    def render(text: str) -> str:
        (tmp_path / advice.SENTENCES).write_text(text)
        return advice.render()

    return render


def test_the_stored_page_shows_what_is_recorded():
    assert advice.page().read_text() == advice.render(), "run make readme and commit docs/which.md"


def test_numbers_come_from_the_sources_that_the_claims_belong_to(write, rows):
    trips, walks = rows["TRAJ-21.loss"], rows["KEEP-23.tuned"]
    page = write(
        f"{{TRAJ-21.loss:{trips.verdict} value}} and {{KEEP-23.tuned:{walks.verdict} seeds}}"
    )
    assert page == f"{trips.value:.3g} and {walks.n}\n"


def test_a_row_of_the_table_names_the_claims_it_rests_on(write, rows):
    word = rows["TRAJ-21.loss"].verdict
    told = f"| yes | {{TRAJ-21.loss:{word} value}} of {{TRAJ-21.loss:{word} seeds}}, {{TRAJ-27:{rows['TRAJ-27'].verdict} value}} |"
    head, rule, row = write(f"| a | b |\n|---|---|\n{told}\n").splitlines()
    assert head == "| a | b | rests on |" and rule == "|---|---|---|"
    assert row.endswith(" | `TRAJ-21.loss`, `TRAJ-27` |") and len(re.findall(r"\|", row)) == 4


def test_a_sentence_whose_verdict_has_changed_is_refused_by_name(write, rows):
    other = "contradicted" if rows["TRAJ-21.loss"].verdict == "reproduced" else "reproduced"
    with pytest.raises(BadData, match=rf"which\.md says that TRAJ-21\.loss is {other}"):
        write(f"{{TRAJ-21.loss:{other}}}")


def test_prose_fits_a_screen_and_every_item_hangs(write):
    page = write("word " * 60 + "\n\n- " + "item " * 60)
    lines = page.splitlines()
    assert max(map(len, lines)) <= 120 and len(lines) > 5
    start = next(i for i, line in enumerate(lines) if line.startswith("- "))
    assert all(line.startswith("  ") for line in lines[start + 1 :])


def test_the_page_weighs_every_method_against_what_it_competes_with(rows):
    """An advice rests on claims of all four sources, and most of its rows have a control or a rival arm."""
    text = (paths.ANSWERS / advice.SENTENCES).read_text()
    named = set(re.findall(r"\{([A-Z][\w.-]+):", text))
    assert {name.split("-")[0] for name in named} >= {"TRAJ", "LOOK", "EXTRA", "KEEP"}
    assert named <= set(rows)
    assert {rows[name].verdict for name in named} >= {"reproduced", "contradicted", "inconclusive"}
