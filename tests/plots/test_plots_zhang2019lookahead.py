"""What is drawn is what the table says, and an empty table is said to be empty."""

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


def lines_of(ax) -> dict[str, np.ndarray]:
    """Label in the legend -> y of the line of its colour and dashes."""
    handles, labels = ax.get_legend_handles_labels()
    drawn = [line for line in ax.lines if len(line.get_xdata())]
    return {
        label: line.get_ydata()
        for handle, label in zip(handles, labels, strict=True)
        for line in drawn
        if (line.get_color(), line.get_linestyle()) == (handle.get_color(), handle.get_linestyle())
    }


def test_a_line_of_variances_an_arm():
    x = np.linspace(0.1, 1.9, 5)
    rows = [("variance", arm, at, at * i) for i, arm in enumerate("ab", 1) for at in x]
    rows.append(("claim", "", np.nan, 7.0))
    ax = plots.variance_by_rate(pd.DataFrame(rows, columns=["what", "arm", "x", "value"]))
    assert [line.tolist() for line in lines_of(ax).values()] == [x.tolist(), (2 * x).tolist()]


def test_the_lowest_loss_is_on_top_and_lookahead_is_coloured():
    rows = [
        ("loss", arm, noise, steps, value)
        for noise, steps in (("a^2", 100), ("a^2", 1000), ("1", 1000))
        for arm, value in (("SGD", 3.0), ("Lookahead 0.5, 5", 2.0), ("SGD, mean", 1.0))
    ]
    table = pd.DataFrame(rows, columns=["what", "arm", "noise", "steps", "value"])
    axes = plots.losses_at_best_rates(table)
    for ax in axes:
        assert [bar.get_width() for bar in ax.patches] == [1.0, 2.0, 3.0]
        assert ax.yaxis_inverted()
        colours = [bar.get_facecolor() for bar in ax.patches]
        assert colours[0] == colours[2] != colours[1]


def test_rates_of_convergence_by_condition_number():
    rows = [
        ("rate", spectrum, arm, kappa, beta, scale / kappa)
        for spectrum, scale in (("dense", 1.0), ("two curvatures", 2.0))
        for arm in ("heavy ball", "Lookahead", "Lookahead at 1/L")
        for kappa in (10, 100)
        for beta in (0.9, 0.99)
    ]
    columns = ["what", "case", "arm", "kappa", "beta", "value"]
    axes = plots.convergence_rates(pd.DataFrame(rows, columns=columns))
    assert [ax.get_title() for ax in axes] == ["dense", "two curvatures"]
    for ax, scale in zip(axes, (1.0, 2.0), strict=True):
        drawn = [line for line in ax.lines if len(line.get_xdata())]
        assert len(drawn) == 4
        expected = pytest.approx([scale / 10, scale / 100])
        assert all(line.get_ydata().tolist() == expected for line in drawn)


def test_averages_by_steps_and_acceleration_by_gradients():
    rows = [("loss", "SGD", t, 1 / t) for t in (100, 1000)]
    rows += [("path", "heavy ball", t, 2.0**-t) for t in range(5)]
    table = pd.DataFrame(rows, columns=["what", "arm", "steps", "value"])
    left, right = plots.averages_and_acceleration(table)
    assert lines_of(left)["SGD"].tolist() == [0.01, 0.001]
    assert lines_of(right)["heavy ball"].tolist() == [2.0**-t for t in range(5)]


def test_losses_of_networks_on_the_grid_alone():
    rows = [
        (schedule, arm, seed, lr, lr > 0.05, lr * scale)
        for schedule in ("constant", "decayed")
        for arm, scale in (("sgd", 1.0), ("tail", 2.0))
        for seed in range(2)
        for lr in (0.05, 0.1, 0.2)
    ]
    columns = ["schedule", "arm", "seed", "lr", "grid", "test_loss"]
    axes = plots.loss_by_arm(pd.DataFrame(rows, columns=columns))
    assert [ax.get_title() for ax in axes] == ["constant rate", "decayed rate"]
    assert lines_of(axes[0])["tail"].tolist() == pytest.approx([0.2, 0.4])


def test_the_pull_stands_behind_the_steps():
    values = {"pull": 0.9, "0": 0.8, "10": 0.7, "2": 0.6}
    rows = [
        (seed, net, "1 drops", norm, cycle, place, value + shift + cycle / 100)
        for net, norm, shift in (
            ("batch norm", "running", 0.0),
            ("batch norm", "re-estimated", 0.05),
            ("group norm", "none", 0.07),
        )
        for seed in range(2)
        for cycle in range(2)
        for place, value in values.items()
    ]
    columns = ["seed", "net", "probe", "norm", "cycle", "place", "top1"]
    ax, plain = plots.accuracy_within_cycle(pd.DataFrame(rows, columns=columns))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "2", "10", "pull"]
    assert lines_of(ax)["running"].tolist() == pytest.approx([0.805, 0.605, 0.705, 0.905])
    assert lines_of(plain)["none"].tolist() == pytest.approx([0.875, 0.675, 0.775, 0.975])


def test_setups_are_drawn_by_their_means():
    shares = {"sgd": (0.9, 0.8), "as run": (0.5, 0.7)}
    rows = [(seed, arm, tops[seed]) for seed in range(2) for arm, tops in shares.items()]
    ax = plots.accuracy_by_setup(pd.DataFrame(rows, columns=["seed", "arm", "top1"]))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["sgd", "as run"]
    dots = sorted(x for dots in ax.collections for x in dots.get_offsets()[:, 0])
    assert dots == pytest.approx([0.5, 0.7, 0.8, 0.9])
    means = [x for line in ax.lines for x in line.get_xdata() if len(line.get_xdata()) == 2]
    assert {0.85, 0.6} <= {round(float(x), 9) for x in means}


@pytest.mark.parametrize(
    "plot",
    [
        plots.variance_by_rate,
        plots.losses_at_best_rates,
        plots.convergence_rates,
        plots.averages_and_acceleration,
        plots.loss_by_arm,
        plots.accuracy_by_setup,
        plots.accuracy_within_cycle,
    ],
)
def test_an_empty_table_is_said_to_be_empty(plot):
    assert plot(pd.DataFrame()).texts[0].get_text() == "nothing recorded yet"
