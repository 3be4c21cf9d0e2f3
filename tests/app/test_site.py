"""The report has every claim, asks nobody for anything, and replaces an older one only when it is
whole.
"""

import re
import sys

import pytest

from replicate import claims, paths
from replicate.app import registry, site
from replicate.errors import Failure, Unavailable
from replicate.sources.protocol import names


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("myst_nb", reason="the extra `report` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        yield site.build()


def test_every_claim_has_a_place_that_can_be_linked_to(built):
    for name in names():
        page = (built.parent / f"verdicts-{name}.html").read_text()
        for claim in registry.claims_of(registry.source(name)):
            assert page.count(f'id="{claim.id}"') == 1


def test_notebook_and_verdicts_can_be_reached_from_the_start(built):
    start = built.read_text()
    for name in names():
        assert f'href="{name}.html"' in start and f'href="verdicts-{name}.html"' in start
        assert "<img" in (built.parent / f"{name}.html").read_text()
    assert "How to read a verdict" in start


def test_no_page_fetches_anything_from_outside(built):
    for page in built.parent.glob("*.html"):
        text = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        fetched += re.findall(
            r'<link\b[^>]*\brel="(?:stylesheet|preload|icon)"[^>]*\bhref="([^"]+)"', text
        )
        assert fetched and not [one for one in fetched if one.startswith(("http", "//"))]


def test_what_a_file_says_is_text_never_markup():
    text = "<script>alert(1)</script>"
    hostile = claims.Claim(
        id="A-1", where="p", statement=text, kind="exact", unit="1", needs="smoke", at_least=0
    )
    table = claims.judge("x", [hostile], [], "smoke")
    for column in (
        "claim",
        "origin",
        "where",
        "case",
        "setting",
        "reason",
        "contrast",
        "unit",
        "control",
        "device",
    ):
        page = site.html_table(table.assign(**{column: text}), set())
        assert "<script" not in page and page.count("&lt;script&gt;") >= 2, column


def test_a_row_shows_what_decides_it():
    made = claims.Claim(
        id="A-1", where="p", statement="s", kind="exact", unit="nats", needs="smoke", at_least=0
    )
    table = claims.judge("x", [made], [], "smoke").assign(
        setting="stand-in", verdict="reproduced", value=1.25
    )
    page = site.html_table(table.assign(low=1.25, high=1.25), set())
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert dict(zip(site.PAGE_COLUMNS, cells, strict=True)) | {
        "value": "1.25",
        "band": "at least 0",
    } == dict(zip(site.PAGE_COLUMNS, cells, strict=True))
    assert "stand-in" in cells and "nats" in cells


def test_an_older_report_stays_when_the_new_one_fails(tmp_path, monkeypatch):
    pytest.importorskip("myst_nb", reason="the extra `report` is not installed")
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    older = tmp_path / "report" / "html" / "index.html"
    older.parent.mkdir(parents=True)
    older.write_text("older")
    monkeypatch.setattr(
        site, "write_pages", lambda folder: (folder / "index.md").write_text("{unknown-role}`x`")
    )
    with pytest.raises(Failure, match="could not be built.*log.txt") as error:
        site.build()
    assert older.read_text() == "older" and "\n" not in str(error.value)
    assert (tmp_path / "report" / "log.txt").read_text()


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    with pytest.raises(Unavailable, match=r"\.\[report\]"):
        site.build()
    assert not list(tmp_path.iterdir())


def test_a_formula_is_drawn_or_shown_as_it_was_written():
    assert site._draw(r"w_t = \sum_{j>t}\mu_j").startswith("<svg")
    assert site._draw(r"\begin{nonsense}<") == r"<code>\begin{nonsense}&lt;</code>"


def test_a_row_says_its_verdict_to_the_script_and_a_phone_shows_it_second():
    source = registry.source("sandler2023trajectories")
    table = claims.judge(source.name, registry.claims_of(source), [], "cpu")
    page = site.html_table(table, set())
    assert site.PAGE_COLUMNS[:3] == ("claim", "verdict", "value")
    assert page.count('data-verdict="not tested"') == len(table) == page.count("<tr ")
    assert page.count("<option>") == 1 and page.count('<th scope="col"><button') == len(
        site.PAGE_COLUMNS
    )
    for name in ("claims.js", "claims.css"):
        assert (site.STATIC / name).read_text()
