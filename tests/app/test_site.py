"""The report has every claim, asks nobody for anything, and replaces an older one only when it is
whole.
"""

import itertools
import os
import re
import shutil
import sys

import pytest

from replicate import claims, paths
from replicate.app import claim_cards, formulas, registry, site
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


def pages_of(built) -> list:
    """All pages, without the files that the theme brings."""
    return [path for path in built.parent.rglob("*.html") if "_static" not in path.parts]


def test_claims_lead_to_figures_and_figures_to_claims(built):
    """Every link between a notebook's page, the cards and both tables leads to an anchor that is there."""
    pages = {path.name: path.read_text() for path in built.parent.glob("*.html")}
    ids = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in pages.items()}
    links = [
        (name, page, anchor)
        for name, text in pages.items()
        for page, anchor in re.findall(r'href="([\w-]+\.html)#([^"]+)"', text)
    ]
    assert [link for link in links if link[2] not in ids[link[1]]] == []
    for name in names():
        assert any(
            start == f"{name}.html" and page == f"verdicts-{name}.html" for start, page, _ in links
        )
        assert any(
            start == f"verdicts-{name}.html" and page == f"{name}.html" for start, page, _ in links
        )
        assert any(
            start == "claims.html" and page == f"verdicts-{name}.html" for start, page, _ in links
        )
        assert any(start == "figures.html" and page == f"{name}.html" for start, page, _ in links)


def test_every_figure_says_what_one_sees_and_every_field_has_a_name(built):
    for path in pages_of(built):
        text = path.read_text()
        for picture in re.findall(r"<img\b[^>]*>", text):
            (alt,) = re.findall(r'\balt="([^"]*)"', picture)
            assert len(alt.split()) >= 3 and ".png" not in alt, (path.name, picture)
        assert len(re.findall(r"<h1\b", text)) <= 1 and 'lang="en"' in text and "<main" in text, (
            path.name
        )
        levels = [int(level) for level in re.findall(r"<h([1-6])\b", text)]
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), (
            path.name,
            levels,
        )


def test_every_page_has_a_policy_that_knows_its_scripts(built):
    for path in pages_of(built):
        text = path.read_text()
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
        assert "default-src 'none'" in policy and "'unsafe-eval'" not in policy
        (scripts,) = re.findall(r"script-src ([^;]+);", policy)
        assert "unsafe" not in scripts and "http" not in policy
        assert not re.findall(r"<[^>]+\son[a-z]+=", text), path.name


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
        id="A-1",
        where=text,
        statement=text,
        quote=text,
        kind="exact",
        unit=text,
        needs="smoke",
        at_least=0,
        margin=text,
    )
    source = registry.source("across")
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
        page = site.html_table(table.assign(**{column: text}))
        assert "<script" not in page and page.count("&lt;script&gt;") >= 2, column
        page = claim_cards.write_cards(
            source, [hostile], {"smoke": table.assign(**{column: text, "claim": "A-1"})}, {}
        )
        assert "<script" not in page and page.count("&lt;script&gt;") >= 3, column


def test_a_row_shows_what_decides_it():
    made = claims.Claim(
        id="A-1", where="p", statement="s", kind="exact", unit="nats", needs="smoke", at_least=0
    )
    table = claims.judge("x", [made], [], "smoke").assign(
        setting="stand-in", verdict="reproduced", value=1.25
    )
    page = site.html_table(table.assign(low=1.25, high=1.25))
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


def test_a_formula_is_set_or_shown_as_it_was_written():
    set_formula = formulas.to_mathml(r"w_t = \sum_{j>t}\mu_j")
    assert set_formula.startswith("<math") and "∑" in set_formula and "μ" in set_formula
    assert formulas.to_mathml(r"\begin{nonsense}<") == r"<code>\begin{nonsense}&lt;</code>"


def test_every_formula_of_the_notebooks_can_be_read_aloud(built):
    for name in names():
        page = (built.parent / f"{name}.html").read_text()
        assert not re.findall(r"<code>[^<]*\\[a-z]+[^<]*</code>", page), name


def test_a_row_says_its_verdict_to_the_script_and_a_phone_shows_it_second():
    source = registry.source("sandler2023trajectories")
    table = claims.judge(source.name, registry.claims_of(source), [], "cpu")
    page = site.html_table(table)
    assert site.PAGE_COLUMNS[:3] == ("claim", "verdict", "value")
    assert page.count('data-verdict="not tested"') == len(table) == page.count("<tr ")
    assert page.count("<option>") == 1 and page.count('<th scope="col"><button') == len(
        site.PAGE_COLUMNS
    )
    for name in ("claims.js", "claims.css"):
        assert (site.STATIC / name).read_text()


PHONE = {"width": 390, "height": 844}
MOST_SCREENS = 10
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_each_page_whole_and_within_ten_screens(built, scheme):
    api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    wrong, outside, grounds = [], [], set()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=PHONE, color_scheme=scheme)
        page.on("request", lambda request: outside.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        for path in pages_of(built):
            page.goto(path.as_uri())
            width, height = page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            )
            if width > PHONE["width"] or height > MOST_SCREENS * PHONE["height"]:
                wrong.append(f"{path.name}: {width} x {height}")
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert wrong == []
    assert [url for url in outside if not url.startswith(("file:", "data:"))] == []
    (ground,) = grounds
    levels = [int(level) for level in re.findall(r"\d+", ground)[:3]]
    assert (max(levels) < 64) == (scheme == "dark") and (min(levels) > 192) == (scheme == "light")
