"""A claims file is read row by row, or refused in one line that names the file, the row and the
field.
"""

import math

import pytest
from examples import ROW, changed, checked, claim

from replicate import claims, paths
from replicate.errors import BadData, BadParameter
from replicate.sources.protocol import names

DEEP = 100_000
NESTED_LINES = "[\n" * 5000 + "]" * 5000


def test_a_row_is_read_as_it_stands(tmp_path):
    (row,) = checked(tmp_path, ROW)
    assert (row.id, row.band, row.experiments, row.needs) == (
        "A-1",
        (0.8, 1.25),
        ("figure_1",),
        "cpu",
    )
    assert row.primary == {"cpu": {"dataset": "digits", "kernel": "swa", "k": 100}}
    assert row.control["what"] == "constant-rate" and row.quote == "the same loss"


def test_an_edge_that_is_left_out_is_open(tmp_path):
    (row,) = checked(tmp_path, changed("at_most = 1.25\n", ""))
    assert row.band == (0.8, math.inf)


def test_rows_keep_the_order_of_the_file(tmp_path):
    text = changed('"A-1"', '"Z-9"') + ROW
    assert [row.id for row in checked(tmp_path, text)] == ["Z-9", "A-1"]


BAD = {  # the file, what the line must name
    "id that is a list": (changed('"A-1"', "[1]"), "id: "),
    "id that is a number": (changed('"A-1"', "1"), "id: "),
    "id that is empty": (changed('"A-1"', '""'), "id: "),
    "id that is blank": (changed('"A-1"', '" "'), "id: "),
    "id of two lines": (changed('"A-1"', '"A\\n1"'), "id: "),
    "id that is markup": (changed('"A-1"', '"<script>"'), "id: "),
    "no id": (changed('id = "A-1"\n', ""), "id: "),
    "id that stands there twice": (ROW + ROW, "claim A-1 stands there more than once"),
    "statement that is empty": (
        changed('"A side-trip gains what the average gains."', '""'),
        "statement: ",
    ),
    "statement that is a number": (
        changed('"A side-trip gains what the average gains."', "3"),
        "statement: ",
    ),
    "statement that is blank": (
        changed('"A side-trip gains what the average gains."', '" \\t"'),
        "statement: ",
    ),
    "where that is blank": (changed('"Table 1, row 2"', '" "'), "where: "),
    "unit that is empty": (changed('unit = "ratio"', 'unit = ""'), "unit: "),
    "quote that is a number": (changed('"the same loss"', "3"), "quote: "),
    "origin nobody has": (changed('origin = "source"', 'origin = "them"'), "origin: "),
    "kind nobody has": (changed('"equivalence"', '"vague"'), "kind: "),
    "preset nobody has": (changed('needs = "cpu"', 'needs = "luck"'), "needs: "),
    "scope nobody has": (ROW + 'scope = "all"\n', "scope: "),
    "margin that is a number": (changed('margin = "ours"', "margin = 1"), "margin: "),
    "unknown field": (ROW + "colour = 3\n", "colour: is no field"),
    "true for a number": (changed("at_least = 0.8", "at_least = true"), "at_least: "),
    "text for a number": (changed("at_least = 0.8", 'at_least = "1"'), "at_least: "),
    "nan below": (changed("at_least = 0.8", "at_least = nan"), "at_least: must be finite"),
    "nan above": (changed("at_most = 1.25", "at_most = nan"), "at_most: must be finite"),
    "infinity below": (changed("at_least = 0.8", "at_least = inf"), "at_least: must be finite"),
    "infinity above": (changed("at_most = 1.25", "at_most = inf"), "at_most: must be finite"),
    "crossed band": (changed("at_least = 0.8", "at_least = 2.0"), "band must have an edge"),
    "no band": (changed("at_least = 0.8\nat_most = 1.25\n", ""), "band must have an edge"),
    "family that is not in where": (
        changed('family = "Table 1"', 'family = "Table 2"'),
        "family 'Table 2'",
    ),
    "interval without a family": (changed('family = "Table 1"\n', ""), "family must be named"),
    "experiment without contrast": (
        "\n".join(line for line in ROW.splitlines() if not line.startswith("contrast")),
        "only one of them",
    ),
    "contrast without experiment": (changed('experiment = "figure_1"\n', ""), "only one of them"),
    "experiment that is a number": (changed('"figure_1"', "3"), "experiment: "),
    "experiment that is blank": (changed('"figure_1"', '[" "]'), "experiment: "),
    "experiment that is named twice": (
        changed('"figure_1"', '["figure_1", "figure_1"]'),
        "each one once",
    ),
    "primary that is a number": (ROW + "primary.gpu = 3\n", "primary.gpu: "),
    "primary at no preset": (ROW + 'primary.lunar = {dataset = "digits"}\n', "lunar"),
    "controls that are a list": (ROW + "controls.x = [1]\n", "controls.x: "),
    "claim that is a table": ('[claim]\nid = "A-1"\n', "a list of tables"),
    "claim that is a number": ("claim = 3\n", "a list of tables"),
    "claim that is a text": ('claim = "A-1"\n', "a list of tables"),
    "claims that are numbers": ("claim = [1, 2]\n", "a list of tables"),
    "empty list": ("claim = []\n", "a list of tables"),
    "empty file": ("", "no list of [[claim]]"),
    "file of a comment": ("# to come\n", "no list of [[claim]]"),
    "file of another table": ("[claims]\nx = 1\n", "no list of [[claim]]"),
    "no TOML": (changed('where = "Table', 'where "Table'), "no list of [[claim]]"),
    "key that stands there twice": (ROW + 'id = "A-2"\n', "no list of [[claim]]"),
    "Latin-1": (changed("the same loss", "le m\u00eame").encode("latin-1"), "no list of [[claim]]"),
    "UTF-16": (ROW.encode("utf-16"), "no list of [[claim]]"),
    "null bytes": (b"\0" * 64, "no list of [[claim]]"),
    "a deep list": (f"{ROW}note = {'[' * DEEP}{']' * DEEP}\n", "more than 20000 characters"),
    "a deep table": (f"{ROW}note = {'{a = ' * DEEP}1{'}' * DEEP}\n", "more than 20000 characters"),
    "a list deep within many lines": (
        f"{ROW}note = {NESTED_LINES}\n",
        "nested too deeply",
    ),
    "a list that is not quite too deep": (f"{ROW}note = {'[' * 200}{']' * 200}\n", "note: "),
    "a deep heading": (
        f"{ROW}[claim.{'.'.join('a' * DEEP)}]\nx = 1\n",
        "more than 20000 characters",
    ),
    "a heading that is not quite too deep": (
        f"{ROW}[claim.{'.'.join('a' * 20)}]\nx = 1\n",
        "a: is no field",
    ),
}


