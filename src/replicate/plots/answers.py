"""One figure a source that shows its answer: `draw_<source>`, whose arguments are named after the experiments it shows.

An argument of type Judged is the experiment's table after `derive`, any other the table as recorded. Lines are named
beside their ends, in their own colours. Bands and bars: `interval` over seeds.
"""

from typing import NewType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from replicate.plots.arms import (
    ADAM,
    BLUE,
    EXTRAPOLATION,
    GREY,
    HEAVY_BALL,
    LOOKAHEAD,
    MEAN,
    ORANGE,
    OTHER_RATE,
    SGD,
    WALK,
    style_line,
)
from replicate.plots.style import grid, interval, name_lines

Judged = NewType("Judged", pd.DataFrame)
PANEL = (3.6, 3.2)  # inches an axes
KERNEL_TITLES = {"swa": "mean of the last k", "two-point": "midpoint", "ema": "moving average, 5/k"}
TRIPS = {"average": ("weights averaged", MEAN), "side-trip": ("rate reduced", OTHER_RATE), "constant-rate": ("control: rate kept", SGD)}  # fmt: skip
EXTRAPOLATIONS = {"plain": ("SGD", SGD), "s=0.5": ("extrapolated, s = 0.5", EXTRAPOLATION), "rate-1.5": ("SGD, rate 1.5 times", OTHER_RATE),
                  "heavy-ball": ("momentum 0.9", HEAVY_BALL)}  # fmt: skip
POST_ARMS = {("SGD", "source"): ("SGD, the post's rate", SGD), ("KS_50_2 published", "source"): ("KeepStepping as published", WALK),
         ("KS_50_2 corrected", "source"): ("KeepStepping as meant", WALK), ("ADAM", "source"): ("Adam, the post's rate", ADAM),
         ("SGD", "tuned"): ("SGD, tuned", OTHER_RATE)}  # fmt: skip

ROBUST_ARMS = {
    "sgd": ("SGD", SGD),
    "sgd-ema": ("SGD, running mean", MEAN),
    "sgd-alpha": ("SGD, half the rate", OTHER_RATE),
    "lookahead": ("Lookahead", LOOKAHEAD),
}
CYCLE_NORMS = {
    "running": ("BatchNorm as it is", ORANGE),
    "re-estimated": ("BatchNorm re-estimated", BLUE),
}
PASSED_BY = {
    "extrapolation, third order": "extrapolation, order 3",
    "Lookahead": "Lookahead",
    "extrapolation, second order": "extrapolation, order 2",
    "SGD": "SGD",
    "Nesterov": "Nesterov",
    "average, swa": "mean of 10 weights",
    "momentum": "momentum, running mean",
    "running mean": "_",
}
WORK_MARKS = {"gradients": ("per gradient", "full", -0.14), "modelled seconds": ("per modelled second", "none", 0.14)}  # fmt: skip
EDGE_LABEL = "the same, rate at\nthe edge of its grid"
RATIO_TICKS = (0.7, 1.0, 1.5, 2.0, 2.5)
LEVEL_WITH_SGD = 0.02  # log10, the band of the rows about one task


def draw_across(filters: pd.DataFrame, one_task: Judged) -> np.ndarray:
    """What each method lets through of a gradient that swings, and on the task its test loss over SGD's, (2,)."""
    _, (axes,) = grid(1, 2, (5.4, 4.4))
    passed = filters[filters.what == "response"]
    for arm, name in PASSED_BY.items():
        rows = passed[passed.arm == arm].sort_values("at")
        axes[0].plot(rows["at"], rows.value, label=name, linewidth=1.8, **style_line(arm))
    name_lines(axes[0])
    tuned = one_task[one_task.rate == "tuned"]
    _draw_ends(axes[1], tuned)
    axes[0].set(title="as filters: what is let through", xlabel="frequency [radians a step]")
    axes[0].set_ylabel("over what is let through at 0")
    axes[1].set(title=f"{tuned.dataset.iloc[0]}, tuned alike, {tuned.seed.nunique()} seeds")
    axes[1].set_xlabel("test loss over SGD's")
    return axes


