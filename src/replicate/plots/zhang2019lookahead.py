"""Variances, losses and rates of convergence with and without Lookahead."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from replicate.plots.arms import LOOKAHEAD, OTHER_RATE, SGD, list_looks
from replicate.plots.style import (
    grid,
    interval,
    name_lines,
    number_log_axes,
    put_legend_beside,
    split_by_data_set,
    unless_empty,
)

PANELS = (("a^2", 100), ("a^2", 1000), ("1", 1000))  # noise and steps that are drawn
DIAMONDS = "diamonds: the printed gain"  # of a source, beside what is measured here
SPEEDS = ("heavy ball", "Lookahead")


@unless_empty
def variance_by_rate(table: pd.DataFrame) -> Axes:
    """Proposition 2: variance over SGD's at the same rate, by x = gamma a; a line an arm.

    table: what `proposition_2` gives.
    """
    _, ((ax,),) = grid(1, 1, (5.2, 3.4))
    curves = table[table.what == "variance"]
    sns.lineplot(curves, x="x", y="value", hue="arm", style="arm", ax=ax)
    ax.set(yscale="log", xlabel="rate times curvature, x", ylabel="variance / SGD's at x")
    put_legend_beside(ax, fontsize="small", title="")
    return ax


@unless_empty
def losses_at_best_rates(table: pd.DataFrame) -> np.ndarray:
    """Expected loss after T steps, each arm at its best rate, the lowest on top: (panels,) axes.

    table: what `progress` gives. Panels: noise of a gradient and T.
    """
    losses = table[table.what == "loss"]
    _, axes = grid(1, len(PANELS), (4.6, 3.2))
    for ax, (noise, steps) in zip(axes[0], PANELS, strict=True):
        panel = losses[(losses.noise == noise) & (losses.steps == steps)].sort_values("value")
        colours = np.where(panel.arm.str.startswith("Lookahead"), "C1", "0.6")
        ax.barh(panel.arm, panel.value, color=colours)
        ax.invert_yaxis()
        ax.set(title=f"noise {noise}, T = {steps}", xlabel="expected loss")
    return axes[0]


@unless_empty
def convergence_rates(table: pd.DataFrame) -> np.ndarray:
    """1 - rho by condition number, a line a beta: heavy ball (dashed) and Lookahead around it.

    table: what `conditioning` gives. A panel a spectrum, (2,) axes.
    """
    rates = table[(table.what == "rate") & table.arm.isin(SPEEDS)]
    spectra = list(rates.case.unique())
    _, axes = grid(1, len(spectra), (4.6, 3.2), sharey="row")
    for ax, spectrum in zip(axes[0], spectra, strict=True):
        panel = rates[rates.case == spectrum].assign(beta=lambda rows: rows.beta.astype(str))
        sns.lineplot(
            panel, x="kappa", y="value", hue="beta", style="arm", style_order=SPEEDS[::-1], ax=ax
        )
        ax.set(xscale="log", yscale="log", title=spectrum)
        ax.set(xlabel="condition number", ylabel="1 - factor per step")
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1])
    return axes[0]


@unless_empty
def averages_and_acceleration(table: pd.DataFrame) -> np.ndarray:
    """Polyak's average by steps, and nonlinear acceleration by gradients: (2,) axes.

    table: what `averages` gives.
    """
    _, axes = grid(1, 2, (4.6, 3.2))
    losses = table[table.what == "loss"]
    sns.lineplot(losses, x="steps", y="value", hue="arm", marker="o", ax=axes[0][0])
    axes[0][0].set(xscale="log", yscale="log", xlabel="steps T", ylabel="expected loss")
    paths = table[table.what == "path"]
    sns.lineplot(paths, x="steps", y="value", hue="arm", ax=axes[0][1])
    axes[0][1].set(yscale="log", xlabel="gradients", ylabel="loss")
    for ax in axes[0]:
        put_legend_beside(ax, fontsize="small", title="")
    return axes[0]


@unless_empty
@split_by_data_set
def loss_by_arm(table: pd.DataFrame) -> np.ndarray:
    """Test loss at the end by rate, a line an arm, 95 % intervals; a panel a schedule: (panels,).

    table: what `decomposition` gives.
    """
    schedules = list(table.schedule.unique())
    _, axes = grid(1, len(schedules), (4.6, 3.4), sharey="row")
    for ax, schedule in zip(axes[0], schedules, strict=True):
        panel = table[(table.schedule == schedule) & table.grid]
        sns.lineplot(panel, x="lr", y="test_loss", hue="arm", style="arm", errorbar=interval, ax=ax,
                     **list_looks(panel.arm.unique()))  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="rate", ylabel="test loss [nats]")
        ax.set_title(f"{schedule} rate")
        ax.get_legend().remove()
        number_log_axes(ax)
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]


@unless_empty
@split_by_data_set
def ends_of_combinations(table: pd.DataFrame) -> np.ndarray:
    """Test loss and accuracy of what a run's iterates give when combined, less those of its last
    iterate, a dot a seed, means with 95 % intervals: (2,) axes.

    table: what `combinations` gives.
    """
    unit, metrics = ["seed", "schedule"], ["test_loss", "top1"]
    last = table[table.arm == "last"].set_index(unit)[metrics]
    combined = table[table.arm != "last"].set_index([*unit, "arm"])[metrics]
    gains = (combined - last).reset_index()
    _, axes = grid(1, 2, (4.6, 3.0), sharey="row")
    for ax, metric in zip(axes[0], metrics, strict=True):
        about = {
            "x": metric,
            "y": "arm",
            "hue": "schedule",
            "dodge": True,
            "ax": ax,
            "legend": ax is axes[0][1],
        }
        sns.stripplot(gains, alpha=0.4, size=3, **about | {"legend": False})
        sns.pointplot(gains, errorbar=interval, linestyle="none", **about | {"dodge": 0.4})
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set(ylabel="")
    axes[0][0].set(xlabel="test loss less the last iterate's [nats]")
    axes[0][1].set(xlabel="test top-1 less the last iterate's [fraction]")
    axes[0][1].legend(
        frameon=False, fontsize="small", title="", loc="upper left", bbox_to_anchor=(1, 1)
    )
    return axes[0]


@unless_empty
@split_by_data_set
def accuracy_by_setup(table: pd.DataFrame) -> Axes:
    """Test accuracy at the end by what the inner SGD was handed, a dot a seed, means with 95 %
    intervals.

    table: what `replication` gives.
    """
    _, ((ax,),) = grid(1, 1, (5.2, 2.6))
    sns.stripplot(table, x="top1", y="arm", color="0.7", size=3, ax=ax)
    sns.pointplot(table, x="top1", y="arm", errorbar=interval, linestyle="none", ax=ax)
    ax.set(xlabel="test top-1 [fraction]", ylabel="")
    return ax


@unless_empty
@split_by_data_set
def table_of_accuracies(table: pd.DataFrame, printed: Mapping[str, float]) -> np.ndarray:
    """Left, test accuracy of every arm at its best trial on held-out images; right, the losses of
    mini-batches on the way there: (2,) axes, 95 % intervals.

    table: what `table_1` gives; printed: arm -> the source's gain over SGD, drawn from SGD's mean.
    """
    best = _at_best_trial(table)
    _, axes = grid(1, 2, (4.6, 3.2))
    sns.pointplot(best, x="top1", y="arm", errorbar=interval, linestyle="none", ax=axes[0][0])
    axes[0][0].set(xlabel=f"test top-1 [fraction]; {DIAMONDS}", ylabel="")
    draw_printed(axes[0][0], best[best.arm == "sgd"].top1.mean(), printed)
    curves = [name for name in table if name.startswith("loss_")]
    curve = best.melt(["arm", "seed"], curves, "percent", "loss").dropna(subset="loss")
    curve["percent"] = curve.percent.str.removeprefix("loss_").astype(int)
    sns.lineplot(curve, x="percent", y="loss", hue="arm", style="arm", errorbar=interval,
                 ax=axes[0][1], **list_looks(curve.arm.unique()))  # fmt: skip
    axes[0][1].set(yscale="log", xlabel="percent of the run", ylabel="training loss [nats]")
    axes[0][1].get_legend().remove()
    name_lines(axes[0][1], list(curve.arm.unique()))
    return axes[0]


def _at_best_trial(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of every arm at the trial with the best mean accuracy on held-out images."""
    trial = ["arm", "weight_decay", "lr"]
    means = table.groupby(trial).valid_top1.mean().reset_index()
    best = means.sort_values("valid_top1").drop_duplicates("arm", keep="last")
    return table.merge(best[trial], on=trial)


