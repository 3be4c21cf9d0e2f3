"""Weight extrapolation: orders of accuracy, toy functions, stability, noise, and networks."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.arms import ARM_LOOKS, list_looks
from replicate.plots.style import (
    grid,
    interval,
    number_log_axes,
    put_legend_beside,
    split_by_data_set,
    unless_empty,
)

QUOTIENTS = {
    "taylor": "Taylor series",
    "backward": "backward difference",
    "bdf": "four states",
    "central": "central",
}
TOY_LOOKS = {  # colour and line of the arms on toy functions; the figure's two first
    "adam": ("0.3", "-"),
    "GD+": ("tab:red", "-"),
    "gradient": ("tab:blue", "--"),
    "weights": ("tab:green", ":"),
    "rate": ("tab:orange", ":"),
}
TIME_LABELS = {"step": "step (one gradient each)", "seconds": "processor seconds"}
METRIC_LABELS = {"train_loss": "training loss [nats]", "top1": "test top-1 [fraction]"}
ENLARGED_TOY = "rosenbrock"  # the post draws its first steps once more
FIRST_STEPS = 100
BASELINE = "double"  # the source's, trained for twice as long
MOST_IN_COLUMN = 11  # arms that a legend holds beside its axes


@unless_empty
def error_orders(table: pd.DataFrame) -> np.ndarray:
    """|error| of the m-th derivative, or of the series to its m-th term, against the step; one axes
    a path.

    table: what `orders` gives.
    """
    paths = list(table.path.unique())
    _, axes = grid(
        1, len(paths), (2.2 + 2.0 / len(paths), 2.2), sharey=True
    )  # and room for the legend
    for ax, path in zip(axes[0], paths, strict=True):
        own = table[table.path == path].assign(what=lambda part: part.what.map(QUOTIENTS))
        sns.lineplot(own, x="step", y="error", hue="m", style="what", palette="colorblind", ax=ax,
                     legend="brief" if path == paths[0] else False)  # fmt: skip
        ax.set(xscale="log", yscale="log", title=path, xlabel="step", ylabel="|error|")
        ax.xaxis.set_minor_formatter("")
    handles, labels = axes[0][0].get_legend_handles_labels()
    axes[0][0].get_legend().remove()
    axes[0][0].figure.legend(
        handles, labels, loc="outside right upper", fontsize="x-small", frameon=False
    )
    return axes[0]


@unless_empty
@split_by_data_set
def one_weight(table: pd.DataFrame) -> Axes:
    """Figure 1 from a real run: the last states of a weight, the parabola through three of them and
    the cubic through four, continued by one step, and where SGD itself goes.

    table: what `resolution` gives: of what "weight" the columns dataset, seed, step, weight. The
    first seed is drawn.
    """
    states = table[table.what == "weight"].sort_values("step", kind="stable")
    states = states[states.seed == states.seed.min()]
    steps = states.step.to_numpy()
    weights = states.weight.to_numpy()
    now = len(steps) - 2
    _, ((ax,),) = grid(1, 1, (4.6, 2.4))
    ax.plot(steps[: now + 1], weights[: now + 1], "ko-", linewidth=1, label="states of SGD")
    ax.plot(
        steps[now:], weights[now:], "o--", color="0.6", markerfacecolor="w", label="its next step"
    )
    for count, colour, name in ((3, "tab:blue", "second order"), (4, "tab:red", "third order")):
        polynomial = np.polynomial.Polynomial.fit(
            steps[now - count + 1 : now + 1], weights[now - count + 1 : now + 1], count - 1
        )
        way = np.linspace(steps[now - count + 1], steps[now + 1], 60)
        ax.plot(way, polynomial(way), color=colour, linewidth=1)
        ax.plot(steps[now + 1], polynomial(steps[now + 1]), "*", color=colour, markersize=10,
                label=f"extrapolated, {name}: {count} states")  # fmt: skip
    ax.set(xlabel="step", ylabel="a weight", xticks=steps, title=states.dataset.iloc[0])
    put_legend_beside(ax)
    return ax


@unless_empty
def toy_paths(table: pd.DataFrame, landscapes: pd.DataFrame, dts: dict[str, float]) -> np.ndarray:
    """Paths over the function and squared distance by step, one row per function: Adam, GD+, the
    control; the first steps of Rosenbrock's once more, larger.

    table: what `paths` gives; landscapes: dataset, x, y, value on a grid; dts: the dt drawn for
    each function.
    """
    names = list(table.dataset.unique())
    _, axes = grid(len(names), 2, (4.2, 2.0), width_ratios=(2, 3))
    for (left, right), name in zip(axes, names, strict=True):
        ground = landscapes[landscapes.dataset == name].pivot(
            index="y", columns="x", values="value"
        )
        height = np.log10(1 + ground.to_numpy())
        left.contour(ground.columns, ground.index, height, levels=2, colors="0.85", linewidths=0.6)
        own = table[
            (table.dataset == name)
            & table.dt.isin([0.0, dts[name]])
            & table.arm.isin(list(TOY_LOOKS)[:3])
        ]
        for arm, run in own.groupby("arm", sort=False):
            colour, style = TOY_LOOKS[arm]
            left.plot(run.x, run.y, color=colour, linestyle=style, linewidth=1.2, label=arm)
            ends = f"{arm}, ends at {run.distance.iloc[-1]:.1e}"
            right.plot(run.step, run.distance, color=colour, linestyle=style, label=ends)
        left.set(title=f"{name}, dt = {dts[name]:g}", xlabel="x", ylabel="y")
        right.set(yscale="log", xlabel="step", ylabel="squared distance")
        put_legend_beside(right)
        if name == ENLARGED_TOY:
            _enlarge(right, own[own.step <= FIRST_STEPS])
    return axes


def _enlarge(ax: Axes, run: pd.DataFrame) -> None:
    """The first steps in the corner that paths from the upper left leave free."""
    inset = ax.inset_axes((0.07, 0.16, 0.36, 0.36))
    for arm, path in run.groupby("arm", sort=False):
        colour, style = TOY_LOOKS[arm]
        inset.plot(path.step, path.distance, color=colour, linestyle=style, linewidth=1)
    inset.tick_params(labelsize="xx-small")
    inset.set_title(f"first {FIRST_STEPS} steps", fontsize="xx-small", pad=2)


@unless_empty
def toy_rates(table: pd.DataFrame) -> np.ndarray:
    """Squared distance at the end against Adam's rate, the best dt of each arm; the source's grid
    is shaded.

    table: what `rate_search` gives. One axes a function.
    """
    names = list(table.dataset.unique())
    _, axes = grid(1, len(names), (2.4, 1.9))
    for ax, name in zip(axes[0], names, strict=True):
        own = table[(table.dataset == name) & np.isfinite(table.distance)]
        best = own.groupby(["arm", "lr"], sort=False, as_index=False).distance.min()
        ax.axvspan(
            own[own.source].lr.min(),
            own[own.source].lr.max(),
            color="0.9",
            label="the source's grid",
        )
        for arm, line in best.groupby("arm", sort=False):
            colour, style = TOY_LOOKS[arm]
            ax.plot(
                line.lr,
                np.maximum(line.distance, 1e-32),
                color=colour,
                linestyle=style,
                marker=".",
                label=arm,
            )
        ax.set(xscale="log", yscale="log", title=name, xlabel="rate of Adam")
    axes[0][0].set_ylabel("squared distance\nat the end")
    put_legend_beside(axes[0][-1])
    return axes[0]


@unless_empty
def stability_map(table: pd.DataFrame) -> Axes:
    """Spectral radius over s and x = eta a, edges of stability, and where runs began to diverge.

    table: what `stability` gives: what "radius" (s, x, value), "edge" (arm, s, x) and "measured"
    (arm, s, x).
    """
    _, ((ax,),) = grid(1, 1, (3.8, 2.9))
    radius = table[table.what == "radius"].pivot(index="x", columns="s", values="value")
    levels = np.linspace(0.5, 1.5, 6)
    mesh = ax.contourf(
        radius.columns, radius.index, radius, levels=levels, cmap="vlag", extend="both"
    )
    ax.figure.colorbar(mesh, label="spectral radius, third order")
    edges = table[table.what == "edge"]
    for arm, colour in zip(
        edges.arm.unique(), ("k", "tab:purple", "tab:green", "tab:orange"), strict=False
    ):
        line = edges[edges.arm == arm].sort_values("s")
        ax.plot(line.s, line.x, color=colour, label=f"edge, {arm}")
    measured = table[table.what == "measured"]
    ax.plot(measured.s, measured.x, "kx", label="runs begin to diverge")
    ax.set(
        xlabel="s = dt / h",
        ylabel="x = eta a",
        ylim=(0, 2.05),
        xlim=(radius.columns.min(), radius.columns.max()),
    )
    ax.figure.legend(loc="outside lower center", frameon=False, fontsize="x-small", ncols=2)
    return ax


@unless_empty
def noise_and_batch(table: pd.DataFrame) -> np.ndarray:
    """Risk on the noisy quadratic against alpha = 1 + s by order, and the best s by batch size.

    table: what `noise` gives: what "risk" (order, batch, s, value) and "best" (batch, s). Two axes.
    """
    _, axes = grid(1, 2, (3.3, 2.2))
    risk = table[(table.what == "risk") & (table.value < 1)].assign(alpha=lambda part: 1 + part.s)
    risk = risk.assign(batch=risk.batch.astype(str))
    sns.lineplot(
        risk, x="alpha", y="value", hue="batch", style="order", palette="colorblind", ax=axes[0][0]
    )
    axes[0][0].axvline(1, color="0.7", linewidth=1)
    axes[0][0].set(yscale="log", xlabel="alpha = 1 + s", ylabel="expected loss")
    put_legend_beside(axes[0][0])
    best = table[table.what == "best"]
    sns.lineplot(best, x="batch", y="s", style="arm", markers=True, color="k", ax=axes[0][1])
    axes[0][1].set(xscale="log", xlabel="batch size", ylabel="best s")
    put_legend_beside(axes[0][1])
    return axes[0]


@unless_empty
def basin_shares(table: pd.DataFrame) -> Axes:
    """Share of starts that end at the global minimum, by arm, with 95 % intervals over sets of
    starts.

    table: what `basins` gives.
    """
    _, ((ax,),) = grid(1, 1, (4.6, 2.4))
    sns.pointplot(
        table,
        x="share",
        y="arm",
        errorbar=interval,
        linestyle="none",
        color="k",
        capsize=0.2,
        ax=ax,
    )
    ax.set(xlabel="share of starts that end at the global minimum", ylabel="")
    return ax


@unless_empty
def arms_over(table: pd.DataFrame, regime: str, y: str = "train_loss") -> np.ndarray:
    """A metric of every arm against steps and against processor seconds; one row per data set.

    table: what `networks` gives, with its column regime; regime: such as source or tuned; y:
    train_loss or top1. Lines are means over seeds, bands their 95 % intervals; of losses, those of
    their logarithms. Dashed: plain SGD at a larger rate; dotted: the baseline of twice the steps.
    Of top-1 all points but the last are on the images that are evaluated along the way.
    """
    own = table[(table.regime == regime) & (table.step > 0)]
    names, arms = list(own.dataset.unique()), list(own.arm.unique())
    colours = dict(zip(arms, sns.color_palette("husl", len(arms)), strict=True))
    colours |= {arm: colour for arm, (colour, _) in ARM_LOOKS.items() if arm in colours}
    _, axes = grid(len(names), 2, (3.4, 2.4), sharey="row")
    for row, name in zip(axes, names, strict=True):
        part = own[own.dataset == name]
        for ax, x in zip(row, TIME_LABELS, strict=True):
            for arm, run in part.groupby("arm", sort=False):
                _draw_with_band(ax, run, x, y, colours[arm], arm)
            ax.set(
                yscale="log" if y.endswith("loss") else "linear",
                xlabel=TIME_LABELS[x],
                title=f"{name}, {regime}",
            )
        row[0].set_ylabel(METRIC_LABELS[y])
        put_legend_beside(row[1], ncols=1 + (len(arms) > MOST_IN_COLUMN))
    return axes


def _draw_with_band(ax: Axes, run: pd.DataFrame, x: str, y: str, colour, label: str) -> None:
    """A line through the means over seeds at each step, and a band of their intervals."""
    into, back = (np.log10, lambda v: 10.0**v) if y.endswith("loss") else (np.array, np.array)
    places = run.groupby("step")[x].mean()
    values = [into(seeds.to_numpy()) for _, seeds in run.groupby("step")[y]]
    low, high = np.array([interval(pd.Series(seeds)) for seeds in values]).T
    middle = np.array([seeds.mean() for seeds in values])
    ax.fill_between(places, back(low), back(high), color=colour, alpha=0.15, linewidth=0)
    style = ":" if label == BASELINE else "--" if label.startswith("rate-") else "-"
    ax.plot(places, back(middle), color=colour, linestyle=style, linewidth=1.3, label=label)


@unless_empty
def loss_by_rate(table: pd.DataFrame) -> np.ndarray:
    """Training loss at the end against the rate, by arm, with 95 % intervals over seeds; one axes a
    data set.

    table: what `rate_curves` gives. Rates at which a seed diverged have no point.
    """
    names = list(table.dataset.unique())
    _, axes = grid(1, len(names), (2.9, 1.9))
    for ax, name in zip(axes[0], names, strict=True):
        own = table[table.dataset == name]
        whole = own.groupby(["arm", "lr"]).train_loss.transform(lambda values: values.notna().all())
        sns.lineplot(own[whole], x="lr", y="train_loss", hue="arm", style="arm", marker=".",
                     errorbar=interval, ax=ax, **list_looks(own.arm.unique()))  # fmt: skip
        ax.axvline(0.02, color="0.7", linewidth=1)
        ax.set(
            xscale="log",
            yscale="log",
            title=name,
            xlabel="rate",
            ylabel="training loss\nat the end [nats]",
        )
        put_legend_beside(ax)
        number_log_axes(ax)
    return axes[0]


@unless_empty
def benefit_by_batch(table: pd.DataFrame) -> Axes:
    """log10 of plain SGD's final loss over that with s = 0.5 against the batch, each at its best
    rate.

    table: what is judged of `batch_sizes`, its regime "tuned" drawn. Above 0 extrapolation is better; 95 % intervals over seeds.
    """
    _, ((ax,),) = grid(1, 1, (2.9, 1.9))
    own = table[table.regime == "tuned"]
    wide = own.pivot(index=["dataset", "seed", "batch"], columns="arm", values="train_loss")
    benefit = np.log10(wide["plain"] / wide["s=0.5"]).rename("benefit").reset_index()
    sns.lineplot(
        benefit,
        x="batch",
        y="benefit",
        hue="dataset",
        marker="o",
        errorbar=interval,
        err_style="bars",
        ax=ax,
    )
    ax.axhline(0, color="0.7", linewidth=1)
    ax.set(xscale="log", xlabel="batch size", ylabel="log10 of plain's loss\nover that of s = 0.5")
    sizes = sorted(own.batch.unique())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    put_legend_beside(ax)
    return ax


@unless_empty
def changed_weights(table: pd.DataFrame) -> np.ndarray:
    """Share of float32 weights that an extrapolation changes, and its length over that of a step,
    against dt.

    table: what `resolution` gives. Two axes; the source's dt is the leftmost point.
    """
    own = table[table.what.isin(["printed", "dt"])]
    _, axes = grid(1, 2, (2.7, 1.8))
    labels = {"changed": "share of weights\nthat change", "length": "length over\nthat of a step"}
    for ax, (y, label) in zip(axes[0], labels.items(), strict=True):
        sns.lineplot(own, x="dt", y=y, hue="dataset", marker="o", errorbar=interval, ax=ax)
        ax.set(xscale="log", yscale="log", xlabel="dt (rate 0.02)", ylabel=label)
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1])
    return axes[0]
