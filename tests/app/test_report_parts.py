"""Parts of the report by themselves: intervals as pictures, cards, folded sections, the policy of a page."""

import hashlib
import re
from base64 import b64encode
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from replicate import claims
from replicate.app import claim_cards, interval_picture, notebook_pages, page_policy, registry, site
from replicate.sources.protocol import names


def row(**changed):
    plain = {
        "value": 1.0,
        "low": 0.9,
        "high": 1.1,
        "at_least": 0.8,
        "at_most": 1.25,
        "control_value": 0.5,
    }
    return SimpleNamespace(**plain | changed)


def places(picture: str) -> dict[str, tuple[float, ...]]:
    """Where value, interval, band and control lie in a picture, read from its text."""
    (value,) = re.findall(r'<circle cx="([\d.]+)"', picture)
    (interval,) = re.findall(
        r'<line class="interval" x1="([\d.]+)" y1="\d+" x2="([\d.]+)"', picture
    )
    (band,) = re.findall(r'<rect class="band" x="([\d.]+)" y="\d+" width="([\d.]+)"', picture)
    control = re.findall(r'class="control" d="M([\d.]+)', picture)
    left, width = map(float, band)
    return {
        "value": (float(value),),
        "interval": tuple(map(float, interval)),
        "band": (left, left + width),
        "control": tuple(float(x) + 5 for x in control),
    }


def test_places_in_the_picture_are_in_proportion_to_the_numbers():
    at = places(interval_picture.draw(row()))
    numbers = [0.5, 0.8, 0.9, 1.0, 1.1, 1.25]
    drawn = [
        *at["control"],
        at["band"][0],
        at["interval"][0],
        *at["value"],
        at["interval"][1],
        at["band"][1],
    ]
    scale = (drawn[-1] - drawn[0]) / (numbers[-1] - numbers[0])
    assert drawn == pytest.approx([drawn[0] + scale * (x - numbers[0]) for x in numbers], abs=0.3)


def test_an_open_band_reaches_the_edge_and_a_far_control_does_not_squeeze_the_rest():
    near = places(interval_picture.draw(row(at_most=float("inf"), control_value=float("nan"))))
    far = places(interval_picture.draw(row(at_most=float("inf"), control_value=1e9)))
    assert near["band"][1] == interval_picture.PICTURE_WIDTH - 2 and near["control"] == ()
    assert far["interval"] == near["interval"] and far["control"] == (
        interval_picture.PICTURE_WIDTH - 2,
    )


@pytest.mark.parametrize("value", [0.0, 3e-16, -7.0, 1e12])
def test_a_number_without_an_interval_is_drawn_too(value):
    same = row(
        value=value,
        low=value,
        high=value,
        at_least=value,
        at_most=value,
        control_value=float("nan"),
    )
    at = places(interval_picture.draw(same))
    assert at["band"][0] <= at["value"][0] <= at["band"][1]
    assert interval_picture.draw(row(value=float("nan"))) == ""


def test_the_picture_says_what_it_shows():
    said = interval_picture.describe(row(at_least=float("-inf")))
    assert said == "Value 1, interval from 0.9 to 1.1; band up to 1.25; the control at 0.5."
    assert f'aria-label="{said}"' in interval_picture.draw(row(at_least=float("-inf")))


def test_a_card_shows_the_largest_preset_that_tested_the_claim():
    made = claims.Claim(
        id="A-1", where="p", statement="s", kind="exact", unit="1", needs="smoke", at_least=0
    )
    blank = claims.judge("x", [made], [], "smoke")
    small = blank.assign(verdict="reproduced", value=1.0, low=1.0, high=1.0, preset="smoke")
    large = blank.assign(verdict="contradicted", value=2.0, low=2.0, high=2.0, preset="cpu")
    tables = {"smoke": small, "cpu": large, "gpu": blank.assign(preset="gpu")}
    assert claim_cards.pick_rows(tables)["A-1"].preset == "cpu"
    page = claim_cards.write_cards(registry.source("across"), [made], tables, {})
    assert '<details class="claim" id="A-1" data-verdict="contradicted">' in page
    assert (
        claim_cards.pick_rows({"smoke": blank, "cpu": blank.assign(preset="cpu")})["A-1"].preset
        == "cpu"
    )


