"""Two pools of one preset: a word that differs is shown, and decides the exit code if it is primary."""

import json
import sys
from dataclasses import asdict

import pandas as pd
import pytest
from records import FILE, GPU, SOURCE, write_record
from test_recording import changed, every_record

from replicate import paths, runs
from replicate.app import cli, comparison, registry
from replicate.runs.tables import write_table


@pytest.fixture
def pools(tmp_path, monkeypatch):
    """(first, second): two folders with a record of one preset; the first one flat."""
    monkeypatch.setattr(registry, "list_missing", lambda source, preset: [])
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "second")
    write_record(tmp_path / "first" / FILE)
    write_record(tmp_path / "second" / "gpu" / SOURCE / FILE)
    return tmp_path / "first", tmp_path / "second"


def call(monkeypatch, capsys, *words):
    """(exit code, standard output, standard error) of the command."""
    monkeypatch.setattr(sys, "argv", ["replicate", "compare", *map(str, words)])
    code = cli.main()
    return code, *capsys.readouterr()


def row_of(table, claim):
    return table[(table.claim == claim) & (table.role == "primary")].iloc[0]


def test_equal_pools_have_equal_words_whatever_their_layout(pools):
    table = comparison.compare(*pools, "gpu")
    assert set(table.change) == {"same"} and not comparison.changes_a_verdict(table)
    row = row_of(table, "TRAJ-21.loss")
    assert row.verdict_first == row.verdict_second == "reproduced"
    assert row.value_first == row.value_second == pytest.approx(1, abs=0.01)


def test_a_side_trip_that_gains_half_as_much_is_another_word(pools, monkeypatch, capsys):
    first, second = pools
    write_record(first / FILE, gain=0.5)
    code, out, _ = call(monkeypatch, capsys, first, second, "--preset", "gpu")
    assert code == 1
    (line,) = [line for line in out.splitlines() if "TRAJ-21.loss " in line and "(" not in line]
    assert "contradicted 0.5" in line and "-> reproduced 1" in line
    code, out, _ = call(monkeypatch, capsys, first, "--preset", "gpu", "--json")  # data/results
    rows = json.loads(out)["rows"]
    (row,) = [r for r in rows if r["claim"] == "TRAJ-21.loss" and r["role"] == "primary"]
    assert code == 1 and row["change"] == "word" and row["verdict_second"] == "reproduced"


def test_a_word_of_a_secondary_row_is_shown_and_harms_nothing(pools):
    table = comparison.compare(*pools, "gpu")
    secondary = table.index[table.role == "secondary"][0]
    table.loc[secondary, ["verdict_second", "change"]] = ["across", "word"]
    assert not comparison.changes_a_verdict(table)
    claim = table.claim[secondary]
    assert f"{claim}  {table.case[secondary]} (secondary): " in comparison.tell(table, "a", "b")


@pytest.mark.parametrize(
    ("shift", "change"), [(0.0, "same"), (0.9, "same"), (1.1, "moved"), (-1.1, "moved")]
)
def test_a_value_has_moved_beyond_half_of_the_longer_interval(shift, change):
    """The longer interval is 2 long, so half of it is 1."""
    row = {"kind": "ordering", "value_first": 5.0, "low_first": 4.9, "high_first": 5.1}
    row |= {"value_second": 5.0 + shift, "low_second": 4.0 + shift, "high_second": 6.0 + shift}
    row |= {"verdict_first": "inconclusive", "verdict_second": "inconclusive"}
    assert comparison._name_change(row) == change


def test_a_row_of_one_pool_alone_is_counted_apart(pools):
    first, second = pools
    write_record(first / FILE, seeds=6)
    (second / "gpu" / SOURCE / FILE).unlink()
    write_table(second / "gpu" / SOURCE / FILE, *_without_midpoints(first / FILE))
    table = comparison.compare(first, second, "gpu")
    assert row_of(table, "TRAJ-22.loss").change == "only in one"
    assert row_of(table, "TRAJ-21.loss").change == "same"


