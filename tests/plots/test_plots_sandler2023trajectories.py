"""What is drawn is what the table says, and an empty table is said to be empty."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from replicate import plots

KERNELS = ("two-point", "swa", "ema")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for dataset in ("digits", "cifar10"):
        for seed in range(2):
            for branch, start in enumerate((100, 200)):
                for k in (10, 50):
                    rows.append((dataset, seed, branch, start, "", k, "raw", 0.9 + seed, 1.0))
                    for kernel in KERNELS:
                        for arm, loss in (
                            ("average", 0.5),
                            ("side-trip", 0.6),
                            ("other-batches", 0.7),
                        ):
                            rows.append(
                                (dataset, seed, branch, start, kernel, k, arm, loss + seed, loss)
                            )
    names = ["dataset", "seed", "branch", "start", "kernel", "k", "arm", "train_loss", "to_average"]
    return pd.DataFrame(rows, columns=names).assign(travelled=2.0)


def line(ax, style: str, colour) -> np.ndarray:
    (found,) = [
        x
        for x in ax.lines
        if x.get_linestyle() == style and x.get_color() == colour and len(x.get_xdata())
    ]
    return np.column_stack([found.get_xdata(), found.get_ydata()])


def test_figure_5_has_a_row_a_data_set_and_a_column_a_kernel(table):
    axes = plots.side_trips(table)
    assert axes.shape == (2, 3)
    assert [ax.get_title().split(",")[0] for ax in axes[:, 0]] == ["digits", "cifar10"]


def test_figure_5_draws_means_over_seeds_at_the_windows_ends(table):
    for ax in plots.side_trips(table).ravel():
        colours = [
            x.get_color() for x in ax.lines if x.get_linestyle() == "--" and len(x.get_xdata())
        ]
        for k, colour in zip((10, 50), colours, strict=True):
            np.testing.assert_allclose(line(ax, "--", colour), [(100 + k, 1.0), (200 + k, 1.0)])
            points = [
                x
                for x in ax.lines
                if x.get_marker() == "o" and x.get_color() == colour and len(x.get_xdata())
            ]
            np.testing.assert_allclose(points[0].get_ydata(), [1.1, 1.1])


BAND = (0.75, 1.5)


def rows(band: tuple[float, float] = BAND) -> pd.DataFrame:
    """Verdict rows of the three claims on two data sets, each value its own, and rows that are no
    such ratios.
    """
    claims, made = {"two-point": "TRAJ-22.loss", "swa": "TRAJ-21.loss", "ema": "TRAJ-23.loss"}, []
    for place, (dataset, kernel, k) in enumerate(
        (d, n, k) for d in ("digits", "cifar10") for n in KERNELS for k in (10, 50)
    ):
        case, value = f"{dataset} {kernel} k={k}", 0.8 + place / 100
        made.append((claims[kernel], "secondary", case, value, value - 0.05, value + 0.1))
        made.append((claims[kernel], "control", f"{case} control other-batches", 7.0, 6.0, 8.0))
    made.append(("TRAJ-26", "primary", "digits swa k=10", 9.0, 8.0, 10.0))
    made.append(("TRAJ-21.loss", "primary", "imagenet swa k=10", np.nan, np.nan, np.nan))
    table = pd.DataFrame(made, columns=["claim", "role", "case", "value", "low", "high"])
    table[["dataset", "cell"]] = table.case.str.split(" ", n=1, expand=True)
    return table.assign(preset="cpu", at_least=band[0], at_most=band[1])


@pytest.mark.parametrize("band", [BAND, (0.9, 1.1)])
def test_the_margin_of_ratios_is_that_of_the_rows(band):
    for ax in plots.ratios(rows(band)):
        (patch,) = ax.patches
        assert (patch.get_y(), patch.get_y() + patch.get_height()) == pytest.approx(band)
    assert f"margin [{band[0]:g}, {band[1]:g}]" in [
        text.get_text() for text in plots.ratios(rows(band))[0].get_legend().texts
    ]


def test_ratios_draw_value_and_interval_of_each_row():
    axes, table = plots.ratios(rows()), rows().set_index("case")
    assert [ax.get_title() for ax in axes] == ["digits, preset cpu", "cifar10, preset cpu"]
    for ax in axes:
        dataset = ax.get_title().split(",")[0]
        assert len(ax.containers) == 3
        for kernel, bars in zip(KERNELS, ax.containers, strict=True):
            own = [
                table[table.role == "secondary"].loc[f"{dataset} {kernel} k={k}"] for k in (10, 50)
            ]
            assert list(bars[0].get_ydata()) == [row.value for row in own]
            reach = [(low, high) for (_, low), (_, high) in bars[2][0].get_segments()]
            np.testing.assert_allclose(reach, [(row.low, row.high) for row in own])


def test_ratios_of_two_presets_are_not_mixed():
    both = pd.concat([rows(), rows().assign(preset="gpu", value=1.2)], ignore_index=True)
    assert [ax.get_title() for ax in plots.ratios(both)] == [
        "digits, preset cpu", "cifar10, preset cpu", "digits, preset gpu", "cifar10, preset gpu",
        "imagenet, preset gpu",
    ]  # fmt: skip


def test_rows_that_are_no_ratios_draw_nothing():
    assert (
        plots.ratios(rows().query("claim == 'TRAJ-26'")).texts[0].get_text()
        == "nothing recorded yet"
    )


def test_end_points_are_in_units_of_the_way(table):
    for ax in plots.end_points(table):
        heights = {
            float(y) for x in ax.lines for y in np.ravel(x.get_ydata()) if len(x.get_xdata()) == 2
        }
        assert {0.3, 0.35} <= {round(h, 6) for h in heights}


def test_figure_4_draws_exact_lines_runs_on_top_and_two_histograms():
    rows = [("expected", "drag", 0.1, 1.0), ("expected", "drag", 0.2, 2.0), ("drawn", "drag", 0.1, 1.1),
            ("norm", "iterate", 0.1, 3.0), ("norm", "midpoint", 0.1, 2.0), ("claim", "", 0.1, 9.0)]  # fmt: skip
    left, right = plots.drag_and_drift(pd.DataFrame(rows, columns=["what", "arm", "rate", "size"]))
    curves = [(each.get_linestyle(), *each.get_ydata()) for each in left.lines]
    assert curves == [("-", 1.0, 2.0), ("None", 1.1)] and left.get_xscale() == "log"
    assert {text.get_text() for text in right.get_legend().texts} == {"iterate", "midpoint"}


@pytest.mark.parametrize("directions", [["both"], ["fast", "slow"]])
def test_two_scales_draw_a_line_a_run_and_an_axes_a_direction(directions):
    rows = [{"what": what, "arm": arm, "step": step, "loss": step + shift, "run": run, "direction": name}
            for name in directions for arm in ("EMA", "large rate") for step in (1, 2)
            for what, run, shift in (("expected", np.nan, 0), ("drawn", 0.0, 1), ("drawn", 1.0, 2))]  # fmt: skip
    table = pd.DataFrame(rows)
    axes = plots.two_scales(table if len(directions) > 1 else table.drop(columns="direction"))
    assert [ax.get_title() for ax in axes] == [
        f"{name} directions" if name == "both" else f"{name} direction" for name in directions
    ]
    for ax in axes:
        assert len(ax.lines) == 6 and {len(line.get_xdata()) for line in ax.lines} == {2}
        assert len({line.get_color() for line in ax.lines}) == 2
        exact = [line for line in ax.lines if line.get_linewidth() > 1]
        assert [list(line.get_ydata()) for line in exact] == [[1, 2], [1, 2]]


def test_regimes_have_noise_offset_and_gains():
    rows = [{"what": "curve", "kernel": kernel, "x": x, "variance": 2.0, "average": 0.5, "trip": 0.25, "gains": 0.75}
            for kernel in KERNELS for x in (1.0, 10.0)]  # fmt: skip
    noise, offset, gains = plots.two_regimes(pd.DataFrame(rows))
    assert [len(ax.lines) for ax in (noise, offset, gains)] == [3, 6, 3]
    assert [list(line.get_ydata()) for line in offset.lines[:2]] == [[0.5, 0.5], [0.25, 0.25]]
    assert list(noise.lines[0].get_ydata()) == [2, 2] and list(gains.lines[0].get_ydata()) == [
        0.75,
        0.75,
    ]


@pytest.mark.parametrize("plot", [
    plots.side_trips, plots.ratios, plots.end_points, plots.side_trip_starts, plots.drag_and_drift,
    plots.two_scales, plots.two_regimes,
])  # fmt: skip
def test_an_empty_table_is_said_to_be_empty(plot):
    assert plot(pd.DataFrame()).texts[0].get_text() == "nothing recorded yet"


def test_error_bars_are_the_range_below_five_values_and_student_from_five_on():
    assert plots.interval(pd.Series([1.0, 3.0, 2.0])) == (1.0, 3.0)
    low, high = plots.interval(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (low, high) == (pytest.approx(1.0367568), pytest.approx(4.9632432))
