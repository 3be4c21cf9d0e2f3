"""What is drawn is what the table says, and an empty table is said to be empty."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from faults import list_faults
from matplotlib import pyplot as plt

from replicate import plots

AXES = ("gradients", "forward-equivalents", "modelled seconds")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def curves() -> pd.DataFrame:
    rows = []
    for dataset in ("figure13", "figure13code"):
        for rate in ("source", "tuned"):
            for arm, speed in (
                ("SGD", 1.0),
                ("KS_50_2 published", 2.0),
                ("KS_50_2 corrected", 4.0),
            ):
                for axis in AXES:
                    for seed in range(2):
                        for share in (0.0, 0.5, 1.0):
                            rows.append(
                                (
                                    dataset,
                                    rate,
                                    "source",
                                    arm,
                                    axis,
                                    seed,
                                    10.0,
                                    share,
                                    -speed * share - seed,
                                )
                            )
    return pd.DataFrame(rows, columns="dataset rate start arm axis seed budget share loss".split())


def lines(ax) -> dict[str, np.ndarray]:
    return {x.get_label(): np.column_stack([x.get_xdata(), x.get_ydata()]) for x in ax.lines}


def test_a_figure_has_a_row_a_data_set_and_an_axes_a_cost(curves):
    axes = plots.against_cost(curves)
    assert axes.shape == (2, 3)
    assert [ax.get_xlabel() for ax in axes[0]] == [
        "gradients",
        "forward-equivalents",
        "modelled seconds, one thread",
    ]


def test_curves_are_means_over_seeds_at_shares_of_the_budget(curves):
    for ax in plots.against_cost(curves).ravel():
        np.testing.assert_allclose(
            lines(ax)["KS_50_2 corrected"], [(0, -0.5), (5, -2.5), (10, -4.5)]
        )


def test_published_code_is_dashed_and_has_the_colour_of_the_corrected_one(curves):
    ax = plots.against_cost(curves)[0, 0]
    published, corrected = (
        next(x for x in ax.lines if x.get_label() == f"KS_50_2 {v}")
        for v in ("published", "corrected")
    )
    assert (published.get_linestyle(), corrected.get_linestyle()) == ("--", "-")
    assert published.get_color() == corrected.get_color()


def test_only_the_rate_that_is_asked_for_is_drawn(curves):
    changed = curves.assign(loss=curves.loss.where(curves.rate == "tuned", 99.0))
    for ax in plots.against_cost(changed, rate="tuned").ravel():
        assert max(y.max() for y in (line[:, 1] for line in lines(ax).values())) < 1


def test_the_overview_has_a_row_a_data_set_and_a_column_a_rate(curves):
    axes = plots.overview(curves.assign(loss=curves.loss.where(curves.rate == "source", 99.0)))
    assert axes.shape == (2, 2)
    for left, right in axes:
        np.testing.assert_allclose(lines(left)["SGD"], [(0, -0.5), (5, -1.0), (10, -1.5)])
        assert (lines(right)["SGD"][:, 1] == 99).all()


def test_the_posts_own_axes_show_its_arms_as_printed_at_its_rate(curves):
    """Errors over that at the start, geometric means, against modelled seconds and gradients."""
    changed = curves.assign(loss=curves.loss.where(curves.rate == "source", 0.0))
    changed["budget"] = np.where(changed.axis == "modelled seconds", 4.0, 10.0)
    axes = plots.mse_against_time(changed)
    assert axes.shape == (2, 2)
    for left, right in axes:
        assert list(lines(left)) == ["SGD", "KS_50_2 published"]
        expected = 10 ** np.array([-0.5, -1.5, -2.5])
        np.testing.assert_allclose(lines(left)["KS_50_2 published"].T, [(0, 2, 4), expected])
        np.testing.assert_allclose(lines(right)["KS_50_2 published"].T, [(0, 5, 10), expected])


def test_the_same_arm_has_the_same_look_in_every_picture(curves):
    def looks(axes) -> set:
        return {
            (line.get_label(), line.get_color(), line.get_linestyle())
            for ax in axes.ravel()
            for line in ax.lines
        }

    shown = looks(plots.mse_against_time(curves))
    assert shown < looks(plots.against_cost(curves)) == looks(plots.overview(curves))


def test_five_seeds_have_a_band(curves):
    many = pd.concat([curves.assign(seed=seed, loss=curves.loss + 0.1 * seed) for seed in range(6)])
    for plot in (plots.mse_against_time, plots.against_cost, plots.overview):
        assert all(len(ax.collections) == len(ax.lines) for ax in plot(many).ravel())


def test_iterations_are_on_a_logarithmic_axis():
    table = pd.DataFrame(
        {
            "arm": "rate",
            "seed": [0, 0, 1, 1],
            "iteration": [0, 1, 0, 1],
            "loss": [4.0, 1.0, 8.0, 3.0],
        }
    )
    first, second = plots.iterations(table, table.assign(loss=10 * table.loss))
    assert first.get_yscale() == second.get_yscale() == "log"
    np.testing.assert_allclose(lines(first)["rate"], [(0, 6), (1, 2)])
    np.testing.assert_allclose(lines(second)["rate"], [(0, 60), (1, 20)])


def test_shares_sum_to_one():
    seconds = {"forward": 2.0, "backward": 5.0, "step": 1.0, "adam": 9.0, "check": 9.0}
    table = pd.DataFrame(
        [("figure9", p, s) for p, s in seconds.items()], columns=["dataset", "part", "seconds"]
    )
    ax = plots.time_shares(table)
    widths = [patch.get_width() for patch in ax.patches if patch.get_width()]
    np.testing.assert_allclose(widths, [2 / 8, 5 / 8, 1 / 8])


def test_leads_are_coloured_by_verdict_and_hollow_where_there_is_none():
    rows = [("A", "one", "reproduced", -1.0, -2.0, 0.0), ("A", "two", "inconclusive", 0.5, -np.inf, np.inf),
            ("B", "three", "contradicted", 1.0, 0.5, 2.0), ("A", "four", "not tested", 0.0, 0.0, 0.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["claim", "case", "verdict", "value", "low", "high"])
    ax = plots.leads(table, ("A",))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["A, one", "A, two"]
    points = [x for x in ax.lines if x.get_marker() == "o"]
    assert [float(x.get_xdata()[0]) for x in points] == [-1.0, 0.5]
    assert [x.get_fillstyle() for x in points] == ["full", "none"]


def test_rate_curves_draw_the_sweep_without_the_tuning_runs():
    table = pd.DataFrame({"dataset": "figure9", "arm": "SGD", "use": ["sweep", "sweep", "tuning"], "seed": 0,
                          "lr": [0.1, 1.0, 0.1], "height": [-1.0, -2.0, 5.0]})  # fmt: skip
    (ax,) = plots.rate_curves(table)
    assert ax.get_xscale() == "log" and list(ax.containers[0][0].get_ydata()) == [-1, -2]


def test_speed_ups_turning_and_batches_draw_means():
    speeds = pd.DataFrame(
        {"walk": [2, 2, 8], "measured": [1.0, 3.0, 4.0], "predicted": [2.0, 2.0, 5.0]}
    )
    heights = [list(c[0].get_ydata()) for c in plots.speed_ups(speeds).containers]
    assert heights == [[2, 4], [2, 5]]
    cosine = pd.DataFrame(
        {"dataset": "figure9", "rate": "source", "tenth": [0, 0, 1], "cosine": [1.0, 0.8, 0.1]}
    )
    (ax,) = plots.turning(cosine)
    np.testing.assert_allclose(ax.containers[0][0].get_ydata(), [0.9, 0.1])
    batches = pd.DataFrame(
        {
            "batch": [64, 64, 9],
            "checks": "same",
            "bias": [1.0, 2.0, 0.0],
            "loss": [-1.0, -2.0, -3.0],
        }
    )
    loss, bias = plots.on_batches(batches)
    np.testing.assert_allclose(loss.containers[0][0].get_ydata(), [-3, -1.5])
    np.testing.assert_allclose(bias.containers[0][0].get_ydata(), [0, 1.5])


def test_second_order_draws_every_seed_and_the_mean_of_both_losses():
    rows = [
        {"dataset": name, "arm": arm, "rate": rate, "seed": s, "train": -4.0 - s, "test": -1.0 - s}
        for name in ("figure9", "figure12")
        for arm in ("NEWTON", "SGD")
        for rate in ("tuned", "tuned lower")
        for s in (0, 2)
    ]
    left, right = plots.second_order(pd.DataFrame(rows))
    assert (left.get_title(), right.get_title()) == ("figure9", "figure12")
    train, test = left.lines
    assert list(train.get_ydata()) == [-4, -6] * 2 and list(test.get_ydata()) == [-1, -3] * 2
    means = [{segment[0][1] for segment in bars.get_segments()} for bars in left.collections]
    assert means == [{-5.0}, {-2.0}]
    assert [label.get_text() for label in left.get_xticklabels()] == ["NEWTON", "SGD"]


def test_each_data_set_of_a_reader_has_a_row_and_each_budget_the_means_of_its_seeds():
    rows = [
        (dataset, arm, rate, axis, seed, share, 10.0 ** -(place * share + seed + width))
        for dataset, width in (("digits", 0), ("cifar10", 10))
        for arm, place in (("SGD", 1), ("KS_50_2 corrected", 2), ("SGD again", 3))
        for rate in ("tuned", "validated", "tuned lower")
        for axis in ("gradients", "forward-equivalents", "seconds")
        for seed in (0, 1)
        for share in (0.5, 1.0)
    ]
    names = ["dataset", "arm", "rate", "axis", "seed", "share", "train_loss"]
    table = pd.DataFrame(rows, columns=names)
    lost = (table.dataset == "cifar10") & (table.axis == "seconds") & (table.arm == "SGD")
    table.loc[lost & (table.seed == 1) & (table.share == 1.0), "train_loss"] = np.nan
    table.loc[table.rate != "tuned", "train_loss"] *= 7.0
    axes = plots.on_your_images(table)
    assert axes.shape == (2, 3) and axes[1][2].get_title() == "cifar10, seconds"
    for row, width in zip(axes, (0, 10), strict=True):
        for ax in row[:2]:
            sgd, walk = (bars.lines[0].get_ydata() for bars in ax.containers)
            assert sgd == pytest.approx([-1.0 - width, -1.5 - width])
            assert walk == pytest.approx([-1.5 - width, -2.5 - width])
        said = [text.get_text() for text in row[-1].get_legend().get_texts()]
        assert said == ["SGD", "KS_50_2 corrected"]
    assert list(axes[1][2].containers[0].lines[0].get_xdata()) == [0.5]
    assert list_faults(axes[0][0].figure) == []


@pytest.mark.parametrize(
    "plot",
    [plots.against_cost, plots.iterations, plots.rate_curves, plots.time_shares, plots.speed_ups, plots.turning,
     plots.on_batches, plots.second_order, plots.overview, plots.mse_against_time, plots.on_your_images,
     lambda table: plots.leads(table, ("A",))],
)  # fmt: skip
def test_an_empty_table_is_said_to_be_empty(plot):
    assert plot(pd.DataFrame()).texts[0].get_text() == "nothing recorded yet"