def _without_midpoints(path):
    from replicate.runs.tables import provenance_of, read_table

    rows = read_table(path)
    return rows[rows.kernel != "two-point"], provenance_of(path)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nowhere", "second", "--preset", "gpu"), 66, "nowhere is no folder"),
        (("first", "second", "--preset", "cpu"), 66, "has no table of preset cpu"),
        (("first", "second", "--preset", "gpv"), 64, "did you mean 'gpu'"),
        (("first", "first", "--preset", "gpu"), 64, "compared with itself"),
        (("empty", "--preset", "gpu"), 66, "empty has no table of preset gpu"),
    ],
)
def test_bad_input_is_one_line(pools, monkeypatch, capsys, words, code, says):
    folder = pools[0].parent
    (folder / "empty").mkdir()
    words = [folder / w if w in ("first", "second", "nowhere", "empty") else w for w in words]
    result, out, error = call(monkeypatch, capsys, *words)
    assert result == code and out == "" and error.count("\n") == 1 and says in error, error


def test_a_damaged_table_is_named(pools, monkeypatch, capsys):
    path = pools[0] / FILE
    path.write_bytes(path.read_bytes()[:-1])
    code, _, error = call(monkeypatch, capsys, *pools, "--preset", "gpu")
    assert code == 65 and error.count("\n") == 1 and f"{path} is damaged" in error


def test_folders_of_different_sources_are_refused(pools, tmp_path, monkeypatch, capsys):
    other = registry.source("fabi2021extrapolation")["behaviour"]
    record = {"source": "fabi2021extrapolation", "experiment": other.name, "code": "c"}
    record |= {"commit": "abc", "device": GPU, "settings": asdict(other.settings["quadratic"])}
    rows = pd.DataFrame([{"claim": "X-9", "case": "", "value": 3.0, "control": None}])
    rows = rows.assign(dataset="quadratic", commit="abc", device=GPU, key="k2")
    path = tmp_path / "elsewhere" / runs.record_path(other, "gpu").name
    path.parent.mkdir()
    write_table(path, rows, {"preset": "gpu", "records": {"k2": record}})
    code, out, error = call(monkeypatch, capsys, pools[0], path.parent, "--preset", "gpu")
    assert code == 66 and out == "" and error.count("\n") == 1
    assert f"{pools[0]} has tables of {SOURCE} and {path.parent} of {record['source']}" in error


def test_processors_are_named_with_the_precision_of_their_networks(pools):
    first, second = pools
    numerics = {"precision": "bfloat16"}
    changed(first / FILE, first, every_record(numerics=numerics), FILE)
    table = comparison.compare(first, second, "gpu")
    said = comparison.tell(table, "first", "second").splitlines()
    assert said[:2] == [f"first: {GPU}, bfloat16", f"second: {GPU}"]
    data = json.loads(comparison.to_json(table, "first", "second"))
    assert [pool["processors"] for pool in data["pools"]] == [[f"{GPU}, bfloat16"], [GPU]]
    assert len(data["rows"]) == len(table)


def test_a_value_that_moved_is_shown_after_the_words_and_harms_nothing(pools, monkeypatch, capsys):
    first, second = pools
    write_record(first / FILE, gain=1.01)  # within every band
    code, out, _ = call(monkeypatch, capsys, first, second, "--preset", "gpu")
    (line,) = [line for line in out.splitlines() if "TRAJ-21.loss " in line and "(" not in line]
    assert code == 0 and line.startswith("  moved: ") and "-> reproduced 1 " in line
    changes = [
        line.split()[0] for line in out.splitlines() if line.startswith(("  word", "  moved"))
    ]
    assert changes == sorted(changes, reverse=True)


def test_a_table_that_is_too_old_to_be_judged_is_named(pools, monkeypatch):
    first, second = pools
    rows, provenance = runs.read_export(second / "gpu" / SOURCE / FILE)
    for folder in pools:
        path = folder / f"{SOURCE}-spectrum.parquet"  # its columns are figure_5's
        records = {
            key: record | {"experiment": "spectrum"}
            for key, record in provenance["records"].items()
        }
        write_table(path, rows, provenance | {"records": records})
    table = comparison.compare(*pools, "gpu")
    assert table.attrs["outdated"] == [[f"{SOURCE} spectrum"]] * 2
    assert f"of older code, so not compared: {SOURCE} spectrum" in comparison.tell(table, "a", "b")


def test_a_table_of_another_preset_in_the_folder_is_not_read(pools):
    other = write_record(pools[0].parent / "other" / FILE, preset="cpu")
    assert comparison.Pool(other.parent).find(SOURCE, "figure_5", "gpu") is None
    assert comparison.Pool(other.parent).find(SOURCE, "figure_5", "cpu") == other
