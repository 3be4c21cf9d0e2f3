"""Every bit of a file that is flipped, and every byte it is cut at, is seen, or changes nothing that
the file says.

A checkpoint is covered byte by byte. Of a table the promise is its values, names, types and provenance:
bytes that carry none of these, such as statistics and padding, may change unseen.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from replicate.errors import BadData
from replicate.runs.tables import (
    UNFINISHED_ROWS,
    keep_rows,
    kept_rows,
    provenance_of,
    read_table,
    write_table,
)
from replicate.training import Checkpoints, load_tensor_file, save_tensor_file

FLIPS = 300  # of each file in every run of the tests; all of them where there are minutes
MOST = 4000  # in the long run


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damages(content: bytes, flips: int, cuts: int) -> list[bytes]:
    """The file with one bit flipped, at places drawn without return; and cut, the last time by one byte."""
    draw = np.random.default_rng(len(content))
    bits = draw.choice(8 * len(content), min(flips, 8 * len(content)), replace=False)
    places = np.unique(np.linspace(0, len(content) - 1, min(cuts, len(content)), dtype=int))
    return [flipped(content, bit) for bit in bits] + [content[:place] for place in places]


@pytest.fixture
def checkpoint(tmp_path):
    draw = torch.Generator().manual_seed(0)
    path = tmp_path / "step-000000007.ckpt"
    save_tensor_file(path, {"model/w": torch.randn(8, 9, generator=draw)}, {"run": "r", "step": 7})
    return path


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({
        "seed": np.arange(40), "arm": ["average", "side-trip"] * 20, "loss": draw.normal(size=40),
        "reached": draw.normal(size=40) > 0,
    })  # fmt: skip
    write_table(tmp_path / "table.parquet", rows, {"key": "0" * 16, "settings": {"lr": 0.1}})
    return tmp_path / "table.parquet"


def check_checkpoint(path, flips, cuts) -> int:
    content = path.read_bytes()
    changed = damages(content, flips, cuts)
    for each in changed:
        path.write_bytes(each)
        with pytest.raises(BadData):
            load_tensor_file(path)
    path.write_bytes(content)
    load_tensor_file(path)
    return len(changed)


def check_table(path, flips, cuts) -> tuple[int, int]:
    """How many damages there were, and how many of them changed nothing that the table says."""
    content, rows, about = path.read_bytes(), read_table(path), provenance_of(path)
    changed, unseen = damages(content, flips, cuts), 0
    for each in changed:
        path.write_bytes(each)
        try:
            found, said = read_table(path), provenance_of(path)
        except BadData as error:
            assert str(path) in str(error) and len(str(error).splitlines()) == 1
            continue
        pd.testing.assert_frame_equal(found, rows, check_exact=True)
        assert said == about and len(each) == len(content), "a cut was not seen"
        unseen += 1
    path.write_bytes(content)
    return len(changed), unseen


def test_a_changed_checkpoint_is_refused(checkpoint, tally):
    changed = check_checkpoint(checkpoint, FLIPS, FLIPS)
    assert changed == 2 * FLIPS  # as many flips as cuts, each refused
    tally("flips and cuts of checkpoints, all refused", changed)


def test_a_changed_table_is_refused_or_says_the_same(table, tally):
    number, unseen = check_table(table, FLIPS, 60)
    assert unseen < number / 2
    tally("flips and cuts of tables, none with other contents", number)


@pytest.mark.long
def test_every_bit_and_every_cut_of_a_checkpoint(checkpoint, tally):
    size = checkpoint.stat().st_size
    changed = check_checkpoint(checkpoint, 8 * size, size)
    assert changed == 9 * size  # every bit flipped and every cut, each refused
    tally("flips and cuts of checkpoints, all refused", changed)


@pytest.mark.long
def test_thousands_of_flips_and_every_cut_of_a_table(table, tally):
    size = table.stat().st_size
    number, unseen = check_table(table, MOST, size)
    assert number == MOST + size and unseen < MOST / 2
    tally("flips and cuts of tables, none with other contents", number)


@pytest.mark.parametrize("cut", [False, True])
def test_of_two_checkpoints_the_damaged_newest_costs_the_steps_since_the_other(
    tmp_path, capsys, cut
):
    for step in (3, 7):
        save_tensor_file(
            tmp_path / f"step-{step:09}.ckpt", {"w": torch.ones(1)}, {"run": "r", "step": step}
        )
    newest = tmp_path / "step-000000007.ckpt"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] if cut else flipped(content, 99))
    assert Checkpoints(tmp_path, "r").newest() == 3
    assert str(newest) in capsys.readouterr().err and newest.exists()


def test_damaged_rows_of_a_run_that_is_not_done_are_named(tmp_path):
    keep_rows(tmp_path, [{"step": 0, "loss": 1.0}])
    path = tmp_path / UNFINISHED_ROWS
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadData, match="delete it and run the same command again"):
        kept_rows(tmp_path)
