"""The averages, side-trips and schedules of training trajectories."""

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

KERNEL_LABELS = {"two-point": "two-point average", "swa": "SWA", "ema": "EMA, delta = 5/k"}
LABELS = {
    "train_loss": "training loss [nats]",
    "test_loss": "test loss [nats]",
    "top1": "test top-1 [fraction]",
}
RATIOS = tuple(
    f"TRAJ-{row}.loss{window}" for row in (21, 22, 23) for window in ("", "-100", "-10")
)  # the claims that a side-trip gains what its average gains
CELL_OF_TRIPS = (
    r"^(?P<kernel>\S+) k=(?P<k>\d+)$"  # contrasts and controls beside them have a name after it
)
COLOURS = dict(zip(KERNEL_LABELS, sns.color_palette("colorblind", len(KERNEL_LABELS)), strict=True))


@unless_empty
def side_trips(table: pd.DataFrame, y: str = "train_loss") -> np.ndarray:
    """Figure 5: the main run (solid), its running averages (dashed) and the ends of the side-trips
    (points), by step.

    table: what `figure_5` gives. A row of axes a data set and one a kernel, (data sets, kernels); a
    colour a window. Error bars: `interval` over seeds.
    """
    part = table[table.arm.isin(["raw", "average", "side-trip"])]
    part = (
        part.assign(step=part.start + part.k)
        .groupby(["dataset", "seed", "branch", "step", "kernel", "k", "arm"], as_index=False)[[y]]
        .mean()
    )
    datasets, windows = (
        list(table.dataset.unique()),
        sorted(part[part.arm == "side-trip"].k.unique()),
    )
    colours = dict(zip(windows, sns.color_palette("viridis", len(windows)), strict=True))
    _, axes = grid(len(datasets), len(KERNEL_LABELS), (3.4, 2.8), sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        own = part[part.dataset == dataset]
        for ax, kernel in zip(row, KERNEL_LABELS, strict=True):
            _trips_of_one_kernel(ax, own[own.kernel.isin(["", kernel])], kernel, colours, y)
            ax.set(title=f"{dataset}, {KERNEL_LABELS[kernel]}", xlabel="step", ylabel=LABELS[y])
        named = {
            name: line
            for ax in row
            for line, name in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        for ax in row:
            ax.get_legend().remove()
        put_legend_beside(row[-1], handles=named.values(), labels=named, fontsize="small")
    return axes


def ratios(verdicts: pd.DataFrame) -> np.ndarray:
    """Gain of the side-trip over gain of the average against the window, with interval, and the
    band shaded.

    verdicts: rows of the claims RATIOS, others are left out; value, interval and band are theirs.
    One axes a preset and data set, (cases,).
    """
    if verdicts.empty:
        return _ratios(verdicts)
    rows = verdicts[verdicts.claim.isin(RATIOS)]
    return _ratios(
        rows.join(rows.cell.str.extract(CELL_OF_TRIPS)).dropna(subset=["kernel", "value"])
    )


@unless_empty
def _ratios(rows: pd.DataFrame) -> np.ndarray:
    groups = list(rows.groupby(["preset", "dataset"], sort=False))
    _, axes = grid(1, len(groups), (4.6, 3.2))
    for ax, ((preset, dataset), part) in zip(axes[0], groups, strict=True):
        for least, most in part[["at_least", "at_most"]].drop_duplicates().itertuples(index=False):
            ax.axhspan(least, most, color="0.9", label=f"margin [{least:g}, {most:g}]")
        ax.axhline(1, color="0.6", linewidth=1)
        for kernel, line in part.groupby("kernel", sort=False):
            x = line.k.astype(int) * 1.12 ** (
                list(KERNEL_LABELS).index(kernel) - 1
            )  # side by side, to be told apart
            reach = [line.value - line.low, line.high - line.value]
            ax.errorbar(x, line.value, np.clip(reach, 0, 10), fmt="o-", capsize=3, color=COLOURS[kernel],
                        label=KERNEL_LABELS[kernel])  # fmt: skip
        ax.set(xscale="log", xlabel="window k [steps]", title=f"{dataset}, preset {preset}")
        ax.set_ylabel("gain of side-trip / gain of average")
        ax.set_ylim(max(0, part.value.min() - 0.5), part.value.max() + 0.5)
    axes[0][0].legend(frameon=False, fontsize="small")
    return axes[0]


@unless_empty
def end_points(table: pd.DataFrame) -> np.ndarray:
    """How far side-trips end from their average, in units of the average's own way, by window.

    table: what `figure_5` gives. One axes a data set: side-trips on the same and on other
    mini-batches, 95 % intervals.
    """
    part = table[table.arm.isin(["side-trip", "other-batches"])].copy()
    part["apart"] = part.to_average / part.travelled
    part["mini-batches"] = part.arm.map({"side-trip": "same", "other-batches": "other"})
    part = part.groupby(
        ["dataset", "seed", "kernel", "k", "mini-batches"], as_index=False
    ).apart.mean()
    datasets = list(table.dataset.unique())
    _, axes = grid(1, len(datasets), (4.6, 3.2))
    for ax, dataset in zip(axes[0], datasets, strict=True):
        shown = part[part.dataset == dataset]
        sns.lineplot(shown, x="k", y="apart", hue="kernel", palette=COLOURS, hue_order=list(COLOURS), markers=True,
                     style="mini-batches", style_order=["same", "other"], errorbar=interval, err_style="bars",
                     ax=ax)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="window k [steps]", title=dataset)
        ax.set_ylabel("|side-trip - average| / |average - start|")
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]


