"""A figure of several data sets averages over none of them: what it draws of each is what it draws of
that one alone.
"""

import functools
import re
import warnings

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import seaborn
from drawn import ReadingStudy, list_code_cells, list_drawing_cells, show_cell
from matplotlib import pyplot as plt

from replicate import plots
from replicate.app import registry
from replicate.sources.protocol import names

# Source -> cells that read several data sets, at least.
SEVERAL = {"fabi2021extrapolation": 6, "sandler2023trajectories": 4, "warmerdam2020descent": 5,
           "zhang2019lookahead": 1}  # fmt: skip


class OneDataSetStudy(ReadingStudy):
    """A study that reads the records of one data set, and keeps the names of all that there are."""

    only = ""

    def read_recorded(self, *experiments):
        table = super().read_recorded(*experiments)
        if table.empty or "dataset" not in table:
            return table
        self.seen |= set(table.dataset)
        return table[table.dataset == self.only] if self.only else table


@functools.cache
def make_study(source: str) -> OneDataSetStudy:
    return OneDataSetStudy(source, "smoke", {}, "cpu", ())


def draw_lines(source: str, code: str, only: str) -> tuple[set[bytes], set[str]]:
    """The points of every line and cloud of a cell's figures and the rows of the table below them,
    rounded, and the data sets it read.
    """
    study = make_study(source)
    study.only, study.seen = only, set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures, shown = show_cell(source, code, study)
    drawn = [ax for figure in figures for ax in figure.axes]
    points = [np.asarray(line.get_xydata(), float) for ax in drawn for line in ax.lines]
    points += [np.ma.filled(each.get_offsets(), np.nan) for ax in drawn for each in ax.collections]
    curves = {np.round(each, 9).tobytes() for each in points if len(each) > 2}
    return curves | list_rows(shown), study.seen


def list_rows(shown) -> set[tuple[float, ...]]:
    """The numbers of every row of a table, none of another thing."""
    numbers = shown.select_dtypes("number") if isinstance(shown, pd.DataFrame) else pd.DataFrame()
    return {tuple(row.dropna().round(9)) for _, row in numbers.iterrows()}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def dots_in_a_row(monkeypatch):
    """Scattered at random, no two drawings of them are alike."""
    monkeypatch.setattr(seaborn, "stripplot", functools.partial(seaborn.stripplot, jitter=False))


@pytest.mark.parametrize("source", SEVERAL)
def test_what_is_drawn_of_a_data_set_is_of_it_alone(source):
    looked_at = []
    for cell, code in list_drawing_cells(source).items():
        together, data_sets = draw_lines(source, code, "")
        for name in sorted(data_sets) if len(data_sets) > 1 else ():
            alone, _ = draw_lines(source, code, name)
            assert alone <= together, f"{cell}: {len(alone - together)} curves or rows of {name}"
            looked_at.append(cell)
    assert len(looked_at) >= 2 * SEVERAL[source]


class NightStudy(ReadingStudy):
    """A study whose records hold a larger preset's data set too, with other levels, and that draws
    nothing.
    """

    is_night = True

    def draw(self, names, *plots, beside=()):
        pass

    def read_recorded(self, *experiments):
        table = super().read_recorded(*experiments)
        if not self.is_night or table.empty or "dataset" not in table:
            return table
        levels = table.select_dtypes("float")
        night = table.assign(dataset=table.dataset + " at night", **(levels / 2))
        return pd.concat([table, night], ignore_index=True)


def list_table_cells(source: str) -> dict[str, str]:
    """Name of a cell -> its code, of every cell that ends in a table of an experiment that a night
    runs on more data sets.
    """
    read = re.compile(r"study\.(?:run|read_or_run|read_judged)\(\"(\w+)\"\)")
    over = ("groupby(", "pivot_table(", "list_ends(")
    return {
        name: code
        for name, code in list_code_cells(source).items()
        if any(word in code for word in over)
        and any(registry.source(source)[each].night for each in read.findall(code))
    }


TABLES = [(source, cell) for source in names() for cell in list_table_cells(source)]


@pytest.mark.parametrize(("source", "cell"), TABLES)
def test_a_night_has_rows_of_its_own_in_the_table_of_a_cell(source, cell):
    study = NightStudy(source, "smoke", {}, "cpu", ())
    code = list_table_cells(source)[cell]
    _, together = show_cell(source, code, study)
    study.is_night = False
    _, alone = show_cell(source, code, study)
    assert list_rows(alone) and list_rows(alone) <= list_rows(together)


# Lookahead's experiment -> its figure, and what the figure takes from the source.
OF_LOOKAHEAD = {
    "combinations": (plots.ends_of_combinations, {}),
    "table_1": (plots.table_of_accuracies, {"printed": {"lookahead": 0.01}}),
    "robustness": (plots.loss_by_rate_and_momentum, {}),
    "outer_grid": (plots.loss_by_k_and_alpha, {}),
    "inner_state": (plots.loss_by_inner_state, {"printed": {"reset": 0.01}}),
    "decomposition": (plots.loss_by_arm, {}),
    "within_cycle": (plots.accuracy_within_cycle, {}),
    "replication": (plots.accuracy_by_setup, {}),
    "imagenet": (plots.accuracies_by_epoch, {"printed": {60: 0.01}}),
    "defaults": (plots.losses_at_defaults, {}),
}


@pytest.mark.parametrize("name", OF_LOOKAHEAD)
def test_a_night_beside_the_digits_is_drawn_apart_from_them(name):
    plot, about = OF_LOOKAHEAD[name]
    table = registry.read_largest(registry.source("zhang2019lookahead"), name, "smoke")
    digits = table[table.dataset == "digits"]
    levels = [each for each in digits.select_dtypes("float") if each not in ("lr", "alpha", "place")]  # fmt: skip
    night = digits.assign(dataset="night", **{each: digits[each] ** 2 for each in levels})
    alone = [points_of(plot, rows, about) for rows in (digits, night)]
    together = points_of(plot, pd.concat([digits, night], ignore_index=True), about)
    assert alone[0] and alone[0] != alone[1]
    assert together == alone[0] | alone[1]


def points_of(plot, table: pd.DataFrame, about: dict) -> set[bytes]:
    """The points of every line and cloud of a table's figures, rounded."""
    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plot(table, **about)
    drawn = [ax for number in plt.get_fignums() for ax in plt.figure(number).axes]
    points = [np.asarray(line.get_xydata(), float) for ax in drawn for line in ax.lines]
    points += [np.ma.filled(each.get_offsets(), np.nan) for ax in drawn for each in ax.collections]
    return {np.round(each, 9).tobytes() for each in points if len(each)}


def test_a_mean_over_data_sets_is_noticed():
    whole = "study.draw('figure_3', plots.basins.__wrapped__.__wrapped__)"
    together, data_sets = draw_lines("sandler2023trajectories", whole, "")
    alone, _ = draw_lines("sandler2023trajectories", whole, "digits-batches")
    assert len(data_sets) == 2 and not alone <= together
