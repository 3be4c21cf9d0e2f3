"""A file of verdicts is printed while nothing changed, judged anew when something did, and never to
be edited.
"""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from records import FILE, GPU, SOURCE, write_record

from replicate import claims, paths
from replicate.app import registry, verdicts
from replicate.errors import BadData
from replicate.sources.protocol import names

SOURCE_OF = registry.source


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of results and one of claims, with one record that is judged and written."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(paths.CLAIMS, folder / "claims")
    write_record(folder / "results" / "gpu" / SOURCE / FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CLAIMS", folder / "claims")
        patch.setattr(paths, "RESULTS", folder / "results")
        patch.setattr(registry, "list_missing", lambda source, preset: [])
        verdicts.write_recorded(SOURCE_OF(SOURCE), "gpu")
        yield folder


@pytest.fixture
def path(home, tmp_path, monkeypatch):
    """The verdicts.csv of a copy of that folder, which a test may spoil."""
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setattr(paths, "CLAIMS", tmp_path / "home" / "claims")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "home" / "results")
    return tmp_path / "home" / "results" / "gpu" / SOURCE / "verdicts.csv"


@pytest.fixture
def judged(monkeypatch) -> list:
    """How often something is judged."""
    calls, judge = [], claims.judge
    monkeypatch.setattr(
        claims, "judge", lambda *given, **more: calls.append(given[0]) or judge(*given, **more)
    )
    return calls


def recorded() -> pd.DataFrame:
    return verdicts.read_recorded(SOURCE_OF(SOURCE), "gpu")


def test_what_was_written_is_read_and_not_judged(path, judged):
    rows = recorded()
    assert judged == [] and list(rows.columns) == claims.COLUMNS
    row = rows[(rows.claim == "TRAJ-21.loss") & (rows.role == "primary")].iloc[0]
    assert (row.verdict, row.control_verdict, row.device) == ("reproduced", "fails", GPU)
    assert row.setting == "stand-in: ResNet-18 on cifar10" and row.n == 6 and row.preset == "gpu"


def test_what_is_read_is_what_would_be_judged(path):
    read = recorded()
    path.unlink()
    fresh = recorded()
    for column in claims.COLUMNS:
        if column in claims.NUMBERS:
            np.testing.assert_allclose(
                read[column], fresh[column].astype(float), rtol=1e-5, atol=1e-300
            )
        else:
            assert read[column].tolist() == fresh[column].tolist(), column


def spoilt(text: pd.DataFrame, column: str) -> pd.DataFrame:
    """The first row that has something in a column gets something else there."""
    place = text.index[text[column] != ""][0] if (text[column] != "").any() else text.index[0]
    text.loc[place, column] = "9" if text.loc[place, column] != "9" else "8"
    return text


@pytest.mark.parametrize("column", claims.COLUMNS)
def test_an_edit_of_any_column_is_noticed(path, column):
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    spoilt(text, column).to_csv(path, index=False, lineterminator="\n")
    with pytest.raises(BadData, match="was edited by hand; delete it and run make readme") as error:
        recorded()
    assert "\n" not in str(error.value)


