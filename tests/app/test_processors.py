"""The page on processors: a second pool's words are kept, held against the recorded ones, and told."""

import sys

import pandas as pd
import pytest
from records import FILE, SOURCE, write_record

from replicate import paths
from replicate.app import cli, comparison, processors, registry
from replicate.errors import BadData, BadParameter

CLAIM = "TRAJ-21.loss"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(a second processor's folder, data/results/): equal records at preset gpu."""
    monkeypatch.setattr(registry, "list_missing", lambda source, preset: [])
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(processors, "COMPARED_AT", "gpu")
    write_record(tmp_path / "there" / FILE)
    write_record(tmp_path / "results" / "gpu" / SOURCE / FILE)
    return tmp_path / "there", tmp_path / "results"


def counts_of(page: str) -> list[str]:
    """The cells of the source's row of counts."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {SOURCE} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_nothing_is_said_before_a_pool_is_kept(folders):
    assert SOURCE not in processors.render()


def test_equal_pools_have_no_word_that_differs(folders):
    there, _ = folders
    (path,) = processors.keep(there, "without AMX")
    compared = comparison.compare(there, folders[1], "gpu")
    primary = int((compared.role == "primary").sum())
    page = processors.render()
    name, processor, *numbers = counts_of(page)
    assert (name, processor) == (SOURCE, "without AMX") and path.parent.name == SOURCE
    assert list(map(int, numbers)) == [0, 0, primary, 0, 0, len(compared) - primary]
    assert f"## {SOURCE}" not in page


def test_a_word_that_differs_is_told_with_both_sides_and_the_reason(folders):
    there, _ = folders
    write_record(there / FILE, gain=0.5)
    processors.keep(there, "without AMX")
    page = processors.render()
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {CLAIM} |")]
    recorded, elsewhere, why = [cell.strip() for cell in line.strip("|").split("|")][3:]
    assert recorded.startswith("reproduced 1") and elsewhere.startswith("contradicted 0.5")
    assert why == processors.ROUNDED_OTHERWISE  # no clock, and nothing holds a word back
    assert int(counts_of(page)[2]) == sum(f"| {c} |" in page for c in told_primary(page)) > 0


def told_primary(page: str) -> list[str]:
    """The claims of the lines below the source's heading."""
    lines = page.partition(f"## {SOURCE}")[2].splitlines()
    return [line.split("|")[1].strip() for line in lines if line.startswith("| TRAJ")]


@pytest.mark.parametrize(("obstacle", "clocked", "why"), [
    ("timing unstable", True, "There: timing unstable"), ("", True, processors.CLOCKED_OTHERWISE),
    ("", False, processors.ROUNDED_OTHERWISE),
])  # fmt: skip
def test_the_reason_is_what_holds_a_word_back_or_where_the_numbers_come_from(
    obstacle, clocked, why
):
    row = {"obstacle_first": float("nan"), "obstacle_second": obstacle, "is_clocked": clocked}
    assert processors._explain(row) == why


def test_a_claim_that_is_gone_and_markup_in_the_file_do_no_harm(folders):
    there, _ = folders
    write_record(there / FILE, gain=0.5)
    (path,) = processors.keep(there, "without AMX")
    rows = pd.read_csv(path)
    rows.loc[rows.claim == CLAIM, "unit"] = "<script>canary</script> | [x](y)"
    gone = rows[rows.claim == CLAIM].assign(claim="TRAJ-99")
    pd.concat([rows, gone]).to_csv(path, index=False)
    page = processors.render()
    assert "TRAJ-99" not in page and "<script>" not in page and "canary" in page


@pytest.mark.parametrize("damage", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_such_table_is_named(folders, damage):
    (path,) = processors.keep(folders[0], "without AMX")
    path.write_bytes(damage)
    with pytest.raises(BadData, match="write it anew"):
        processors.render()


def test_a_number_that_is_none_is_refused(folders):
    (path,) = processors.keep(folders[0], "without AMX")
    path.write_text(path.read_text().replace(",0.9", ",=cmd()", 1).replace(",1.0", ",=cmd()", 1))
    with pytest.raises(BadData, match="write it anew"):
        processors.render()


@pytest.mark.parametrize("name", ["", " x", "a\nb", "<b>", "x" * 61])
def test_a_name_that_is_none_is_refused_before_anything_is_written(folders, name):
    there, results = folders
    with pytest.raises(BadParameter, match="processor's name must be"):
        processors.keep(there, name)
    assert not list(results.rglob(processors.FILE))


def test_the_command_keeps_what_it_compares(folders, monkeypatch, capsys):
    there, results = folders
    words = ["compare", str(there), "--preset", "gpu", "--keep", "without AMX"]
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    assert cli.main() == 0 and "TRAJ" not in capsys.readouterr().err
    assert (results / "gpu" / SOURCE / processors.FILE).exists()


def test_what_is_kept_in_the_repository_is_told_by_the_page():
    kept = [source for source in registry.sources() if processors._path(source.name).exists()]
    assert {"fabi2021extrapolation", "warmerdam2020descent"} <= {source.name for source in kept}
    for source in kept:
        rows = processors._compare(source)
        words = rows[(rows.change == "word") & (rows.role == "primary")]
        assert len(rows) > 50
        told = processors.page().read_text()
        assert all(f"| {claim} |" in told for claim in words.claim)
