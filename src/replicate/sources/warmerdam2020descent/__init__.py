"""Vincent Warmerdam (2020). More Descent, Less Gradient. koaning.io, April 2020.

A gradient is dear and a step is cheap, so take more of each gradient: by Newton's method on a regression, by walking on
along one direction until the loss rises (KeepStepping), by a step length from finite differences (KeepVaulting). The
printed code has a sign error and an inverted formula, so every claim about it is judged on the code as printed and as
meant. The pictures of the figures are lost; what is judged is what the prose says of them.
"""

from replicate.sources.warmerdam2020descent.algebra import derivations
from replicate.sources.warmerdam2020descent.batches import directions, minibatches, overfit
from replicate.sources.warmerdam2020descent.clocks import break_even, shares
from replicate.sources.warmerdam2020descent.curves import (
    figure_9,
    figure_10,
    figure_11,
    figure_12,
    figure_13,
    forms,
    rates,
)
from replicate.sources.warmerdam2020descent.presets import ALGEBRA, PAPER, PRESETS, TASKS
from replicate.sources.warmerdam2020descent.regression import figure_4, figure_5, shapes, solvers
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.sources.warmerdam2020descent.verdicts import BUILT, measure

TITLE = "More Descent, Less Gradient (Warmerdam 2020)"
EXPERIMENTS = (
    derivations, figure_4, figure_5, shapes, solvers, shares, figure_9, figure_10, figure_11, figure_12, figure_13,
    directions, rates, forms, break_even, minibatches, overfit,
)  # fmt: skip
COST = """The post's own settings are small: all of it is preset cpu but for Figure 12, which at ten seeds and with
every arm takes about an hour of one core."""
WITHOUT_DATA = (derivations,)  # run once, on ALGEBRA, at every preset
SYNTHETIC = tuple(TASKS)  # every task is drawn from a formula
RUNS_ON = {
    figure_4: ("regression",),
    figure_5: ("regression",),
    shapes: ("regression",),
    solvers: ("regression", "figure13"),
    shares: ("regression", "figure9", "figure11", "figure12", "figure13", "resnet18"),
    figure_9: ("figure9",),
    figure_10: ("figure10",),
    figure_11: ("figure11",),
    figure_12: ("figure12",),
    figure_13: ("figure13", "figure13code"),
    directions: ("figure9", "figure11"),
    rates: ("figure9", "figure13"),
    forms: ("figure9",),
    break_even: ("figure9",),
    minibatches: ("minibatch",),
    overfit: ("overfit",),
}

__all__ = [
    "ALGEBRA",
    "BUILT",
    "COST",
    "EXPERIMENTS",
    "PAPER",
    "PRESETS",
    "RUNS_ON",
    "SYNTHETIC",
    "TITLE",
    "WITHOUT_DATA",
    "Settings",
    "break_even",
    "derivations",
    "directions",
    "figure_4",
    "figure_5",
    "figure_9",
    "figure_10",
    "figure_11",
    "figure_12",
    "figure_13",
    "forms",
    "measure",
    "minibatches",
    "overfit",
    "rates",
    "shapes",
    "shares",
    "solvers",
]
