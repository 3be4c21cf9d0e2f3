"""Variances, losses and rates of convergence with and without Lookahead."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.style import grid, interval, unless_empty

PANELS = (("a^2", 100), ("a^2", 1000), ("1", 1000))  # noise and steps that are drawn
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
    ax.legend(frameon=False, fontsize="small", title="")
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
        ax.legend(frameon=False, fontsize="x-small")
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
        ax.legend(frameon=False, fontsize="small", title="")
    return axes[0]


@unless_empty
def loss_by_arm(table: pd.DataFrame) -> np.ndarray:
    """Test loss at the end by rate, a line an arm, 95 % intervals; a panel a schedule: (panels,).

    table: what `decomposition` gives, of one data set.
    """
    schedules = list(table.schedule.unique())
    _, axes = grid(1, len(schedules), (4.6, 3.4), sharey="row")
    for ax, schedule in zip(axes[0], schedules, strict=True):
        panel = table[(table.schedule == schedule) & table.grid]
        sns.lineplot(panel, x="lr", y="test_loss", hue="arm", style="arm", errorbar=interval, ax=ax)
        ax.set(xscale="log", yscale="log", xlabel="rate", ylabel="test loss [nats]")
        ax.set_title(f"{schedule} rate")
        ax.legend(frameon=False, fontsize="small", title="")
    return axes[0]


@unless_empty
def accuracy_by_setup(table: pd.DataFrame) -> Axes:
    """Test accuracy at the end by what the inner SGD was handed, a dot a seed, means with 95 %
    intervals.

    table: what `replication` gives, of one data set.
    """
    _, ((ax,),) = grid(1, 1, (5.2, 2.6))
    sns.stripplot(table, x="top1", y="arm", color="0.7", size=3, ax=ax)
    sns.pointplot(table, x="top1", y="arm", errorbar=interval, linestyle="none", ax=ax)
    ax.set(xlabel="test top-1 [fraction]", ylabel="")
    return ax


@unless_empty
def accuracy_within_cycle(table: pd.DataFrame) -> np.ndarray:
    """Test accuracy by place in a cycle, statistics of BatchNorm as they are and re-estimated.

    table: what `within_cycle` gives, of one data set. A panel a probe, (panels,) axes.
    """
    probes = list(table.probe.unique())
    _, axes = grid(1, len(probes), (4.6, 3.2))
    means = table.groupby(["seed", "probe", "norm", "place"], as_index=False).top1.mean()
    for ax, probe in zip(axes[0], probes, strict=True):
        panel = means[means.probe == probe].sort_values("place", key=_order_places)
        sns.lineplot(panel, x="place", y="top1", hue="norm", style="norm", errorbar=interval, ax=ax)
        ax.set(title=f"after {probe} of the rate", xlabel="inner step, and the pull")
        ax.set_ylabel("test top-1 [fraction]")
        ax.legend(frameon=False, fontsize="small", title="BatchNorm")
    return axes[0]


def _order_places(places: pd.Series) -> pd.Series:
    """Steps in their order and the pull behind them, as numbers."""
    return places.replace({"pull": np.inf}).astype(float)