@unless_empty
def side_trip_starts(table: pd.DataFrame) -> Axes:
    """Loss of EMA side-trips by how many steps before the end they set in, with the average and the
    raw end as lines.

    table: what `last_steps` gives.
    """
    _, ((ax,),) = grid(1, 1, (4.6, 3.2))
    means = table.groupby(["seed", "k", "arm"], as_index=False).train_loss.mean()
    sns.lineplot(means[means.arm == "side-trip"], x="k", y="train_loss", errorbar=interval, err_style="bars",
                 marker="o", label="side-trip", ax=ax)  # fmt: skip
    for arm, style in (("raw", "-"), ("average", "--")):
        ax.axhline(
            means[means.arm == arm].train_loss.mean(), color="0.4", linestyle=style, label=arm
        )
    ax.set(xlabel="steps before the end at which the schedule sets in", ylabel=LABELS["train_loss"])
    put_legend_beside(ax, fontsize="small")
    return ax


def _trips_of_one_kernel(ax: Axes, part: pd.DataFrame, kernel: str, colours: dict, y: str) -> None:
    raw = part[part.arm == "raw"].groupby(["seed", "step"], as_index=False)[[y]].mean()
    sns.lineplot(raw, x="step", y=y, color="0.3", errorbar=None, ax=ax, label="main run")
    own = part[part.kernel == kernel]
    for k, colour in colours.items():
        averages, trips = (own[(own.arm == arm) & (own.k == k)] for arm in ("average", "side-trip"))
        if trips.empty:
            continue
        sns.lineplot(averages, x="step", y=y, color=colour, linestyle="--", marker="_",
                     markersize=14, markeredgecolor=colour, errorbar=None, ax=ax)  # fmt: skip
        sns.lineplot(trips, x="step", y=y, color=colour, linestyle="", marker="o", errorbar=interval,
                     err_style="bars", ax=ax, label=f"k = {k}")  # fmt: skip


@unless_empty
@split_by_data_set
def spectrum(table: pd.DataFrame, figure_5: pd.DataFrame, y: str = "train_loss") -> np.ndarray:
    """Left: variance along each direction of the Hessian, measured against predicted. Right: what a
    side-trip loses against its average, measured against predicted, a point a kernel and window.

    table: what `spectrum` gives; figure_5: what that experiment gives on the same seeds. Dashed:
    equality. Returns the axes, (2,).
    """
    _, axes = grid(1, 2, (4.2, 3.4))
    left, right = axes[0]
    directions = table[table.predicted.notna()]
    left.scatter(directions.predicted, directions.variance, s=8, alpha=0.5)
    left.set(xscale="log", yscale="log", xlabel="predicted variance", ylabel="measured variance")
    cells = ["kernel", "k"]
    predicted = _gap(table, cells, "predicted side-trip", "predicted average", y)
    measured = _gap(figure_5, cells, "side-trip", "average", y)
    pairs = pd.concat([predicted, measured], axis=1, keys=["predicted", "measured"]).dropna()
    for kernel, part in pairs.groupby("kernel", sort=False):
        right.scatter(
            part.predicted, part.measured, color=COLOURS[kernel], label=KERNEL_LABELS[kernel]
        )
    right.set(xlabel="side-trip - average, predicted [nats]", ylabel="measured [nats]")
    right.locator_params(axis="x", nbins=4)
    put_legend_beside(right, fontsize="small")
    for ax, values in ((left, directions.predicted), (right, pairs.predicted)):
        ends = [values.min(), values.max()]
        ax.plot(ends, ends, "--", color="0.5")
    number_log_axes(left)
    return axes[0]


