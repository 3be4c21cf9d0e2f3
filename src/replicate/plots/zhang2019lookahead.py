"""Variances, losses and rates of convergence with and without Lookahead."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from replicate.plots.style import grid, unless_empty

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
