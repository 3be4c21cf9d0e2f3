"""What is drawn of filters is what stands in the table."""

import numpy as np
import pytest

from replicate import plots
from replicate.plots.across import FAMILIES
from replicate.sources.across.settings import Settings
from replicate.sources.protocol import Source


@pytest.fixture(scope="module")
def table():
    return Source("across")["filters"](Settings())


def test_every_method_is_drawn_in_its_family(table):
    axes = plots.filter_views(table)
    assert axes.shape == (3, 4)
    for column, arms in zip(axes.T, FAMILIES.values(), strict=True):
        assert all(len(ax.lines) == len(arms) for ax in column)
    assert set().union(*FAMILIES.values()) == set(table[table.what == "pace"].arm)


def test_lines_are_the_tables_numbers(table):
    axes = plots.filter_views(table)
    impulse, response, noise = (ax.lines[1] for ax in axes[:, 0])  # momentum
    assert impulse.get_ydata()[:2] == pytest.approx([0.1, 0.19])  # 1 and 1.9 of a pace of 10
    assert response.get_ydata()[[0, -1]] == pytest.approx([1.0, 0.1 / 1.9])
    x = noise.get_xdata()
    assert noise.get_ydata() == pytest.approx(1.9 * (2 - x) / (3.8 - 0.1 * x))
    assert axes[2, 1].get_xscale() == "log"


def test_a_method_near_its_edge_is_not_drawn_beyond(table):
    (third,) = [
        line for line in plots.filter_views(table)[2, 1].lines if line.get_label() == "third order"
    ]
    assert np.isfinite(third.get_ydata()).all() and third.get_xdata().max() < 1


def test_edges_stand_in_the_order_of_the_methods(table):
    shown = plots.list_edges(table)
    assert list(shown.index[:2]) == ["SGD", "momentum"]
    assert shown.fastest["momentum"] == pytest.approx(38) and shown.lag[
        "running mean"
    ] == pytest.approx(9)


def test_nothing_is_drawn_of_an_empty_table(table):
    assert plots.filter_views(table.iloc[:0]).texts[0].get_text() == "nothing recorded yet"
