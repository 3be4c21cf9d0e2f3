"""Every figure of the notebooks and of the answers, drawn from the records, has nothing overprinted,
cut off or empty in it; and each of these is seen where it is planted.
"""

import functools
import warnings

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from drawn import FullSizeStudy, ReadingStudy, draw_cell, find_plots, list_drawing_cells
from faults import list_faults
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from replicate import plots
from replicate.app import answer_figures, explore, registry
from replicate.app.notebooks import Study
from replicate.sources.protocol import names

CELLS = {f"{source} {name}": (source, code) for source in names() for name, code in list_drawing_cells(source).items()}  # fmt: skip
ANSWERED = [source for source in registry.sources() if answer_figures.path_of(source).exists()]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@functools.cache
def make_study(kind: type[Study], source: str) -> Study:
    return kind(source, "smoke", {}, "cpu", ())


def find_faults(kind: type[Study], cell: str) -> list[str]:
    source, code = CELLS[cell]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = draw_cell(source, code, make_study(kind, source))
    assert figures
    return [fault for figure in figures for fault in list_faults(figure)]


@pytest.mark.parametrize("cell", CELLS)
def test_a_figure_of_the_records_can_be_read(cell):
    assert find_faults(ReadingStudy, cell) == []


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
def test_a_figure_of_the_smallest_preset_can_be_read(cell):
    assert find_faults(FullSizeStudy, cell) == []


@pytest.mark.parametrize("source", ANSWERED, ids=lambda source: source.name)
def test_an_answer_s_figure_can_be_read(source):
    answer_figures.draw_answer(source)
    assert list_faults(plt.gcf()) == []


def explorers():
    source = registry.source("sandler2023trajectories")
    yield explore.lookahead()
    yield explore.extrapolation()
    yield explore.kernels(registry.read_largest(source, "spectrum", "smoke"))
    yield explore.step_lengths(registry.read_largest(source, "figure_2", "smoke"))


def test_a_figure_with_sliders_can_be_read():
    for explorer in explorers():
        explorer.answer()
        for artist in explorer.figure.findobj(lambda each: each.get_animated()):
            artist.set_animated(False)
        assert list_faults(explorer.figure) == []


def test_every_public_figure_is_drawn_by_some_cell():
    drawn = set().union(*(find_plots(code) for _, code in CELLS.values()))
    figures = {name for name in plots.__all__ if not name.startswith("list_")}
    assert figures - drawn == {"interval"}


# From here on: a good figure, and the faults that are planted in it one by one.


def draw_good() -> Figure:
    """Two axes with lines, points, bars, a legend beside, turned tick labels and a note."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", dpi=72)
    left.plot([0, 1, 2], [1, 2, 3], "o-", label="a line")
    left.plot([0, 1, 2], [3, 2, 1], label="another")
    left.legend(loc="upper center")
    left.set(xlabel="step", ylabel="loss", ylim=(0, 5), title="left")
    left.annotate("turn", (1, 2), (0.2, 3.2), arrowprops={"arrowstyle": "-"})
    right.bar(range(8), range(1, 9))
    right.set_xticks(range(8), [f"a long name {i}" for i in range(8)], rotation=45, ha="right")
    return figure


def overprint(figure):
    figure.axes[0].text(0.2, 3.2, "again")


def print_over_tick_labels(figure):
    figure.axes[0].set_xticks(np.linspace(0, 2, 60), [f"{x:.3f}" for x in np.linspace(0, 2, 60)])


def turn_back_tick_labels(figure):
    figure.axes[1].tick_params(axis="x", rotation=0)


def print_over_a_legend(figure):
    figure.axes[0].text(1, 4.5, "a note", ha="center")


def put_a_legend_over_a_line(figure):
    figure.axes[0].legend(loc="center")


def put_a_legend_over_points(figure):
    (line,) = figure.axes[0].plot([1], [4.55], "o", label="_hidden")
    line.set_zorder(0)


def put_a_legend_over_error_bars(figure):
    figure.axes[0].errorbar([1], [3], [[0.1], [1.9]], fmt="none")


def cut_off_a_label(figure):
    figure.axes[0].set_ylabel("a label that is much longer than its axes is high, and goes on")


def cut_off_a_note(figure):
    figure.text(0.97, 0.5, "a note")


def empty_an_axes(figure):
    figure.axes[1].clear()


def leave_a_line_across(figure):
    figure.axes[1].clear()
    figure.axes[1].axhline(0.5)
    figure.axes[1].axhspan(0.2, 0.4)


def leave_a_line_without_numbers(figure):
    figure.axes[1].clear()
    figure.axes[1].plot([1, 2], [np.nan, np.nan])


def look_elsewhere(figure):
    figure.axes[0].set_xlim(10, 12)
    figure.axes[0].texts[0].remove()


KINDS = ("lies on", "runs through", "beyond the canvas", "is empty")
PLANTED = (
    (overprint, "'turn' lies on 'again'"),
    (print_over_tick_labels, "'0.000' lies on '0.034'"),
    (turn_back_tick_labels, "'a long name 0' lies on 'a long name 1'"),
    (print_over_a_legend, "'a note' lies on"),
    (put_a_legend_over_a_line, "the line 'a line' runs through the legend's"),
    (put_a_legend_over_points, "the line '_hidden' runs through the legend's"),
    (put_a_legend_over_error_bars, "runs through the legend's"),
    (cut_off_a_label, "pixels beyond the canvas"),
    (cut_off_a_note, "pixels beyond the canvas"),
    (empty_an_axes, "axes 1 (no title) is empty"),
    (leave_a_line_across, "axes 1 (no title) is empty"),
    (leave_a_line_without_numbers, "axes 1 (no title) is empty"),
    (look_elsewhere, "axes 0 (left) is empty"),
)


def test_a_good_figure_has_no_fault():
    assert list_faults(draw_good()) == []


@pytest.mark.parametrize("plant, said", PLANTED, ids=lambda part: getattr(part, "__name__", ""))
def test_a_planted_fault_is_found_and_no_other(plant, said):
    figure = draw_good()
    plant(figure)
    found = list_faults(figure)
    assert any(said in fault for fault in found), found
    assert {kind for kind in KINDS for fault in found if kind in fault} == {kind for kind in KINDS if kind in said}  # fmt: skip


@pytest.mark.parametrize("draw", ["scatter", "imshow", "contourf", "fill_between", "stem"])
def test_what_is_drawn_without_lines_is_no_empty_axes(draw):
    figure, ax = plt.subplots()
    drawn = {"imshow": [np.eye(3)], "contourf": [np.eye(3)], "scatter": [[1, 2], [3, 4]]}
    getattr(ax, draw)(*drawn.get(draw, [[1.0, 2.0], [3.0, 4.0]]))
    assert list_faults(figure) == []


def test_an_axes_that_is_switched_off_may_be_empty():
    ax = plots.ratios(pd.DataFrame())
    assert list_faults(ax.figure) == []