def test_the_command_of_a_card_is_one_that_the_command_line_takes():
    source = registry.source("across")
    claim = next(each for each in registry.claims_of(source) if each.experiments)
    tables = {"cpu": claims.judge(source.name, [claim], [], "cpu")}
    page = claim_cards.write_cards(
        source, [claim], tables, {name: f"x.html#{name}" for name in source}
    )
    (command,) = re.findall(r"python -m replicate run (.*?)\n", page)
    name, *experiments, flag, preset = command.split()
    assert name == source.name and set(experiments) == set(claim.experiments)
    assert flag == "--preset" and preset in source.presets
    assert f'href="x.html#{experiments[0]}"' in page


def test_a_policy_allows_the_scripts_that_stand_in_the_page_and_no_other():
    script = "document.documentElement.dataset.mode = 'a < b';"
    page = f'<head><meta charset="utf-8" /></head><script src="x.js"></script><script defer>{script}</script>'
    sealed = page_policy.with_policy(page)
    wanted = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"'sha256-([^']+)'", sealed) == [wanted]
    assert sealed.index("Content-Security-Policy") < sealed.index("<script")


@pytest.mark.parametrize("name", names())
def test_every_figure_of_a_notebook_has_a_section_that_says_what_it_shows(name):
    from replicate import paths

    notebook = notebook_pages.Notebook(paths.NOTEBOOKS / f"{name}.ipynb", name)
    drawn = list(notebook.figures())
    stored = sum(
        "image/png" in out.get("data", {})
        for cell in notebook.cells["cells"]
        for out in cell.get("outputs", ())
    )
    assert len(drawn) == stored and stored
    assert all(
        len(figure.alt.split()) >= 3 and not re.search(r"[$`*]", figure.alt) for figure in drawn
    )
    assert all(figure.png.startswith(b"\x89PNG") for figure in drawn)


def test_a_notebook_is_copied_with_anchors_alt_text_and_links(tmp_path):
    from nbformat import v4

    text = v4.new_markdown_cell(
        "## Figure 5. Trips\n\nText.\n\n**What to see:** the $k$ lines *fall*.\n\nMore."
    )
    code = [
        v4.new_code_cell('a = study.run("figure_5")'),
        v4.new_code_cell('study.read_recorded("figure_6")'),
    ]
    path = tmp_path / "n.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# n"), text, *code]), path)
    notebook = notebook_pages.Notebook(path, "n")
    assert notebook.places() == {"figure_5": "n.html#n-1", "figure_6": "n.html#n-1"}
    notebook.write(tmp_path / "copy.ipynb", {"figure_5": "<a>A-1</a>"})
    cells = nbformat.read(tmp_path / "copy.ipynb", as_version=4)["cells"]
    assert cells[1]["source"].startswith("(n-1)=\n## Figure 5.")
    assert cells[2]["metadata"]["mystnb"]["image"]["alt"] == "Figure 5. Trips: the k lines fall."
    assert cells[-1]["source"] == "<a>A-1</a>" and len(cells) == 5


def test_the_table_of_all_claims_leads_to_cards_of_their_own_source():
    from replicate.app import site

    made = claims.Claim(
        id="A-1", where="p", statement="s", kind="exact", unit="1", needs="smoke", at_least=0
    )
    tables = {name: {"cpu": claims.judge(name, [made], [], "cpu")} for name in ("x", "y")}
    page = site.claims_page(tables)
    assert isinstance(tables["x"]["cpu"], pd.DataFrame)
    assert re.findall(r'href="([^"]+)"', page) == ["verdicts-x.html#A-1", "verdicts-y.html#A-1"]


def test_the_claims_of_a_source_are_read_once_for_all_its_links(monkeypatch):
    """Each reading checks every row: read for each experiment, it was a third of the report's time."""
    source, asked = registry.source("sandler2023trajectories"), []
    claims_of = registry.claims_of
    monkeypatch.setattr(registry, "claims_of", lambda each: asked.append(each) or claims_of(each))
    links = site.claim_links(source, site._read_tables(source))
    assert len(links) > 10 and len(asked) == 1