def _gap(table: pd.DataFrame, cells: list[str], first: str, second: str, y: str) -> pd.Series:
    """One arm less another, means over all else, by cell."""
    means = table[table.arm.isin([first, second])].groupby([*cells, "arm"])[y].mean().unstack("arm")
    return means[first] - means[second]


@unless_empty
def drag_and_drift(table: pd.DataFrame) -> np.ndarray:
    """Figure 4. Left: parts of a step by rate, exact (lines) and of runs (points). Right: how far
    iterates and midpoints of runs lie from the minimum.

    table: what `figure_4` gives. Returns the axes, (2,).
    """
    _, axes = grid(1, 2, (4.2, 3.4))
    left, right = axes[0]
    arms = table[table.what == "expected"].arm.unique()
    for arm, colour in zip(arms, sns.color_palette("colorblind", len(arms)), strict=True):
        rows = table[table.arm == arm]
        exact, runs = (rows[rows.what == what] for what in ("expected", "drawn"))
        left.plot(exact.rate, exact["size"], color=colour, label=arm)
        left.plot(runs.rate, runs["size"], "o", color=colour)
    left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="RMS size")
    norms = table[table.what == "norm"]
    sns.histplot(norms, x="size", hue="arm", element="step", palette="colorblind", ax=right)
    sns.move_legend(right, "upper right", title=None, frameon=False)
    right.set(xlabel="distance from the minimum", ylabel="runs")
    put_legend_beside(left, fontsize="small")
    return axes[0]


@unless_empty
def two_scales(table: pd.DataFrame) -> np.ndarray:
    """Figures 9 and 11: exact mean loss by step (thick), single runs on top (thin).

    table: what `figure_9` gives, or `figure_11`, which has an axes a direction; a colour an arm.
    """
    curves = table[table.what != "claim"]
    curves = curves.assign(direction=curves.direction if "direction" in curves else "both")
    names = list(curves.direction.unique())
    _, axes = grid(1, len(names), (4.4, 3.4))
    arms = sorted(curves.arm.unique())
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True))
    for ax, name in zip(axes[0], names, strict=True):
        for (arm, what), rows in curves[curves.direction == name].groupby(["arm", "what"]):
            exact = what == "expected"
            style = {"linewidth": 2.5, "label": arm} if exact else {"linewidth": 0.6, "alpha": 0.6}
            for _, run in rows.groupby("run", dropna=False):
                ax.plot(run.step, run.loss, color=colours[arm], zorder=2 + exact, **style)
        directions = "both directions" if name == "both" else f"{name} direction"
        ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss", title=directions)
        ax.set_ylim(curves[curves.what == "expected"].loss.min() / 20, None)
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]


@unless_empty
def two_regimes(table: pd.DataFrame) -> np.ndarray:
    """Side-trip against average by window over relaxation time: variance from a stationary start
    (left), shares that both leave of an offset (middle), ratio of gains (right).

    table: what `regimes` gives. Returns the axes, (3,).
    """
    curves = table[table.what == "curve"]
    _, axes = grid(1, 3, (3.6, 3.2))
    noise, offset, gains = axes[0]
    for kernel, rows in curves.groupby("kernel", sort=False):
        colour = COLOURS[kernel]
        noise.plot(rows.x, rows.variance, color=colour, label=KERNEL_LABELS[kernel])
        offset.plot(rows.x, rows.average, color=colour)
        offset.plot(rows.x, rows.trip, "--", color=colour)
        gains.plot(rows.x, rows.gains, color=colour)
    noise.set(yscale="log", ylabel="variance of side-trip / of average")
    offset.set(ylabel="share of an offset left", title="solid: average, dashed: side-trip")
    gains.set(ylabel="gain of side-trip / gain of average")
    for ax in axes[0]:
        ax.set(xscale="log", xlabel="window / relaxation time")
    put_legend_beside(noise, fontsize="small")
    return axes[0]
