"""Figures 6, 7, 8 and 14 of training trajectories, other optimizers' side-trips, and section 5.1 on a
network.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.style import (
    grid,
    interval,
    number_log_axes,
    put_legend_beside,
    split_by_data_set,
    unless_empty,
)

APART_LABELS = {
    "half-rate": "midpoint and half-rate run",
    "other half-rate": "the same, other mini-batches",
    "other-batches": "two runs at the full rate",
}
ALONG = {"raw": "-", "midpoint": "-", "half-rate": "--", "other-batches": ":"}
COSINES = (  # of Figure 7: arm, metric, its name
    ("constant", "cosine", "with the start"),
    ("decaying", "cosine", "decaying trip, with the start"),
    ("decaying", "parallel", "decaying trip, with the parallel point"),
    ("fresh batches", "between", "of two batches"),
)
FLAT_POINTS = ["start", "raw", "average", "side-trip"]
DIRECTIONS = ["steep", "flat", "random", "other random"]


@unless_empty
@split_by_data_set
def trips_apart(table: pd.DataFrame, y: str = "train_loss") -> np.ndarray:
    """Figure 6, by steps. Left: how far pairs of weights are apart. Right: losses along the trips.

    table: what `figure_6` gives, a figure a data set. Error bars: `interval` over
    seeds. Returns the axes, (2,).
    """
    _, ((left, right),) = grid(1, 2, (4.4, 3.4))
    pairs = table[table.arm.isin(list(APART_LABELS))].assign(pair=table.arm.map(APART_LABELS))
    _draw_lines(left, pairs, "k", "apart", "pair", list(APART_LABELS.values()))
    _draw_lines(right, table, "k", y, "arm", list(ALONG), ALONG)
    left.set(
        xscale="log", yscale="log", xlabel="step of the trip", ylabel="distance of the weights"
    )
    right.set(xscale="log", xlabel="step of the trip", ylabel="training loss [nats]")
    return np.array([left, right])


@unless_empty
@split_by_data_set
def batch_gradients(table: pd.DataFrame) -> np.ndarray:
    """Figure 7, by steps: cosines of gradients of fixed batches, their norms over those at the start,
    the batches' losses.

    table: what `figure_7` gives, a figure a data set; means over batches, error bars
    over seeds. Returns the axes, (3,).
    """
    metrics = ["cosine", "parallel", "between", "norm", "loss"]
    table = table.groupby(["seed", "arm", "k"], as_index=False)[metrics].mean()
    cosines = [
        table[table.arm == arm].assign(value=table[metric], of=name)
        for arm, metric, name in COSINES
    ]
    _, axes = grid(1, 3, (4.2, 3.4))
    names = [name for _, _, name in COSINES]
    _draw_lines(axes[0][0], pd.concat(cosines), "k", "value", "of", names)
    axes[0][0].axhline(0.5, color="0.8", zorder=0)
    axes[0][0].set_ylabel("cosine of gradients")
    for ax, metric, label in zip(
        axes[0][1:], ("norm", "loss"), ("norm over that at the start", "loss [nats]"), strict=True
    ):
        _draw_lines(ax, table, "k", metric, "arm", ["constant", "decaying"])
        ax.set_ylabel(label)
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1], fontsize="small")
    for ax in axes[0]:
        ax.set(xscale="symlog", xlabel="step of the trip")
        ax.set_xlim(0, None)
    return axes[0]


@unless_empty
@split_by_data_set
def distances_to_ends(table: pd.DataFrame) -> np.ndarray:
    """Figure 8: the distance from a run to where others end, by step; a line a seed, an axes an end.

    table: what `figure_8` gives, a figure a data set. Dotted: the branch point.
    """
    names = list(table.arm.unique())
    _, axes = grid(1, len(names), (4.2, 3.2))
    for ax, name in zip(axes[0], names, strict=True):
        for _, run in table[table.arm == name].groupby("seed"):
            ax.plot(run.step, run.distance, color="C0", alpha=0.5)
        ax.axvline(table.step.max() / 2, color="0.5", linestyle=":")
        ax.set(title=f"to the end of {name}", xlabel="step", ylabel="distance")
    return axes[0]


@unless_empty
@split_by_data_set
def gains(table: pd.DataFrame, y: str = "train_loss") -> np.ndarray:
    """What every arm gains over the raw weights at the window's end, by window; an axes a kernel.

    table: what `figure_14`, `momentum_inside` or `decoupled_decay` gives, a figure a
    data set. Error bars: `interval` over seeds. Returns the axes, (kernels,).
    """
    places = [name for name in ("seed", "branch", "k") if name in table]
    raw = table[table.arm == "raw"].groupby(places)[y].mean()
    table = table[table.arm != "raw"]
    gained = raw.reindex(table.set_index(places).index).to_numpy() - table[y]
    table = table.assign(gained=gained).groupby(["seed", "kernel", "k", "arm"], as_index=False).gained.mean()  # fmt: skip
    kernels = [name for name in table.kernel.unique() if name]
    _, axes = grid(1, len(kernels), (4.2, 3.4), sharey=True)
    for ax, kernel in zip(axes[0], kernels, strict=True):
        part = table[table.kernel.isin([kernel, ""])]
        _draw_lines(ax, part, "k", "gained", "arm", list(part.arm.unique()))
        ax.axhline(0, color="0.8", zorder=0)
        ax.set(title=kernel, xscale="log", xlabel="window k [steps]")
        ax.set_ylabel("loss gained over the raw weights [nats]")
    return axes[0]


@unless_empty
def losses_under_drift(table: pd.DataFrame) -> np.ndarray:
    """Section 5.1: losses along runs at three rates and of averages, an axes a drift.

    table: what `drifting_data` gives; bands over seeds. Returns the axes, (drifts,).
    """
    drifts = list(table.drift.unique())
    arms = list(table.arm.unique())
    _, axes = grid(1, len(drifts), (4.2, 3.4), sharey=True)
    for ax, drift in zip(axes[0], drifts, strict=True):
        part = table[table.drift == drift]
        sns.lineplot(part, x="step", y="loss", hue="arm", hue_order=arms, palette="colorblind", errorbar=interval,
                     ax=ax)  # fmt: skip
        ax.set(
            title=f"drift: {drift}", xlabel="step", ylabel="loss on the images of that step [nats]"
        )
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]


@unless_empty
@split_by_data_set
def flat_and_steep(table: pd.DataFrame, steep_directions: pd.DataFrame) -> np.ndarray:
    """Left: sharpness and trace over those of the window's end, by point. Right: the share of the
    run's variance that a moving average leaves, by direction; a point a seed.

    table: what `flatness` gives, with what `steep_directions` gives; a figure a data set.
    Returns the axes, (2,).
    """
    ends = table[table.arm == "raw"].set_index("seed")
    _, ((left, right),) = grid(1, 2, (4.4, 3.4))
    for name, colour in (("sharpness", "C0"), ("trace", "C1")):
        relative = table.assign(ratio=table[name] / table.seed.map(ends[name]))
        _draw_points(left, relative, "ratio", FLAT_POINTS, colour, name)
    left.axhline(1, color="0.8", zorder=0)
    left.set(ylabel="over the window's end")
    put_legend_beside(left, fontsize="small")
    if not steep_directions.empty:
        _draw_points(right, steep_directions, "share", DIRECTIONS, "C0", "share")
    right.set(ylabel="variance of the average over the run's")
    return np.array([left, right])


@unless_empty
@split_by_data_set
def predictions_beside(table: pd.DataFrame) -> np.ndarray:
    """How far predictions are from the average's, on how many images they agree, and how well each is
    calibrated; a point a seed.

    table: what `same_model` gives, a figure a data set. Returns the axes, (3,).
    """
    _, axes = grid(1, 3, (3.8, 3.2))
    labels = {
        "apart": "total variation from the average's",
        "agreement": "images of the average's class",
        "calibration": "calibration error",
    }
    for ax, (metric, label) in zip(axes[0], labels.items(), strict=True):
        _draw_points(ax, table, metric, list(table.arm.unique()), "C0", metric)
        ax.set_ylabel(label)
    return axes[0]


@unless_empty
@split_by_data_set
def radii(table: pd.DataFrame) -> Axes:
    """RMS distance of runs from their averages by rate, along steep and along random directions; error
    bars over seeds. Dotted: as the square root of the rate.

    table: what `radius_by_rate` gives, a figure a data set.
    """
    _, ((ax,),) = grid(1, 1, (4.4, 3.4))
    _draw_lines(ax, table, "factor", "radius", "arm", list(table.arm.unique()))
    steep = table[table.arm == "steep"].groupby("factor").radius.mean()
    ax.plot(steep.index, steep.iloc[0] * (steep.index / steep.index[0]) ** 0.5, ":", color="0.5")
    ax.set(xscale="log", yscale="log", xlabel="rate over the main run's", ylabel="RMS distance")
    number_log_axes(ax)
    return ax


def _draw_lines(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    arm: str,
    order: list[str],
    dashes: Mapping[str, str] = {},  # arm -> line style; solid
) -> None:
    """The mean of each arm by x, with error bars over seeds."""
    for name, colour in zip(order, sns.color_palette("colorblind", len(order)), strict=True):
        part = rows[(rows[arm] == name) & rows[y].notna()]
        sns.lineplot(part, x=x, y=y, color=colour, linestyle=dashes.get(name, "-"), marker="o", label=name,
                     errorbar=interval, err_style="bars", ax=ax)  # fmt: skip
    put_legend_beside(ax, fontsize="small")


def _draw_points(
    ax: Axes, rows: pd.DataFrame, y: str, order: list[str], colour: str, label: str
) -> None:
    """A point a seed, side by side by arm."""
    values = rows.set_index("arm")[y]
    points = [(place, value) for place, arm in enumerate(order) for value in values[[arm]]]
    ax.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.6, label=label)
    ax.set_xticks(range(len(order)), order)
