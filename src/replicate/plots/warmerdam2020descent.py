"""Loss against what was spent on it, and what that comes down to."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.arms import ARM_LOOKS, style_line
from replicate.plots.style import (
    FEW_SEEDS,
    grid,
    interval,
    put_legend_beside,
    unless_empty,
)

PALETTE = sns.color_palette("colorblind", 10)
POSTS_ARMS = ("SGD", "ADAM", "KS_50_0 published", "KS_50_2 published", "KS_10_0 published", "KS_10_2 published",
              "KV_10 published", "KV_50 published")  # fmt: skip
SHOWN_ARMS = (*POSTS_ARMS, "KS_50_2 corrected", "KV_50 corrected", "ARMIJO", "EXACT", "LBFGS")
COUNTED_AXES = ("gradients", "forward-equivalents")
SECONDS = "modelled seconds"
AXIS_LABELS = {axis: axis for axis in COUNTED_AXES} | {SECONDS: "modelled seconds, one thread"}
PART_LABELS = {part: part for part in ("loss", "forward", "backward", "gradient")} | {
    "step": "update"
}
LOSS = "log10(L / L at start)"
FIRM = {"reproduced": PALETTE[2], "contradicted": PALETTE[3]}  # words, with their colours


@unless_empty
def iterations(*tables: pd.DataFrame) -> np.ndarray:
    """Figures 4 and 5: loss by iteration, a line per method, means over seeds, (tables,).

    tables: what `figure_4` and `figure_5` give.
    """
    _, axes = grid(1, len(tables), (3.2, 2.4))
    for ax, table in zip(axes[0], tables, strict=True):
        for (arm, part), colour in zip(table.groupby("arm", sort=False), PALETTE, strict=False):
            mean = part.groupby("iteration").loss.mean()
            size = 3 if len(mean) < 30 else 0
            ax.plot(mean.index, mean, color=colour, marker="o", markersize=size, label=arm)
        ax.set(yscale="log", xlabel="iteration", ylabel="mean squared error")
        put_legend_beside(ax)
    return axes[0]


@unless_empty
def mse_against_time(table: pd.DataFrame, arms: tuple[str, ...] = POSTS_ARMS) -> np.ndarray:
    """Figures 9 to 13 as the post draws them, the mean squared error against time, and against
    gradients beside it.

    table: what `figure_9` and its like give. A row of axes per data set, (data sets, 2): the post's
    rate, its eight arms as printed, errors over that at the start, geometric means with intervals.
    """
    chosen = table[(table.rate == "source") & (table.start == "source")]
    datasets = list(chosen.dataset.unique())
    _, axes = grid(len(datasets), 2, (5.4, 3.0), sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        for ax, axis in zip(row, (SECONDS, "gradients"), strict=True):
            part = chosen[(chosen.dataset == dataset) & (chosen.axis == axis)]
            _curves(ax, part, arms, height=lambda logs: 10.0**logs)
            ax.set(xlabel=AXIS_LABELS[axis], ylim=(-0.04, 1.25))
        row[0].set(ylabel="mean squared error / at start", title=f"{dataset}, the post's rate")
        _list_arms(row[-1], row, arms)
    return axes


@unless_empty
def against_cost(
    table: pd.DataFrame, rate: str = "source", arms: tuple[str, ...] = SHOWN_ARMS
) -> np.ndarray:
    """Figures 9 to 13: log loss against gradients, forward-equivalents and modelled seconds; means
    with intervals.

    table: what `figure_9` and its like give. A row of axes per data set, (data sets, 3). Published
    code is dashed.
    """
    chosen = table[(table.rate == rate) & (table.start == "source") & table.arm.isin(arms)]
    datasets = list(chosen.dataset.unique())
    _, axes = grid(len(datasets), len(AXIS_LABELS), (3.6, 3.1), sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        for ax, (axis, unit) in zip(row, AXIS_LABELS.items(), strict=True):
            _curves(ax, chosen[(chosen.dataset == dataset) & (chosen.axis == axis)], arms)
            ax.set_xlabel(unit)
        row[0].set_ylabel(LOSS)
        row[0].set_title(f"{dataset}, {rate} rate", fontsize="medium")
        _list_arms(row[-1], row, arms)
    return axes


@unless_empty
def overview(
    table: pd.DataFrame, axis: str = SECONDS, arms: tuple[str, ...] = SHOWN_ARMS
) -> np.ndarray:
    """Every figure on one axis: the post's rate at the left, tuned rates at the right; means with
    intervals, (data sets, 2).

    table: what `figure_9` and its like give, one below the other.
    """
    datasets, rates = list(table.dataset.unique()), ("source", "tuned")
    _, axes = grid(len(datasets), len(rates), (5.4, 2.6), sharey=True)
    chosen = table[(table.start == "source") & (table.axis == axis) & table.arm.isin(arms)]
    for row, dataset in zip(axes, datasets, strict=True):
        for ax, rate in zip(row, rates, strict=True):
            _curves(ax, chosen[(chosen.dataset == dataset) & (chosen.rate == rate)], arms)
            ax.set_title(f"{dataset}, {rate} rate", fontsize="medium")
            ax.set_xlabel(AXIS_LABELS[axis])
        row[0].set_ylabel(LOSS)
    _list_arms(axes[0, -1], axes.ravel(), arms)
    return axes


@unless_empty
def leads(verdicts: pd.DataFrame, claims: tuple[str, ...]) -> Axes:
    """Cases of some claims as points with intervals; right of the dashed line a claim fails;
    hollow: no word.

    verdicts: rows as `app.verdicts` gives them, of claims whose band ends at 0.
    """
    rows = verdicts[verdicts.claim.isin(claims) & (verdicts.verdict != "not tested")].reset_index(
        drop=True
    )
    _, ((ax,),) = grid(1, 1, (5.4, 0.9 + 0.15 * len(rows)))
    for place, row in rows.iterrows():
        firm = row.verdict in FIRM
        colour = FIRM.get(row.verdict, "0.5")
        low, high = (bound if np.isfinite(bound) else row.value for bound in (row.low, row.high))
        ax.plot([low, high], [place, place], color=colour, linewidth=1)
        ax.plot(
            row.value, place, "o", markersize=4, color=colour, fillstyle="full" if firm else "none"
        )
    ax.axvline(0, color="0.6", linewidth=1, linestyle="--")
    ax.set_yticks(range(len(rows)), rows.claim + ", " + rows.case, fontsize="x-small")
    ax.set(
        xlabel="difference of mean log losses\n(below 0: ahead), modelled seconds",
        ylim=(max(len(rows), 1) - 0.5, -0.5),
    )
    return ax


@unless_empty
def rate_curves(table: pd.DataFrame) -> np.ndarray:
    """Mean log loss against the rate; one axes per data set, (data sets,). table: what `rates`
    gives.
    """
    swept = table[table.use == "sweep"]
    datasets = list(swept.dataset.unique())
    _, axes = grid(1, len(datasets), (2.3, 1.8), sharey=True)
    for ax, dataset in zip(axes[0], datasets, strict=True):
        for arm, part in swept[swept.dataset == dataset].groupby("arm", sort=False):
            _line(ax, part.lr, part.height, label=arm, **style_line(arm))
        ax.set(
            xscale="log",
            xlabel="rate",
            title=dataset,
            ylabel="mean\n" + LOSS if ax is axes[0][0] else "",
        )
    axes[0][-1].legend(
        frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return axes[0]


@unless_empty
def time_shares(table: pd.DataFrame) -> Axes:
    """Share of a step by part, a bar per task; dashed: the post's 80 %. table: what `shares` gives."""
    mean = (
        table[table.part.isin(PART_LABELS)]
        .groupby(["dataset", "part"], sort=False)
        .seconds.mean()
        .unstack()
    )
    mean = mean.div(mean.sum(axis=1), axis=0).reindex(columns=list(PART_LABELS))
    _, ((ax,),) = grid(1, 1, (4.6, 0.8 + 0.25 * len(mean)))
    left = np.zeros(len(mean))
    for (part, label), colour in zip(PART_LABELS.items(), PALETTE, strict=False):
        width = mean[part].fillna(0).to_numpy()
        ax.barh(mean.index, width, left=left, color=colour, label=label)
        left += width
    ax.axvline(0.8, color="black", linestyle="--", linewidth=1)
    ax.set(xlabel="share of a step", xlim=(0, 1))
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