@unless_empty
@split_by_data_set
def loss_by_rate_and_momentum(table: pd.DataFrame) -> np.ndarray:
    """Training loss at the end by inner rate, and by momentum; a line an arm: (2,) axes.

    table: what `robustness` gives.
    """
    shown = table[table.arm.isin(["sgd", "sgd-ema", "sgd-alpha", "lookahead"])]
    along = {"place": ("momentum", "rate"), "momentum": ("place", "momentum")}
    _, axes = grid(1, 2, (4.6, 3.2), sharey="row")
    for ax, (name, (fixed, label)) in zip(axes[0], along.items(), strict=True):
        panel = shown[shown[fixed] == shown[fixed].min()]
        sns.lineplot(panel, x=name, y="train_loss", hue="arm", style="arm", errorbar=interval, ax=ax,
                     **list_looks(panel.arm.unique()))  # fmt: skip
        ax.set(yscale="log", xlabel=label, ylabel="training loss [nats]")
        ax.get_legend().remove()
    name_lines(axes[0][-1], list(shown.arm.unique()))
    return axes[0]


@unless_empty
@split_by_data_set
def loss_by_k_and_alpha(table: pd.DataFrame) -> Axes:
    """Training loss at the first drop by alpha, a line a k; SGD at alpha times the rate beside it.

    table: what `outer_grid` gives.
    """
    pulled = table[table.arm == "lookahead"]
    names = "Lookahead, k = " + pulled.k.astype(int).astype(str)
    lower = table[table.arm == "sgd-alpha"].assign(name="SGD, alpha times the rate")
    rows = pd.concat([pulled.assign(name=names), lower], ignore_index=True)
    _, ((ax,),) = grid(1, 1, (5.2, 3.2))
    ks = list(pulled.k.astype(int).unique())
    colours = {f"Lookahead, k = {k}": sns.light_palette(LOOKAHEAD, len(ks) + 1)[1 + place]
               for place, k in enumerate(ks)}  # fmt: skip
    sns.lineplot(rows, x="alpha", y="early_loss", hue="name", marker="o", errorbar=interval, ax=ax,
                 palette=colours | {"SGD, alpha times the rate": OTHER_RATE})  # fmt: skip
    ax.axhline(table[table.arm == "sgd"].early_loss.mean(), color=SGD, linestyle=":", label="SGD")
    ax.set(ylabel="training loss at the first drop [nats]")
    put_legend_beside(ax, fontsize="small", title="")
    return ax


