"""Language and translation under every optimizer, each at its best rate."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.arms import list_looks
from replicate.plots.style import grid, interval, put_legend_beside, unless_empty


@unless_empty
def perplexities(table: pd.DataFrame) -> np.ndarray:
    """Left, training perplexity on the way, under the masks; right, test perplexity at the end, with
    95 % intervals: (2,) axes.

    table: what `language_model` gives, of one data set.
    """
    best = _at_best_rate(table)
    _, axes = grid(1, 2, (4.6, 3.4))
    _draw_curves(best[best.arm == best.method], axes[0][0], np.exp)
    axes[0][0].set(yscale="log", ylabel="training perplexity")
    ends = best.assign(perplexity=np.exp(best.test_loss))
    _draw_ends(ends, "perplexity", axes[0][1])
    axes[0][1].set(xlabel="test perplexity")
    return axes[0]


@unless_empty
def translation_losses(table: pd.DataFrame) -> np.ndarray:
    """Left, training loss on the way; right, BLEU at the end, with 95 % intervals and, dotted, the
    floor of copying the source: (2,) axes.

    table: what `translation` gives, of one data set. The right title is the signature of BLEU.
    """
    floor = table[table.arm == "source copied"]
    best = _at_best_rate(table.drop(floor.index))
    _, axes = grid(1, 2, (4.6, 3.4))
    _draw_curves(best[best.arm == best.method], axes[0][0])
    axes[0][0].set(ylabel="training loss [nats a piece]")
    _draw_ends(best, "bleu", axes[0][1])
    axes[0][1].axvline(floor.bleu.iloc[0], color="0.4", linestyle=":", label="source copied")
    axes[0][1].set(xlabel="BLEU")
    axes[0][1].set_title(floor.signature.iloc[0], fontsize="xx-small")
    put_legend_beside(axes[0][1], fontsize="small")
    return axes[0]


def _at_best_rate(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of every arm at the rate with the lowest mean validation loss."""
    means = table.groupby(["arm", "lr"]).valid_loss.mean().reset_index().dropna()
    best = means.sort_values("valid_loss").drop_duplicates("arm")
    return table.merge(best[["arm", "lr"]], on=["arm", "lr"])


def _draw_curves(rows: pd.DataFrame, ax: Axes, scale=np.asarray) -> None:
    """A line an arm through the means of its training curve, by percent of the run."""
    curves = [name for name in rows if name.startswith("loss_")]
    curve = rows.melt(["arm", "seed"], curves, "percent", "loss")
    curve = curve.assign(
        percent=curve.percent.str.removeprefix("loss_").astype(int), loss=scale(curve.loss)
    )
    sns.lineplot(curve, x="percent", y="loss", hue="arm", style="arm", errorbar=interval, ax=ax,
                 **list_looks(curve.arm.unique()))  # fmt: skip
    ax.set(xlabel="percent of the run")
    put_legend_beside(ax, fontsize="small", title="")


def _draw_ends(rows: pd.DataFrame, metric: str, ax: Axes) -> None:
    """A point an arm with its interval."""
    sns.pointplot(rows, x=metric, y="arm", errorbar=interval, linestyle="none", ax=ax)
    ax.set(ylabel="")
