"""What averages foretell of cool-downs, and kernels of the least foretold loss, beside what came."""

import numpy as np
import pandas as pd
import seaborn as sns

from replicate.plots.style import grid, interval, put_legend_beside, split_by_data_set, unless_empty

GUESSES = ("raw", "moving average", "average", "extrapolated")
KERNELS_TRIED = ("best", "uniform", "linear", "exponential")


@unless_empty
@split_by_data_set
def cooldowns(table: pd.DataFrame, y: str = "train_loss") -> np.ndarray:
    """The loss that is foretold against the loss after the cool-down, an axes a window; a point a
    seed and time. Dashed: equality.

    table: what `cooldowns` gives, a figure a data set. Returns the axes, (windows,).
    """
    wide = table.pivot_table(index=["k", "seed", "time"], columns="arm", values=y)
    windows = sorted(table.k.unique())
    _, axes = grid(1, len(windows), (4.0, 3.6))
    for ax, k in zip(axes[0], windows, strict=True):
        part = wide.loc[k]
        for arm, colour in zip(GUESSES, sns.color_palette("colorblind", len(GUESSES)), strict=True):  # fmt: skip
            ax.plot(part.cooled, part[arm], "o", color=colour, alpha=0.6, label=arm)
        ends = [part.cooled.min(), part.cooled.max()]
        ax.plot(ends, ends, "--", color="0.5")
        ax.set(title=f"k = {k:g} steps", xlabel="after the cool-down", ylabel="foretold [nats]")
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]


@unless_empty
@split_by_data_set
def kernel_gains(table: pd.DataFrame) -> np.ndarray:
    """What each kernel gains over the window's end, by window: measured (left, error bars over seeds)
    and foretold by the spectrum (right).

    table: what `optimal_kernel` gives, a figure a data set. Returns the axes, (2,).
    """
    means = table.groupby(["seed", "k", "arm"])[["train_loss", "predicted"]].mean().unstack("arm")
    _, axes = grid(1, 2, (4.2, 3.4), sharey=True)
    for ax, name, title in zip(axes[0], ("train_loss", "predicted"), ("measured", "foretold"), strict=True):  # fmt: skip
        gained = means[name].rsub(means[name]["raw"], axis=0)
        for arm, colour in zip(
            KERNELS_TRIED, sns.color_palette("colorblind", len(KERNELS_TRIED)), strict=True
        ):
            sns.lineplot(gained[arm].rename("gained").reset_index(), x="k", y="gained", color=colour, marker="o",
                         label=arm, errorbar=interval, err_style="bars", ax=ax)  # fmt: skip
        ax.axhline(0, color="0.8", zorder=0)
        ax.set(title=title, xscale="log", xlabel="window k [steps]")
        ax.set_ylabel("loss gained over the window's end [nats]")
        ax.get_legend().remove()
    put_legend_beside(axes[0][-1], fontsize="small")
    return axes[0]