@unless_empty
@split_by_data_set
def loss_by_inner_state(table: pd.DataFrame, printed: Mapping[str, float]) -> np.ndarray:
    """Training loss at the first drop and test accuracy at the end by treatment: (2,) axes.

    table: what `inner_state` gives; printed: treatment -> the source's gain over "maintain", drawn
    from the mean of that around SGD.
    """
    rows = table[table.arm.isin(["inner", "lookahead"])]
    names = rows.inner_state.where(rows.arm == "lookahead", "no Lookahead")
    _, axes = grid(1, 2, (4.6, 3.2))
    for ax, metric in zip(axes[0], ("early_loss", "top1"), strict=True):
        sns.pointplot(
            rows.assign(name=names), x=metric, y="name", hue="inner", errorbar=interval,
            linestyle="none", dodge=True, ax=ax,
        )  # fmt: skip
        ax.set(ylabel="")
        put_legend_beside(ax, fontsize="small", title="")
    axes[0][0].set(xlabel="training loss at the first drop [nats]")
    kept = rows[(rows.inner == "sgd") & (names == "maintain")]
    draw_printed(axes[0][1], kept.top1.mean(), printed)
    axes[0][1].set(xlabel=f"test top-1 [fraction]; {DIAMONDS}")
    return axes[0]


