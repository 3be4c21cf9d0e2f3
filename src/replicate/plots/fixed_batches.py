"""Losses along a step, and between two descents, on one fixed mini-batch and on held-out ones."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from replicate.plots.style import grid, interval, put_legend_beside, split_by_data_set, unless_empty

OWN_BATCH, HELD_OUT = sns.color_palette("colorblind", 2)
STEPS_SHOWN = 2.6  # best steps; beyond them both curves only rise


@unless_empty
@split_by_data_set
def single_steps(table: pd.DataFrame, size: int | None = None) -> np.ndarray:
    """Figures 2 and 12: loss by step size over the batch's best one, a stage an axes, (stages,).

    table: what `figure_2` gives; size: of the batches, the middle one if not said. The first draw of the
    first seed; shaded, the range over held-out batches.
    """
    curves = table[(table.what == "curve") & (table.norm == "batch") & (table.step <= STEPS_SHOWN)]
    sizes = np.sort(curves.bs.unique())
    size = sizes[len(sizes) // 2] if size is None else size
    curves = curves[(curves.bs == size) & (curves.seed == curves.seed.min())]
    stages = list(curves.stage.unique())
    _, axes = grid(1, len(stages), (3.4, 2.8))
    for ax, stage in zip(axes[0], stages, strict=True):
        curve = curves[curves.stage == stage].sort_values("step")
        ax.fill_between(
            curve.step, curve.lowest, curve.highest, color=HELD_OUT, alpha=0.2, linewidth=0
        )
        ax.plot(curve.step, curve.loss, color=OWN_BATCH, label="the step's own batch")
        ax.plot(curve.step, curve.held, color=HELD_OUT, label="held-out batches")
        ax.set(title=f"{stage}, batch {size:g}", xlabel="step / the batch's best step")
    axes[0, 0].set_ylabel("loss [nats]")
    put_legend_beside(axes[0, -1], fontsize="small")
    return axes[0]


@unless_empty
@split_by_data_set
def drops_by_batch(table: pd.DataFrame) -> plt.Axes:
    """Figure 13: what one step can gain at most, by batch size, on its own batch and on held-out ones.

    table: what `figure_2` gives; a stage a line style. Means over draws, bars over seeds.
    """
    draws = table[(table.what == "draw") & (table.norm == "batch")]
    drops = draws.assign(
        own_drop=draws.start - draws.least, held=draws.held_start - draws.held_least
    )
    drops = drops.groupby(["stage", "bs", "seed"], sort=False)[["own_drop", "held"]].mean()
    _, ((ax,),) = grid(1, 1, (5.6, 3.2))
    styles = dict(zip(drops.index.unique("stage"), ("-", "--", ":", "-."), strict=False))
    for (name, colour), label in zip(
        {"own_drop": OWN_BATCH, "held": HELD_OUT}.items(), ("own batch", "held out"), strict=True
    ):
        for stage, style in styles.items():
            by_size = drops[name].xs(stage, level="stage").groupby("bs")
            low, high = np.array([interval(values) for _, values in by_size]).T
            mean = by_size.mean()
            reach = [mean - low, high - mean]
            ax.errorbar(mean.index, mean, reach, color=colour, linestyle=style, marker="o", markersize=3, label=f"{label}, {stage}")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="batch size")
    ax.set_ylabel("largest drop of the loss [nats]")
    sizes = drops.index.unique("bs")
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.minorticks_off()
    put_legend_beside(ax, fontsize="small")
    return ax


@unless_empty
@split_by_data_set
def basins(table: pd.DataFrame) -> np.ndarray:
    """Figure 3: loss on the line between the ends of two descents on one batch, after some numbers of steps: on that
    batch (left) and held out (right), (2,).

    table: what `figure_3` gives. Medians over fixed batches and seeds, since a descent that
    leaves its valley ends anywhere.
    """
    lines = table[(table.line == "descents") & (table.norm == "batch")]
    steps = sorted(lines.steps.unique())
    colours = dict(zip(steps, sns.color_palette("viridis", len(steps)), strict=True))
    _, axes = grid(1, 2, (3.6, 2.9))
    titles = {"loss": "the descents' own batch", "held": "held-out batches"}
    for ax, (column, title) in zip(axes[0], titles.items(), strict=True):
        for count in steps:
            median = lines[lines.steps == count].groupby("place")[column].median()
            ax.plot(median.index, median, color=colours[count], label=f"{count} steps")
        ax.set(title=title, xlabel="from one end (0) to the other (1)")
    axes[0, 0].set_ylabel("loss [nats]")
    put_legend_beside(axes[0, 1], fontsize="small")
    return axes[0]