def _draw_ends(ax: Axes, tuned: pd.DataFrame) -> None:
    """A row an arm, lowest per gradient first: its test loss over SGD's by seed, mean and interval.

    An arrow stands where a tuned rate lies at the edge of its grid: a wider grid might lead lower.
    """
    losses = np.log10(tuned.pivot(index=["axis", "seed"], columns="arm", values="test_loss"))
    over = losses.sub(losses["SGD"], axis=0).drop(columns="SGD")
    edges = tuned.groupby(["axis", "arm"]).at_edge.any()
    arms = list(over.loc["gradients"].mean().sort_values().index)
    for axis, (name, filling, below) in WORK_MARKS.items():
        for place, arm in enumerate(arms):
            values = over.loc[axis][arm]
            look = {"color": style_line(arm)["color"], "fillstyle": filling, "linewidth": 1}
            ax.plot(10 ** np.array(interval(values)), [place + below] * 2, **look)
            ax.plot(10 ** values.mean(), place + below, "<" if edges[axis, arm] else "o", **look)
        ax.plot([], [], "o", color=GREY, fillstyle=filling, label=name)
    ax.plot([], [], "<", color=GREY, fillstyle="none", label=EDGE_LABEL)
    ax.axvspan(10**-LEVEL_WITH_SGD, 10**LEVEL_WITH_SGD, color="0.9", zorder=0)
    _name_rows(ax, arms)
    ax.legend(frameon=False, loc="upper right", fontsize="small", borderpad=0)


def _name_rows(ax: Axes, arms: list[str]) -> None:
    """The first arm on top, each in its colour, over a scale of ratios."""
    ax.set(xscale="log", yticks=range(len(arms)), yticklabels=arms)
    ax.set_xticks(RATIO_TICKS, map(str, RATIO_TICKS))
    ax.minorticks_off()
    ax.invert_yaxis()
    for label, arm in zip(ax.get_yticklabels(), arms, strict=True):
        label.set_color(style_line(arm)["color"])


def draw_sandler2023trajectories(figure_5: pd.DataFrame) -> np.ndarray:
    """What average and side-trip gain over the iterate at the same step, by window; a kernel an axes, (3,)."""
    table = figure_5[figure_5.dataset == "digits"]
    places = ["seed", "branch", "start"]
    raw = table[table.arm == "raw"].set_index([*places, "k"]).train_loss
    raw = raw[~raw.index.duplicated()]
    _, axes = grid(1, len(KERNEL_TITLES), PANEL, sharey=True)
    for ax, (kernel, title) in zip(axes[0], KERNEL_TITLES.items(), strict=True):
        shown = (table.kernel == kernel) | (table.arm == "constant-rate")  # which knows no kernel
        rows = table[shown & table.arm.isin(list(TRIPS)) & (table.k > 1)]
        loss = rows.set_index([*places, "k", "arm"]).train_loss
        gain = raw.reindex(loss.index.droplevel("arm")).to_numpy() - loss
        for arm, (name, colour) in TRIPS.items():
            by_seed = gain.xs(arm, level="arm").groupby(["k", "seed"]).mean()
            _draw_means(ax, by_seed.groupby("k"), colour, name, dashed=arm == "side-trip")
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set(title=title, xlabel="window k [steps]", xscale="log")
    axes[0, 0].set_ylabel("training loss gained [nats]")
    name_lines(axes[0, -1])
    return axes[0]