EDITS = {
    "last row dropped": lambda rows: rows.iloc[:-1],
    "first row dropped": lambda rows: rows.iloc[1:],
    "two rows exchanged": lambda rows: rows.iloc[[1, 0, *range(2, len(rows))]],
    "a row twice": lambda rows: rows.iloc[[0, *range(len(rows))]],
    "rows turned round": lambda rows: rows.iloc[::-1],
    "a digit": lambda rows: rows.assign(value=rows.value.str.replace("1", "2")),
    "a blank": lambda rows: rows.assign(reason=rows.reason + " "),
    "letters of a word": lambda rows: rows.assign(verdict=rows.verdict.str.upper()),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_of_the_rows_is_noticed(path, edit):
    edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(
        path, index=False, lineterminator="\n"
    )
    with pytest.raises(BadData, match="edited by hand"):
        recorded()


def test_a_file_that_is_cut_short_is_noticed(path):
    content = path.read_bytes()
    for length in (len(content) // 2, len(content) - 1, len(content) - 40):
        path.write_bytes(content[:length])
        try:
            rows = recorded()
        except BadData:
            continue
        assert (
            length == len(content) - 1 or rows.verdict.notna().all()
        )  # the last line's end alone says nothing


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff\xfe", b"claim,verdict\n", b'"', b"a,b\n1,2,3\n"]
)
def test_a_file_of_something_else_is_judged_anew_or_refused(path, judged, content):
    path.write_bytes(content)
    try:
        rows = recorded()
    except BadData as error:
        assert "verdicts.csv" in str(error)
    else:
        assert len(judged) == 1 and list(rows.columns) == claims.COLUMNS


def test_another_claims_file_is_judged_anew(path, judged):
    file = paths.CLAIMS / f"{SOURCE}.toml"
    file.write_text(file.read_text().replace("at_most = 1.25", "at_most = 0.9"))
    rows = recorded()
    row = rows[(rows.claim == "TRAJ-21.loss") & (rows.role == "primary")].iloc[0]
    assert len(judged) == 1 and (row.at_most, row.verdict) == (0.9, "contradicted")


def test_another_table_is_judged_anew(path, judged):
    write_record(path.parent / FILE, gain=0.5)
    rows = recorded()
    row = rows[(rows.claim == "TRAJ-21.loss") & (rows.role == "primary")].iloc[0]
    assert (
        len(judged) == 1
        and row.value == pytest.approx(0.5, abs=0.01)
        and row.verdict == "contradicted"
    )


def test_one_more_table_is_judged_anew(path, judged):
    shutil.copy(path.parent / FILE, path.parent / f"{SOURCE}-other.parquet")
    assert len(recorded()) and len(judged) == 1


def test_texts_with_commas_quotes_and_lines_survive(path):
    file, hostile = paths.CLAIMS / f"{SOURCE}.toml", 'a, "b" | <c>\nd; \u00e9 '
    text = file.read_text()
    old = next(line for line in text.splitlines() if line.startswith("statement = "))
    file.write_text(text.replace(old, f"statement = {json.dumps(hostile)}", 1))
    verdicts.write_recorded(SOURCE_OF(SOURCE), "gpu")
    assert hostile in recorded().statement.tolist()


def test_nothing_recorded_is_an_empty_table_of_the_same_columns(path):
    assert list(verdicts.read_recorded(SOURCE_OF(SOURCE), "cpu").columns) == claims.COLUMNS
    assert verdicts.read_recorded(SOURCE_OF(SOURCE), "cpu").empty
    verdicts.write_recorded(SOURCE_OF(SOURCE), "cpu")
    assert not (paths.RESULTS / "cpu").exists()


def test_larger_presets_are_shown_beside(path):
    rows = verdicts.read_larger(SOURCE_OF(SOURCE), "cpu")
    assert set(rows.preset) == {"gpu"} and "not tested" not in set(rows.verdict)
    assert verdicts.read_larger(SOURCE_OF(SOURCE), "gpu").empty


def test_a_data_set_that_is_missing_is_the_reason(path, monkeypatch):
    monkeypatch.setattr(registry, "list_missing", lambda source, preset: ["cifar10"])
    rows = verdicts.judge_tables(SOURCE_OF(SOURCE), lambda experiment: pd.DataFrame(), "gpu")
    row = rows[rows.claim == "TRAJ-21.loss"].iloc[0]
    line = "data set cifar10 is not in REPLICATE_DATA; run make data NAME=cifar10"
    assert (row.verdict, row.reason) == ("not tested", line)


@pytest.mark.parametrize("source", names())
def test_verdicts_on_record_are_of_todays_claims_and_tables(source, judged):
    for preset in claims.PRESETS:
        if (paths.RESULTS / preset / source).exists():
            assert len(verdicts.read_recorded(SOURCE_OF(source), preset))
    assert judged == [], "run make readme and commit data/results"


# What a terminal sees.


def rows(kind: str = "exact", **words: str) -> pd.DataFrame:
    family = {"family": "p. 1", "primary": {"smoke": {"k": 1}}} if kind == "ordering" else {}
    text = {
        "where": "p. 1",
        "statement": "s",
        "kind": kind,
        "unit": "1",
        "needs": "smoke",
        "at_least": 0.0,
    }
    made = [claims.Claim(id=name, at_most=1.0, **text, **family) for name in words]
    table = claims.judge("someone2020", made, [], "smoke")
    return table.assign(verdict=list(words.values()), reason="", value=1.0, low=1.0, high=1.0)


def test_a_terminal_sees_primary_rows_words_and_counts():
    beside = rows("ordering", D="inside").assign(role="secondary")
    later = rows(C="not tested").assign(reason="no experiment")
    table = pd.concat(
        [rows(A="reproduced", B="contradicted"), later, rows("ordering", D="reproduced"), beside]
    )
    lines = verdicts.plain(table).splitlines()
    assert lines[0].split()[:4] == ["claim", "case", "setting", "verdict"] and lines[1].startswith(
        "D"
    )
    assert lines[2] == "exact statements and errata: A reproduced, B contradicted"
    assert lines[3] == "secondary cases and controls: 1, all of them with --json"
    assert lines[4] == "claims of the source: 1 reproduced (control fails in 0 of the reproduced)"
    group, _, counts = lines[5].partition(": ")
    told = set(counts.partition(" (")[0].split(", "))
    assert group == "exact statements of the source"
    assert told == {"1 reproduced", "1 contradicted", "1 not tested"}
    assert lines[-1] == "  not tested, no experiment: 1"


def test_cases_that_disagree_are_counted():
    table = pd.concat([rows(A="reproduced"), rows(A="contradicted"), rows(B="confirmed")])
    assert verdicts.words(table) == "A (1 reproduced, 1 contradicted), B confirmed"


def test_what_every_preset_decides_is_one_line_each():
    table = pd.concat(
        [rows(A="reproduced"), rows("ordering", BB="reproduced"), rows("erratum", CCC="confirmed")]
    )
    lines = [line.split() for line in verdicts.list_decided(table.assign(case="k=1")).splitlines()]
    assert lines == [["A", "k=1", "reproduced"], ["CCC", "k=1", "confirmed"]]


@pytest.mark.parametrize("least, most, text", [
    (0.8, 1.25, "0.8 to 1.25"), (-math.inf, 0.5, "at most 0.5"), (0.0, math.inf, "at least 0"), (1.0, 1.0, "1"),
])  # fmt: skip
def test_a_band_is_told_in_words(least, most, text):
    assert verdicts.band(rows(A="reproduced").assign(at_least=least, at_most=most).iloc[0]) == text


def test_a_number_has_its_interval_unless_it_is_exact():
    row = rows(A="reproduced").iloc[0]
    assert verdicts.number(row) == "1"
    assert verdicts.number(pd.Series({**row, "low": 0.5})) == "1 [0.5, 1]"


def test_a_control_is_told_with_its_number():
    row = pd.Series(
        {"control": "constant-rate", "control_verdict": "fails", "control_value": 0.12345}
    )
    assert verdicts.control(row) == "constant-rate: fails (0.123)"
    assert (
        verdicts.control(pd.Series({"control": "", "control_verdict": "", "control_value": 0.0}))
        == ""
    )


def test_the_closing_sentence_counts_claims_not_cases_and_says_why_the_rest_was_left():
    rows = [
        ("A-1", "primary", "reproduced", ""), ("A-1", "primary", "contradicted", ""),
        ("A-2", "primary", "inconclusive", "3 of 5 seeds"), ("A-2", "secondary", "", ""),
        ("A-3", "primary", "not tested", "needs preset cpu"), ("A-4", "primary", "not tested", "needs preset cpu"),
        ("A-5", "primary", "not tested", "no experiment"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["claim", "role", "verdict", "reason"])
    assert verdicts.closing(table, "smoke") == (
        "preset smoke decided 1 of 5 claims, left 1 inconclusive; "
        "3 it could not test: 2 needs preset cpu, 1 no experiment."
    )
    assert verdicts.closing(table[:2], "cpu") == "preset cpu decided 1 of 1 claims."
