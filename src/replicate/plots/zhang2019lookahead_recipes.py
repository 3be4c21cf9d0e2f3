"""Lookahead where nothing is tuned: by ImageNet's recipe, and at default settings."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.arms import ADAM, SGD, list_looks
from replicate.plots.style import (
    grid,
    interval,
    name_lines,
    number_log_axes,
    split_by_data_set,
    unless_empty,
)
from replicate.plots.zhang2019lookahead import DIAMONDS

DRAWN_LOSSES = {"early_loss": "early", "train_loss": "at the end"}
INNER_COLOURS = {"SGD": SGD, "AdamW": ADAM}


@unless_empty
@split_by_data_set
def accuracies_by_epoch(table: pd.DataFrame, printed: Mapping[int, float]) -> np.ndarray:
    """Test accuracy by epoch of the recipe, a line an arm, with 95 % intervals: (2,) axes, a panel a
    schedule.

    table: what `imagenet` gives; printed: epoch -> the source's gain of Lookahead
    over SGD under the aggressive schedule, drawn from SGD's mean.
    """
    schedules = list(table.schedule.unique())
    _, axes = grid(1, len(schedules), (4.6, 3.2))
    for ax, schedule in zip(axes[0], schedules, strict=True):
        rows = table[table.schedule == schedule]
        sns.lineplot(rows, x="epoch", y="top1", hue="arm", style="arm", errorbar=interval, ax=ax,
                     **list_looks(rows.arm.unique()))  # fmt: skip
        ax.set(title=schedule, xlabel="epoch of the recipe", ylabel="test top-1 [fraction]")
        ax.get_legend().remove()
        name_lines(ax, list(rows.arm.unique()))
    base = table[table.arm == "sgd"].groupby(["schedule", "epoch"]).top1.mean()
    heights = [base["aggressive", epoch] + gain for epoch, gain in printed.items()]
    axes[0][schedules.index("aggressive")].scatter(
        list(printed), heights, marker="D", s=30, facecolor="none", edgecolor="black", zorder=5
    )
    axes[0][schedules.index("aggressive")].set_xlabel(f"epoch of the recipe; {DIAMONDS}")
    return axes[0]


@unless_empty
@split_by_data_set
def losses_at_defaults(table: pd.DataFrame) -> np.ndarray:
    """Training loss under Lookahead over that of the inner optimizer, a point a task, with 95 %
    intervals of the mean of its logarithm: (2,) axes, early and at the end.

    table: what `defaults` gives. Left of the line Lookahead is ahead.
    """
    ratios = _over_inner(table)
    _, axes = grid(1, len(DRAWN_LOSSES), (4.2, 3.0))
    for ax, (metric, title) in zip(axes[0], DRAWN_LOSSES.items(), strict=True):
        _draw_ratios(ratios, metric, ax)
        ax.set(title=title, xlabel="training loss / inner optimizer's", ylabel="")
    return axes[0]


def _over_inner(table: pd.DataFrame) -> pd.DataFrame:
    """Rows a seed and task: task, inner and, of both losses, the ratio."""
    unit = ["seed", "model", "inner"]
    losses = table.set_index([*unit, "arm"])[list(DRAWN_LOSSES)]
    under = losses.xs("lookahead", level="arm")
    arms = losses.index.get_level_values("arm").isin(table.inner.unique())
    ratios = (under / losses[arms].droplevel("arm")).reset_index()
    inner = ratios.inner.replace({"sgd": "SGD", "adamw": "AdamW"})
    networks = ratios.model.str.replace("resnet", "ResNet-").replace({"mlp": "MLP"})
    return ratios.assign(inner=inner, task=networks + ", " + inner)


def _draw_ratios(ratios: pd.DataFrame, metric: str, ax: Axes) -> None:
    sns.pointplot(
        ratios, x=metric, y="task", hue="inner", palette=INNER_COLOURS, errorbar=interval,
        linestyle="none", legend=False, log_scale=True, ax=ax,
    )  # fmt: skip
    ax.axvline(1.0, color="0.4", linestyle=":")
    number_log_axes(ax)
