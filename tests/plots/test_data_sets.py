"""A figure of several data sets averages over none of them: what it draws of each is what it draws of
that one alone.
"""

import functools
import warnings

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from drawn import ReadingStudy, draw_cell, list_drawing_cells
from matplotlib import pyplot as plt

# Source -> cells that read several data sets, at least.
SEVERAL = {"fabi2021extrapolation": 6, "sandler2023trajectories": 4, "warmerdam2020descent": 5}  # fmt: skip


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
    """The points of every line and cloud of a cell's figures, rounded, and the data sets it read."""
    study = make_study(source)
    study.only, study.seen = only, set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = draw_cell(source, code, study)
    drawn = [ax for figure in figures for ax in figure.axes]
    points = [np.asarray(line.get_xydata(), float) for ax in drawn for line in ax.lines]
    points += [np.ma.filled(each.get_offsets(), np.nan) for ax in drawn for each in ax.collections]
    return {np.round(each, 9).tobytes() for each in points if len(each) > 2}, study.seen


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("source", SEVERAL)
def test_what_is_drawn_of_a_data_set_is_of_it_alone(source):
    looked_at = []
    for cell, code in list_drawing_cells(source).items():
        together, data_sets = draw_lines(source, code, "")
        for name in sorted(data_sets) if len(data_sets) > 1 else ():
            alone, _ = draw_lines(source, code, name)
            assert alone <= together, f"{cell}: {len(alone - together)} curves of {name}"
            looked_at.append(cell)
    assert len(looked_at) >= 2 * SEVERAL[source]


def test_a_mean_over_data_sets_is_noticed():
    whole = "study.draw('figure_3', plots.basins.__wrapped__.__wrapped__)"
    together, data_sets = draw_lines("sandler2023trajectories", whole, "")
    alone, _ = draw_lines("sandler2023trajectories", whole, "digits-batches")
    assert len(data_sets) == 2 and not alone <= together
