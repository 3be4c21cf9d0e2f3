"""Every method as a filter on past gradients, and all of them on one task, side by side."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from replicate.plots.arms import style_line
from replicate.plots.style import grid, interval, number_log_axes, unless_empty

FAMILIES = {  # title of a panel -> methods in it; SGD is in all
    "momentum": ("SGD", "momentum", "Nesterov"),
    "extrapolation": ("SGD", "extrapolation, first order", "extrapolation, second order",
                      "extrapolation, third order"),
    "Lookahead": ("SGD", "Lookahead", "Lookahead, momentum, maintain", "Lookahead, momentum, reset",
                  "Lookahead, momentum, interpolate"),
    "averages": ("SGD", "average, swa", "average, two-point", "average, ema", "running mean"),
}  # fmt: skip
CONTENDING = {  # the same of the task, on which more are trained
    "momentum": FAMILIES["momentum"],
    "extrapolation": FAMILIES["extrapolation"],
    "Lookahead": FAMILIES["Lookahead"],
    "averages": ("SGD", "average, swa", "average, ema", "momentum, average, swa",
                 "momentum, average, ema", "SGD, falling rate", "schedule-free"),
    "others": ("SGD", "Adam", "KeepStepping", "KeepVaulting"),
}  # fmt: skip
BUDGET_NAMES = (
    "gradients",
    "forward passes",
    "modelled seconds",
)  # rows of panels, columns of a table
SCALES = {  # axes by what is drawn
    "impulse": {"xlabel": "steps later", "ylabel": "moved, over the pace"},
    "response": {"xlabel": "frequency [radians a step]", "ylabel": "let through, over the pace"},
    "noise": {"xlabel": "rate times curvature of SGD", "ylabel": "variance over SGD's",
              "xscale": "log", "yscale": "log"},
}  # fmt: skip
LEGENDS_FROM = 2.0  # of the first row's axis: no impulse goes further
HIGHEST_VARIANCE = 30.0  # of a variance that is drawn: above, a method is near its edge


@unless_empty
def filter_views(table: pd.DataFrame, whats: Sequence[str] = tuple(SCALES)) -> np.ndarray:
    """What a gradient moves, which frequencies pass, and what noise is left at SGD's pace: a row each,
    a column a family of methods. SGD is the thin grey line.

    table: what `filters` gives, columns what, arm, at, value.
    """
    pace = table[table.what == "pace"].set_index("arm").value
    _, axes = grid(len(whats), len(FAMILIES), (2.5, 2.1), sharex="row", sharey="row")
    for row, what in zip(axes, whats, strict=True):
        drawn = table[table.what == what]
        for ax, (title, arms) in zip(row, FAMILIES.items(), strict=True):
            _draw(ax, drawn, arms, pace if what == "impulse" else None)
            ax.set(title=title if what == whats[0] else "", **SCALES[what])
            if ax is not row[0]:
                ax.set_ylabel("")
        if what == whats[0]:
            for ax in row:
                ax.set_ylim(0, LEGENDS_FROM + 1.5)
                ax.legend(fontsize="xx-small", frameon=False, loc="upper right", borderpad=0)
    return axes


def _draw(ax, drawn: pd.DataFrame, arms: Sequence[str], pace: pd.Series | None) -> None:
    """The methods of one family, in steps of the pace where one is given."""
    for arm in arms:
        rows = drawn[(drawn.arm == arm) & (drawn.value < HIGHEST_VARIANCE)].sort_values("at")
        values = rows.value if pace is None else rows.value / pace[arm]
        label = arm.removeprefix("extrapolation, ").removeprefix("average, ")
        ax.plot(rows["at"], values, **_style(arm), label=label.removeprefix("Lookahead, "))


def list_edges(table: pd.DataFrame) -> pd.DataFrame:
    """Pace, lag and largest stable x of every method, and that edge times the pace, a row each.

    table: what `filters` gives.
    """
    rows = table[table.what.isin(["pace", "lag", "edge"])]
    wide = rows.pivot(index="arm", columns="what", values="value")
    order = rows.arm.drop_duplicates()
    wide = wide.assign(fastest=wide.edge * wide.pace).loc[order]
    return (
        wide.rename_axis(index=None, columns=None)[["pace", "lag", "edge", "fastest"]].round(6) + 0
    )


@unless_empty
def ends_by_pace(table: pd.DataFrame) -> np.ndarray:
    """Test loss at the end of each budget by pace, a row a budget, a column a family of methods: the
    trials of which one is chosen. SGD is the thin grey line; bars are intervals over seeds.

    table: what `one_task` gives, on one data set or several, of which the last one is drawn.
    """
    drawn = table[table.dataset == table.dataset.iloc[-1]] if "dataset" in table else table
    _, axes = grid(len(BUDGET_NAMES), len(CONTENDING), (2.5, 2.5), sharex=True, sharey=True)
    for row, budget in zip(axes, BUDGET_NAMES, strict=True):
        for ax, (title, arms) in zip(row, CONTENDING.items(), strict=True):
            _draw_trials(ax, drawn[drawn.axis == budget], arms)
            ax.set(xscale="log", yscale="log")
            number_log_axes(ax)
            if budget == BUDGET_NAMES[0]:
                ax.set_title(title)
            if budget == BUDGET_NAMES[-1]:
                ax.set_xlabel("pace [rate of SGD]")
        row[0].set_ylabel(f"test loss [nats],\nequal {budget}")
    for ax in axes[-1]:  # below, where no curve is
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.32)}
        ax.legend(fontsize="x-small", frameon=False, **place)
    return axes


def _draw_trials(ax, drawn: pd.DataFrame, arms: Sequence[str]) -> None:
    """Mean over seeds and its interval by pace; a trial that a seed lost is left out."""
    for arm in arms:
        losses = drawn[drawn.arm == arm].pivot(index="seed", columns="pace", values="test_loss")
        losses = losses.dropna(axis="columns")
        means = losses.mean()
        ends = np.array([interval(losses[pace]) for pace in losses]).reshape(-1, 2)
        style = _style(arm)
        ax.plot(means.index, means, **style, label=arm)
        ax.fill_between(means.index, *ends.T, color=style["color"], alpha=0.15, linewidth=0)


def _style(arm: str) -> dict:
    """How an arm's line is drawn; SGD's, which is in every panel, is thin."""
    return style_line(arm) | {"linewidth": 0.8 if arm == "SGD" else 1.4}


def list_ends(judged: pd.DataFrame) -> pd.DataFrame:
    """Mean test loss over seeds of every arm at its tuned trials, a column a budget, lowest per
    gradient first; beside it test error, median pace and checks a gradient at equal gradients. Each
    data set for itself.

    judged: the table of `one_task` after `derive`.
    """
    tuned = judged[judged.rate == "tuned"]
    of = ["dataset", "arm"]
    wide = tuned.pivot_table(index=of, columns="axis", values="test_loss", sort=False)
    per_gradient = tuned[tuned.axis == "gradients"].groupby(of)
    beside = {"error": per_gradient.error.mean(), "pace": per_gradient.pace.median(),
              "checks": per_gradient.checks.mean()}  # fmt: skip
    wide = wide[list(BUDGET_NAMES)].assign(**beside)
    return wide.sort_values(["dataset", "gradients"]).rename_axis(index=of, columns=None)