@unless_empty
def speed_ups(table: pd.DataFrame) -> Axes:
    """Speed-up over SGD by mini-steps per gradient, measured and predicted. table: what
    `break_even` gives.
    """
    _, ((ax,),) = grid(1, 1, (2.8, 1.9))
    for name, style in (("measured", "o-"), ("predicted", "s--")):
        _line(
            ax, table.walk, table[name], fmt=style, label=name, color=PALETTE[name == "predicted"]
        )
    ax.axhline(1, color="0.6", linewidth=1)
    ax.set(xscale="log", xlabel="mini-steps per gradient", ylabel="speed-up over SGD")
    ax.set_xticks(sorted(table.walk.unique()), sorted(table.walk.unique()), minor=False)
    ax.minorticks_off()
    put_legend_beside(ax, fontsize="small")
    return ax


@unless_empty
def turning(table: pd.DataFrame) -> np.ndarray:
    """Cosine of successive gradients by tenth; one axes per data set. table: what `directions`
    gives.
    """
    datasets = list(table.dataset.unique())
    _, axes = grid(1, len(datasets), (2.1, 1.7), sharey=True)
    for ax, dataset in zip(axes[0], datasets, strict=True):
        chosen = table[table.dataset == dataset]
        for (rate, part), colour in zip(chosen.groupby("rate"), PALETTE, strict=False):
            _line(ax, part.tenth + 1, part.cosine, label=f"{rate} rate", color=colour)
        ax.set(xlabel="tenth of the run", title=dataset)
    axes[0][0].set_ylabel("cosine of\ng(t), g(t+1)")
    put_legend_beside(axes[0][-1])
    return axes[0]


