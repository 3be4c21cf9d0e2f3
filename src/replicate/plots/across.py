"""Every method as a filter on past gradients, side by side."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from replicate.plots.style import grid, unless_empty

FAMILIES = {  # title of a panel -> methods in it; SGD is in all
    "momentum": ("SGD", "momentum", "Nesterov"),
    "extrapolation": ("SGD", "extrapolation, first order", "extrapolation, second order",
                      "extrapolation, third order"),
    "Lookahead": ("SGD", "Lookahead", "Lookahead, momentum, maintain", "Lookahead, momentum, reset",
                  "Lookahead, momentum, interpolate"),
    "averages": ("SGD", "average, swa", "average, two-point", "average, ema", "running mean"),
}  # fmt: skip
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
    a column a family of methods. SGD is the thin black line.

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
    colours = ["k", *sns.color_palette("colorblind", len(arms) - 1)]
    for arm, colour in zip(arms, colours, strict=True):
        rows = drawn[(drawn.arm == arm) & (drawn.value < HIGHEST_VARIANCE)].sort_values("at")
        values = rows.value if pace is None else rows.value / pace[arm]
        label = arm.removeprefix("extrapolation, ").removeprefix("average, ")
        ax.plot(rows["at"], values, color=colour, label=label.removeprefix("Lookahead, "),
                linewidth=0.8 if arm == "SGD" else 1.4)  # fmt: skip


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