def draw_fabi2021extrapolation(networks: pd.DataFrame, rate_curves: pd.DataFrame) -> np.ndarray:
    """Training loss on digits by step at the source's rate, and at the end by rate, (2,)."""
    at_source = networks[(networks.dataset == "digits") & networks.source & (networks.step > 0)]
    ends = rate_curves[rate_curves.dataset == "digits"]
    whole = ends.groupby(["arm", "lr"]).train_loss.transform(lambda losses: losses.notna().all())
    _, axes = grid(1, 2, (4.6, 3.4))
    for ax, (x, rows) in zip(axes[0], {"step": at_source, "lr": ends[whole]}.items(), strict=True):
        for arm, (name, colour) in EXTRAPOLATIONS.items():
            losses = rows[rows.arm == arm].set_index(x).train_loss
            if len(losses):
                _draw_means(
                    ax, np.log10(losses).groupby(x), colour, name, dashed=arm.startswith("rate")
                )
        ax.set_ylabel("log10 of training loss")
        name_lines(ax)
    axes[0, 0].set(title="at the source's rate", xlabel="step (one gradient each)")
    axes[0, 1].set(title="at the end, by rate", xlabel="learning rate", xscale="log")
    return axes[0]


def draw_warmerdam2020descent(figure_9: pd.DataFrame) -> Axes:
    """Log loss on the task of Figure 9 by modelled seconds."""
    table = figure_9[(figure_9.axis == "modelled seconds") & (figure_9.start == "source")]
    _, ((ax,),) = grid(1, 1, (7, 3.6))
    for (arm, rate), (name, colour) in POST_ARMS.items():
        rows = table[(table.arm == arm) & (table.rate == rate)]
        loss = rows.assign(time=rows.share * rows.budget.mean()).set_index("time").loss
        _draw_means(ax, loss.groupby("time"), colour, name, dashed="published" in arm)
    ax.set(xlabel="modelled seconds, one thread", ylabel="log10 of loss over loss at the start")
    name_lines(ax)
    return ax


def draw_zhang2019lookahead(robustness: pd.DataFrame, within_cycle: pd.DataFrame) -> np.ndarray:
    """Training loss by momentum on digits, and on CIFAR-10 how test accuracy changes within a cycle, (2,)."""
    at_momenta = robustness[(robustness.place == 0.1) & (robustness.dataset == "digits")]
    cycles = within_cycle[
        (within_cycle.dataset == "cifar10-cycles") & (within_cycle.net == "batch norm")
    ]
    cycles = cycles[cycles.probe == "1 drops"]
    places = [*sorted(set(cycles.place) - {"pull"}, key=int), "pull"]
    _, (axes,) = grid(1, 2, (4.6, 3.4))
    for arm, (name, colour) in ROBUST_ARMS.items():
        loss = at_momenta[at_momenta.arm == arm].set_index("momentum").train_loss
        _draw_means(axes[0], loss.groupby("momentum"), colour, name, dashed=arm != "lookahead")
    for norm, (name, colour) in CYCLE_NORMS.items():
        rows = cycles[cycles.norm == norm]
        by_seed = rows.groupby(["seed", "place"]).top1.mean().unstack()[places]
        change = 100 * by_seed.sub(by_seed["0"], axis=0).set_axis(range(len(places)), axis=1)
        change = change.stack().rename_axis(["seed", "step"])
        _draw_means(axes[1], change.groupby("step"), colour, name, dashed=norm != "running")
    axes[0].set(title="digits, rate 0.1", xlabel="momentum", ylabel="training loss [nats]")
    axes[1].set(title="CIFAR-10, after the first drop", xlabel="inner step, and the pull")
    axes[1].set_ylabel("change of test accuracy [points]")
    axes[1].set_xticks(range(len(places)), places)
    for ax in axes:
        name_lines(ax)
    return axes


def _draw_means(ax: Axes, values, colour, name: str, *, dashed: bool) -> None:
    """A line through the means of groups of seeds, and a band of their intervals."""
    middle = values.mean()
    low, high = np.array([interval(each) for _, each in values]).T
    line = {"color": colour, "linewidth": 1.8, "linestyle": "--" if dashed else "-"}
    ax.fill_between(middle.index, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(middle.index, middle, label=name, **line)
