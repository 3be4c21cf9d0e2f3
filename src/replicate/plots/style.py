"""What every figure shares: its size, its error bars, and what is drawn where there is nothing to
draw.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from scipy import optimize, stats

FULL_WIDTH = 1500  # pixels of a figure as wide as a page, which is read at half of that too
SHARPEST = 150  # dots an inch of a narrower one: a page is ten inches wide
FEW_SEEDS = 5  # seeds; below this a Student interval of a level says nothing, and the range of the seeds is drawn
DECADE = 10.0
NAME_HEIGHT = 0.055  # of an axes' height, between the names of two lines
SMALL = 0.4  # of its width: a figure that is there to be checked, beside one that is evidence
_SHARE_OF_WIDTH = ContextVar("share of width", default=1.0)


@contextmanager
def shrink_figures() -> Iterator[None]:
    """Within it every figure is SMALL times as wide and high."""
    token = _SHARE_OF_WIDTH.set(SMALL)
    try:
        yield
    finally:
        _SHARE_OF_WIDTH.reset(token)


def unless_empty(plot):
    """The plot, or an axes that says so where its table has no rows: not everything is recorded
    everywhere.
    """

    @functools.wraps(plot)
    def draw(table: pd.DataFrame, *args, **kwargs):
        if not table.empty:
            return plot(table, *args, **kwargs)
        _, ((ax,),) = grid(1, 1, (4, 0.6))
        ax.set_axis_off()
        ax.text(0, 0.5, "nothing recorded yet")
        return ax

    return draw


def split_by_data_set(plot):
    """The plot, drawn of each data set of its table in a figure of its own that names it; of other
    tables it takes the same data set alone. Nothing is averaged over data sets.
    """

    @functools.wraps(plot)
    def draw(table: pd.DataFrame, *more, **about):
        names = list(table.dataset.unique()) if "dataset" in table else []
        if len(names) < 2:
            return plot(table, *_of_data_sets(more, names), **about)
        drawn = []
        for name in names:
            drawn.append(plot(*_of_data_sets((table, *more), [name]), **about))
            if not any(name in ax.get_title() for ax in plt.gcf().axes):
                plt.gcf().suptitle(name)
        return drawn

    return draw


def _of_data_sets(arguments: tuple, names: list[str]) -> Iterator:
    """The arguments, tables without the rows of other data sets than these, if any are named."""
    for each in arguments:
        has_names = isinstance(each, pd.DataFrame) and "dataset" in each and names
        yield each[each.dataset.isin(names)] if has_names else each


def interval(values: pd.Series) -> tuple[float, float]:
    """Student's 95 % interval of the mean, or the range of fewer than five or of equal values: what
    error bars show.
    """
    if len(values) < FEW_SEEDS or values.nunique() == 1:
        return values.min(), values.max()
    return stats.t.interval(0.95, len(values) - 1, values.mean(), values.sem())


def number_log_axes(ax: Axes) -> None:
    """Few round numbers on a log axis of up to two decades, where matplotlib prints one alone, or more
    than there is room for. Called when all is drawn.
    """
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if axis.get_scale() == "log":
            axis.set_minor_formatter(ticker.NullFormatter())
            if high < DECADE**2 * low:
                narrow = high < DECADE * low
                few = ticker.MaxNLocator(3) if narrow else ticker.LogLocator(subs=(1, 3))
                axis.set_major_locator(few)
                axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))


def name_lines(ax: Axes, names: Sequence[str] = ()) -> None:
    """The name of each line right of its end, in its colour, moved apart where ends lie close. Called
    when all is drawn.

    names: of the lines in the order in which they were drawn; by default their labels.
    """
    drawn = [line for line in ax.lines if len(line.get_xdata()) > 1]
    if not names:
        drawn = [line for line in drawn if not line.get_label().startswith("_")]
        names = [line.get_label() for line in drawn]
    ax.autoscale_view()
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [(to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1], line, name)
            for line, name in zip(drawn, names, strict=True)]  # fmt: skip
    ends.sort(key=lambda end: end[0])
    for height, (_, line, name) in zip(
        move_apart([end for end, *_ in ends], NAME_HEIGHT), ends, strict=True
    ):
        ax.text(1.02, height, name, color=line.get_color(), transform=ax.transAxes, va="center")


def move_apart(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights, changed as little as it takes, in least squares, for neighbours to be `least`
    apart.
    """
    steps = least * np.arange(len(heights))  # less these, moved heights only have to ascend
    return list(optimize.isotonic_regression(heights - steps).x + steps)


def put_legend_beside(ax: Axes, **about) -> None:
    """The legend to the right of the axes, from its top down, where no curve is."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
    look = {"frameon": False, "fontsize": "x-small"}
    ax.legend(**place | look | about)


def grid(rows: int, columns: int, size: tuple[float, float], **about):
    """A figure and its axes, (rows, columns), each of `size` inches."""
    width, height = size
    figsize = (width * columns, height * rows)
    dpi = min(SHARPEST, FULL_WIDTH / figsize[0]) * _SHARE_OF_WIDTH.get()
    return plt.subplots(
        rows, columns, figsize=figsize, squeeze=False, layout="constrained", dpi=dpi, **about
    )
