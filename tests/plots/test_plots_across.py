"""What is drawn of filters and of one task is what stands in the table."""

import numpy as np
import pandas as pd
import pytest

from replicate import plots
from replicate.plots.across import CONTENDING, FAMILIES
from replicate.sources.across._contenders import list_arms
from replicate.sources.across._task import Task
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


ARMS = list_arms(Task())


@pytest.fixture(scope="module")
def trials():
    """Losses of 5 seeds that are 1 + a tenth of the arm's place, times the pace; none of Adam at 2."""
    rows = [
        {"arm": arm, "axis": axis, "seed": seed, "pace": pace, "test_loss": loss, "error": 0.5}
        for axis, times in (("modelled seconds", 3.0), ("gradients", 1.0), ("forward passes", 2.0))
        for place, arm in enumerate(ARMS)
        for seed in range(5)
        for pace in (0.5, 1.0, 2.0)
        for loss in [np.nan if (arm, pace, seed) == ("Adam", 2.0, 3) else times * pace * (1 + place / 10) + seed - 2]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_arm_of_the_task_is_drawn_by_its_means(trials):
    axes = plots.ends_by_pace(trials)
    assert axes.shape == (3, len(CONTENDING))
    assert [ax.get_title() for ax in axes[0]] == list(CONTENDING)
    assert [bool(ax.get_xlabel()) for ax in axes[:, 0]] == [False, False, True]
    drawn = set().union(*CONTENDING.values())
    assert drawn == set(ARMS) | {"SGD"}
    for row, times in zip(axes, (1.0, 2.0, 3.0), strict=True):
        for ax, arms in zip(row, CONTENDING.values(), strict=True):
            for line, arm in zip(ax.lines, arms, strict=True):
                paces = np.array([0.5, 1.0] if arm == "Adam" else [0.5, 1.0, 2.0])
                assert line.get_xdata() == pytest.approx(paces)
                assert line.get_ydata() == pytest.approx(times * paces * (1 + ARMS.index(arm) / 10))


def test_the_table_has_the_tuned_means_lowest_first(trials):
    judged = trials.dropna().assign(
        rate=lambda rows: np.where(rows.pace == 1.0, "tuned", "tuned lower"),
        checks=7.0,
        dataset="digits",
    )
    night = judged.assign(dataset="night", test_loss=9.0, error=0.9)
    both = pd.concat([judged, night]).sample(frac=1, random_state=1)
    shown = plots.list_ends(both).loc["digits"]
    assert list(shown.index) == list(ARMS)
    assert shown.loc[
        "momentum", ["gradients", "forward passes", "modelled seconds"]
    ].tolist() == pytest.approx([1.1, 2.2, 3.3])
    assert shown.loc["momentum", ["error", "pace", "checks"]].tolist() == [0.5, 1.0, 7.0]