def draw_printed(ax: Axes, base: float, gains: Mapping[str, float]) -> None:
    """A diamond at `base` plus a gain on each line of the axis of names; a gain of 0 is the base."""
    labels = [label.get_text() for label in ax.get_yticklabels()]
    places = {labels.index(name): gain for name, gain in gains.items() if name in labels and gain}
    ax.scatter([base + gain for gain in places.values()], list(places), marker="D", s=30,
               facecolor="none", edgecolor="black", zorder=5)  # fmt: skip


@unless_empty
@split_by_data_set
def accuracy_surface(table: pd.DataFrame) -> Axes:
    """Test accuracy over the plane through three fast weights of one cycle, and the places in it.

    table: what `surface` gives; the first seed's drawn cycle is shown.
    """
    drawn = table[(table.seed == table.seed.min()) & (table.cycle == table.cycle.min())]
    drawn = drawn[drawn.norm == "re-estimated"]
    heights = drawn[drawn.place == ""].pivot_table(index="y", columns="x", values="top1")
    _, ((ax,),) = grid(1, 1, (5.2, 4.0))
    colours = ax.contourf(heights.columns, heights.index, heights, levels=12, cmap="viridis")
    ax.figure.colorbar(colours, label="test top-1 [fraction]")
    _name_places(ax, drawn[drawn.place != ""].sort_values("y"))
    ax.set(xlabel="from the first towards the last fast weights", ylabel="beside that")
    return ax


def _name_places(ax: Axes, places: pd.DataFrame) -> None:
    """A point a place, and its name at the right, one above the other, with a line to it."""
    heights = np.linspace(0.1, 0.9, len(places))
    for height, place in zip(heights, places.itertuples(), strict=True):
        ax.plot(place.x, place.y, "o", color="white", markeredgecolor="black")
        ax.annotate(
            place.place, (place.x, place.y), (0.7, height), textcoords="axes fraction",
            fontsize="x-small", color="white", va="center",
            arrowprops={"arrowstyle": "-", "color": "white", "linewidth": 0.6},
        )  # fmt: skip


@unless_empty
@split_by_data_set
def accuracy_within_cycle(table: pd.DataFrame) -> np.ndarray:
    """Test accuracy by place in a cycle, statistics of BatchNorm as they are and re-estimated, and of
    a net without them.

    table: what `within_cycle` gives. A panel a net and probe, (panels,) axes.
    """
    panels = list(table.groupby(["net", "probe"]).groups)
    _, axes = grid(1, len(panels), (4.6, 3.2))
    unit = ["seed", "net", "probe", "norm", "place"]
    means = table.groupby(unit, as_index=False).top1.mean()
    norms = list(means.norm.unique())  # all of them in every panel's legend, of which one is shown
    for ax, (net, probe) in zip(axes[0], panels, strict=True):
        panel = means[(means.net == net) & (means.probe == probe)]
        panel = panel.sort_values("place", key=_order_places)
        sns.lineplot(panel, x="place", y="top1", hue="norm", style="norm", hue_order=norms,
                     style_order=norms, errorbar=interval, ax=ax)  # fmt: skip
        ax.set(title=f"{net}, after {probe} of the rate", xlabel="inner step, and the pull")
        ax.set_ylabel("test top-1 [fraction]")
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1], fontsize="small", title="statistics")
    return axes[0]


def _order_places(places: pd.Series) -> pd.Series:
    """Steps in their order and the pull behind them, as numbers."""
    return places.replace({"pull": np.inf}).astype(float)