@pytest.mark.parametrize("text, named", BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, named):
    with pytest.raises(BadData) as error:
        checked(tmp_path, text)
    line = str(error.value)
    assert line.startswith("someone2020.toml: ") and named in line
    assert "\n" not in line and len(line) < 400 and error.value.exit_code == 65


def test_an_unknown_source_is_met_with_the_nearest(tmp_path):
    (tmp_path / "someone2020.toml").write_text(ROW)
    with pytest.raises(BadParameter, match="did you mean 'someone2020'"):
        claims.load(tmp_path, "someone2002")


@pytest.mark.parametrize("at_least, at_most, low, high, position", [
    (0.8, 1.25, 0.8, 1.25, "inside"), (0.8, 1.25, 0.79, 1.0, "across"), (0.8, 1.25, 0.1, 0.79, "outside"),
    (0.8, 1.25, 0.1, 0.8, "across"), (0.8, 1.25, 1.25, 2.0, "across"), (0.0, math.inf, 0.0, 5.0, "inside"),
    (0.0, math.inf, -1.0, -0.1, "outside"), (0.8, 1.25, -math.inf, math.inf, "across"),
])  # fmt: skip
def test_edges_belong_to_the_band(at_least, at_most, low, high, position):
    assert claim(at_least=at_least, at_most=at_most).position(low, high) == position


@pytest.mark.parametrize("source", names())
def test_a_shipped_claim_with_an_interval_can_be_firm(source):
    rows = claims.load(paths.CLAIMS, source)
    assert len(rows) > (60 if any(row.origin == "source" for row in rows) else 20)
    never = [
        row.id
        for row in rows
        if row.has_interval and row.needs in ("cpu", "gpu") and not row.primary
    ]
    assert never == []


@pytest.mark.parametrize("source", names())
def test_a_family_stands_in_where(source):
    assert [row.id for row in claims.load(paths.CLAIMS, source) if not row.family.strip()] == []
