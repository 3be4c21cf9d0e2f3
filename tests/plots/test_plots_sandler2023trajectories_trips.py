"""What is drawn of trips, gradients, drift and flatness is what the tables say."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from replicate import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(ax) -> list[list[float]]:
    """The y values of every line with points."""
    return [
        list(np.asarray(x.get_ydata(), float).round(9)) for x in ax.lines if len(x.get_xdata()) > 1
    ]


def test_figure_6_draws_distances_of_three_pairs_and_losses_of_four_arms():
    arms = ("raw", "midpoint", "half-rate", "other-batches", "other half-rate")
    rows = [{"seed": seed, "arm": arm, "k": k, "apart": place + k + seed, "train_loss": 10 * place + k + seed}
            for seed in (0, 2) for place, arm in enumerate(arms) for k in (10, 30)]  # fmt: skip
    other = pd.DataFrame(rows).assign(dataset="cifar10", apart=99.0)
    table = pd.concat([pd.DataFrame(rows).assign(dataset="digits"), other])
    (left, right), (elsewhere, _) = plots.trips_apart(table)
    assert [99, 99] in drawn(elsewhere)
    curves = [y for y in drawn(left) if len(y) == 2]
    assert [13, 33] in curves and [14, 34] in curves and [15, 35] in curves  # seeds' mean is + 1
    losses = [y for y in drawn(right) if len(y) == 2]
    assert {tuple(y) for y in losses} >= {(11, 31), (21, 41), (31, 51), (41, 61)}
    assert [text.get_text() for text in left.get_legend().texts] == [
        "midpoint and half-rate run", "the same, other mini-batches", "two runs at the full rate",
    ]  # fmt: skip


def test_figure_7_draws_means_over_batches_of_each_cosine():
    rows = [{"seed": 0, "batch": batch, "k": k, "arm": arm, "cosine": 0.1 + batch, "parallel": 0.2 + batch,
             "between": 0.3 + batch, "norm": 4.0 + place, "loss": 6.0 + place + k}
            for batch in (0, 2) for k in (0, 10)
            for place, arm in enumerate(("constant", "decaying", "fresh batches", "same images"))]  # fmt: skip
    cosines, norms, losses = plots.batch_gradients(pd.DataFrame(rows).assign(dataset="digits"))
    names = {line.get_label(): line.get_color() for line in cosines.get_legend().legend_handles}
    heights = {line.get_color(): line.get_ydata()[0] for line in cosines.lines if len(set(line.get_ydata())) == 1}  # fmt: skip
    assert {name: round(heights[colour], 9) for name, colour in names.items()} == {
        "with the start": 1.1, "decaying trip, with the start": 1.1,
        "decaying trip, with the parallel point": 1.2, "of two batches": 1.3,
    }  # fmt: skip
    assert [4, 4] in drawn(norms) and [5, 5] in drawn(norms) and [6, 6] not in drawn(norms)
    assert [6, 16] in drawn(losses) and [7, 17] in drawn(losses) and [8, 18] not in drawn(losses)


def test_figure_8_draws_a_line_a_seed_and_the_branch_point():
    rows = [{"dataset": "digits", "seed": seed, "arm": arm, "step": step, "distance": seed + step * sign}
            for seed in (0, 1) for arm, sign in (("continuation", -1.0), ("another initialisation", 1.0))
            for step in (0, 5, 10)]  # fmt: skip
    falling, rising = plots.distances_to_ends(pd.DataFrame(rows))
    assert [list(x.get_ydata()) for x in falling.lines[:2]] == [[0, -5, -10], [1, -4, -9]]
    assert [list(x.get_ydata()) for x in rising.lines[:2]] == [[0, 5, 10], [1, 6, 11]]
    assert list(falling.lines[2].get_xdata()) == [5, 5]
    assert falling.get_title().endswith("continuation")


@pytest.mark.parametrize("kernel", ["swa", ""])
def test_gains_are_over_the_raw_weights_of_the_same_seed_and_window(kernel):
    """Raw weights have a kernel in one table and none in another."""
    rows = []
    for seed in (0, 1):
        for k in (10, 100):
            rows.append({"seed": seed, "kernel": kernel, "k": k, "arm": "raw", "train_loss": 5.0 * seed + k})  # fmt: skip
            for place, arm in enumerate(("average", "side-trip")):
                loss = 5.0 * seed + k - (1 + place) * k / 10
                rows.append({"seed": seed, "kernel": "swa", "k": k, "arm": arm, "train_loss": loss})
    (ax,) = plots.gains(pd.DataFrame(rows).assign(dataset="digits"))
    curves = [y for y in drawn(ax) if len(set(y)) > 1]
    assert [1, 10] in curves and [2, 20] in curves and ax.get_title() == "swa"


def test_drift_has_an_axes_a_drift_and_a_line_an_arm():
    rows = [{"drift": drift, "arm": arm, "step": step, "loss": place + step * slope, "seed": seed}
            for slope, drift in enumerate(("none", "fast")) for place, arm in enumerate(("large rate", "average"))
            for step in (10, 20) for seed in (0, 1)]  # fmt: skip
    none, fast = plots.losses_under_drift(pd.DataFrame(rows))
    assert [0, 0] in drawn(none) and [1, 1] in drawn(none)
    assert [10, 20] in drawn(fast) and [11, 21] in drawn(fast)
    assert none.get_title() == "drift: none" and fast.get_title() == "drift: fast"


def test_flatness_is_over_that_of_the_windows_end_and_shares_stand_beside():
    flat = [{"seed": seed, "arm": arm, "sharpness": 2.0 * (1 + place) * (1 + seed), "trace": 3.0 * (2 + place)}
            for seed in (0, 1) for place, arm in enumerate(("raw", "average", "side-trip", "start"))]  # fmt: skip
    steep = [{"seed": 0, "arm": arm, "share": place / 10}
             for place, arm in enumerate(("random", "flat", "steep", "other random"))]  # fmt: skip
    left, right = plots.flat_and_steep(pd.DataFrame(flat), pd.DataFrame(steep))
    sharpness, trace = (list(x.get_ydata()) for x in left.lines[:2])
    assert sharpness == [4, 4, 1, 1, 2, 2, 3, 3]
    assert trace == [2.5, 2.5, 1, 1, 1.5, 1.5, 2, 2]
    assert list(right.lines[0].get_ydata()) == [0.2, 0.1, 0.0, 0.3]


def test_predictions_have_a_point_a_seed_and_an_axes_a_metric():
    rows = [{"seed": seed, "arm": arm, "apart": place + seed, "agreement": 2.0 * place, "calibration": 3.0 * place}
            for seed in (0, 1) for place, arm in enumerate(("average", "raw"))]  # fmt: skip
    axes = plots.predictions_beside(pd.DataFrame(rows))
    assert [list(ax.lines[0].get_ydata()) for ax in axes] == [
        [0, 1, 1, 2],
        [0, 0, 2, 2],
        [0, 0, 3, 3],
    ]
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["average", "raw"]


@pytest.mark.parametrize("plot", [
    plots.predictions_beside, plots.trips_apart, plots.batch_gradients, plots.distances_to_ends, plots.gains, plots.losses_under_drift,
])  # fmt: skip
def test_an_empty_table_is_said_to_be_empty(plot):
    assert plot(pd.DataFrame()).texts[0].get_text() == "nothing recorded yet"


def test_no_flatness_is_said_to_be_none():
    ax = plots.flat_and_steep(pd.DataFrame(), pd.DataFrame())
    assert ax.texts[0].get_text() == "nothing recorded yet"


def test_radii_are_drawn_by_rate_beside_a_square_root():
    rows = [{"dataset": "digits", "seed": seed, "arm": arm, "factor": f, "radius": (1 + place + seed) * f}
            for seed in (0, 2) for place, arm in enumerate(("steep", "random")) for f in (0.25, 1.0)]  # fmt: skip
    curves = drawn(plots.radii(pd.DataFrame(rows)))
    assert [0.5, 2.0] in curves and [0.75, 3.0] in curves and [0.5, 1.0] in curves
