"""A cell is chosen by its fields, rows that are blank in a field belong to all its values, and lost
units are NaN.
"""

import math

import pandas as pd
import pytest

from replicate.claims.cells import Absent, Cells

COLUMNS = ["dataset", "seed", "branch", "arm", "kernel", "k", "loss"]
ROWS = [
    ("digits", 1, 0, "trip", "swa", 10, 0.1),
    ("digits", 0, 0, "trip", "swa", 10, 0.2),
    ("digits", 0, 0, "trip", "ema", 10, 0.3),
    ("digits", 0, 0, "raw", "", 10, 0.4),
    ("digits", 0, 0, "raw", "ema", 10, 0.45),
    ("digits", 0, 0, "start", "", math.nan, 0.5),
    ("cifar10", 0, 0, "trip", "swa", 10, 0.6),
]


def cells(rows=ROWS, **columns) -> Cells:
    return Cells(pd.DataFrame(rows, columns=COLUMNS).assign(**columns), ("arm", "kernel", "k"))


def cell(arm: str, kernel: str = "swa", k: int = 10, dataset: str = "digits") -> dict:
    return {"dataset": dataset, "arm": arm, "kernel": kernel, "k": k}


def test_a_cell_holds_one_number_per_unit_in_order():
    assert cells().values(cell("trip"), "loss").to_dict() == {(0, 0): 0.2, (1, 0): 0.1}


@pytest.mark.parametrize("chosen, loss", [
    (cell("trip", "ema"), 0.3), (cell("trip", dataset="cifar10"), 0.6), (cell("raw"), 0.4), (cell("start"), 0.5),
])  # fmt: skip
def test_every_field_chooses(chosen, loss):
    assert cells().values(chosen, "loss").to_dict() == {(0, 0): loss}


def test_rows_of_the_very_value_come_before_blank_ones():
    assert cells().values(cell("raw", "ema"), "loss").to_dict() == {(0, 0): 0.45}


@pytest.mark.parametrize(
    "chosen", [cell("average"), cell("trip", k=11), cell("trip", "ema", dataset="cifar10")]
)
def test_a_cell_that_was_not_run_is_absent(chosen):
    with pytest.raises(Absent):
        cells().values(chosen, "loss")


def test_a_column_that_is_not_there_is_absent():
    with pytest.raises(Absent, match="seconds"):
        cells().values(cell("trip"), "seconds")


def test_a_diverged_unit_is_lost_in_every_cell_of_its_data_set():
    lost = ("digits", 2, 0, "", "", math.nan, math.nan)
    table = cells([*ROWS, lost], diverged=[math.nan] * len(ROWS) + [17.0])
    found = table.values(cell("trip"), "loss")
    assert list(found.index) == [(0, 0), (1, 0), (2, 0)] and math.isnan(found[2, 0])
    assert math.isnan(table.values(cell("raw"), "loss")[2, 0])
    assert list(table.values(cell("trip", dataset="cifar10"), "loss")) == [0.6]


def test_cases_are_those_of_an_arm_in_the_order_of_the_table():
    table = cells()
    assert table.cases({"arm": "trip"}, ["dataset", "kernel"]) == [
        {"dataset": "digits", "kernel": "swa"},
        {"dataset": "digits", "kernel": "ema"},
        {"dataset": "cifar10", "kernel": "swa"},
    ]
    assert table.cases({"arm": "trip", "kernel": ["ema", "swa"], "dataset": "cifar10"}, ["k"]) == [
        {"k": 10}
    ]


def test_a_table_without_seeds_has_one_unit():
    table = Cells(pd.DataFrame({"dataset": ["a"], "arm": ["x"], "loss": [2.0]}), ("arm",))
    assert table.values({"dataset": "a", "arm": "x"}, "loss").to_dict() == {(0, 0): 2.0}


def test_a_field_that_no_table_has_is_blank():
    table = Cells(pd.DataFrame({"dataset": ["a"], "loss": [2.0]}), ("arm",))
    assert table.values({"dataset": "a", "arm": "any"}, "loss").tolist() == [2.0]


def test_the_origin_is_that_of_the_data_set():
    commits = ["c1"] * (len(ROWS) - 1) + ["c2"]
    table = cells(commit=commits, device="cpu", setting="stand-in")
    assert table.origin("digits") == {"commit": "c1", "device": "cpu", "setting": "stand-in"}
    assert table.origin("cifar10")["commit"] == "c2"