@unless_empty
def on_batches(table: pd.DataFrame) -> np.ndarray:
    """Loss at the end and bias of the checks by size of a batch, (2,). table: what `minibatches`
    gives.
    """
    _, axes = grid(1, 2, (2.4, 1.8))
    names = {"loss": LOSS, "bias": "fall of batch\n- of all rows"}
    for ax, (name, label) in zip(axes[0], names.items(), strict=True):
        for (checks, part), colour in zip(table.groupby("checks"), PALETTE, strict=False):
            _line(ax, part.batch, part[name], label=f"checks on {checks} batch", color=colour)
        ax.set(xscale="log", xlabel="rows of a mini-batch", ylabel=label)
    put_legend_beside(axes[0][-1])
    return axes[0]


@unless_empty
def second_order(table: pd.DataFrame) -> np.ndarray:
    """Where each method ends beside Newton's: training and test loss by data set, (data sets,).

    table: what `newton_on_nets` gives. A dot a seed, the mean as a bar; training loss filled.
    """
    tuned = table[table.rate == "tuned"]
    names = list(dict.fromkeys(tuned.dataset))
    _, axes = grid(1, len(names), (2.6, 1.9), sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        rows = tuned[tuned.dataset == name]
        arms = list(dict.fromkeys(rows.arm))
        places = rows.arm.map(arms.index)
        for metric, shift, face in (("train", -0.15, "black"), ("test", 0.15, "none")):
            ax.plot(
                places + shift,
                rows[metric],
                "o",
                color="black",
                markersize=3,
                mfc=face,
                label=metric,
            )
            means = rows.groupby("arm", sort=False)[metric].mean()
            ax.hlines(
                means,
                np.arange(len(arms)) + shift - 0.12,
                np.arange(len(arms)) + shift + 0.12,
                color=PALETTE[0],
            )
        ax.set(title=name, ylabel=LOSS if ax is axes[0][0] else "")
        ax.set_xticks(range(len(arms)), arms, rotation=35, ha="right", fontsize="x-small")
    put_legend_beside(axes[0][-1])
    return axes[0]


@unless_empty
def on_your_images(table: pd.DataFrame) -> np.ndarray:
    """Training loss by share of three budgets, every arm at its tuned rate, (data sets, 3).

    table: what `your_dataset` gives, on one data set or several. Means of log losses with intervals over seeds;
    no point where a seed was lost.
    """
    tuned = table[table.rate == "tuned"]
    datasets, budgets = list(tuned.dataset.unique()), list(tuned.axis.unique())
    _, axes = grid(len(datasets), len(budgets), (3.2, 2.8), sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        of_dataset = tuned[tuned.dataset == dataset]
        arms = tuple(arm for arm in of_dataset.arm.unique() if arm in ARM_LOOKS)
        for ax, budget in zip(row, budgets, strict=True):
            for arm in arms:
                part = of_dataset[(of_dataset.arm == arm) & (of_dataset.axis == budget)]
                part = part.groupby("share").filter(lambda looks: looks.train_loss.notna().all())
                _line(ax, part.share, np.log10(part.train_loss), label=arm, **style_line(arm))
            ax.set(title=f"{dataset}, {budget}", xlabel="share of the budget")
        row[0].set_ylabel("log10 of training loss")
        handles, names = row[0].get_legend_handles_labels()
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        row[-1].legend(handles, names, fontsize="small", frameon=False, **place)
    return axes


def _curves(
    ax: Axes, part: pd.DataFrame, arms: tuple[str, ...], height: Callable = lambda logs: logs
) -> None:
    """The mean over seeds of each arm, its interval shaded. height: where a log loss is drawn."""
    for arm in arms:
        of_arm = part[part.arm == arm]
        if of_arm.empty:
            continue
        by_share = of_arm.groupby("share").loss
        x = by_share.mean().index * of_arm.budget.mean()
        low, high = np.array([interval(values) for _, values in by_share]).T
        ax.plot(x, height(by_share.mean()), linewidth=1.6, label=arm, **style_line(arm))
        if by_share.size().min() >= FEW_SEEDS:
            colour = style_line(arm)["color"]
            ax.fill_between(x, height(low), height(high), color=colour, alpha=0.15, linewidth=0)


def _list_arms(ax: Axes, drawn: np.ndarray, arms: tuple[str, ...]) -> None:
    """A legend right of ax, from its top down, of what is drawn in some axes."""
    handles = {line.get_label(): line for each in drawn for line in each.lines}
    names = [arm for arm in arms if arm in handles]
    look = {"frameon": False, "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    ax.legend([handles[arm] for arm in names], names, fontsize="small", **look)


def _line(ax: Axes, x: pd.Series, y: pd.Series, fmt: str = "o", **look) -> None:
    """Means of y by x with error bars."""
    groups = y.groupby(x)
    mean = groups.mean().astype(float)
    low, high = np.array([interval(values) for _, values in groups]).T
    look = {"linestyle": "-"} | look if fmt == "o" else look
    reach = [mean - low, high - mean]
    ax.errorbar(
        mean.index.to_numpy(), mean.to_numpy(), reach, fmt=fmt, markersize=3, capsize=2, **look
    )
