"""Sandler, Zhmoginov, Vladymyrov, Miller (2023). Training trajectories, mini-batch losses and the curious role of the
learning rate. arXiv:2301.02312.

Averaging iterates and lowering the learning rate lead to the same loss: Table 1, Lemma 2, Figures 1 and 5, measured by
side-trips that leave a main run under the schedule an average calls for. Left out so far: the single-batch figures, the
quadratic model and Appendix A (their claims read `not built yet`).
"""

from replicate.sources.sandler2023trajectories.algebra import table_1
from replicate.sources.sandler2023trajectories.cost import figure_5_operations, last_steps_operations
from replicate.sources.sandler2023trajectories.presets import ALGEBRA, PAPER, PRESETS
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.sources.sandler2023trajectories.trips import figure_5, last_steps
from replicate.sources.sandler2023trajectories.verdicts import BUILT, contrasts, measure

TITLE = "Training trajectories, mini-batch losses and the curious role of the learning rate (Sandler et al. 2023)"
EXPERIMENTS = (table_1, figure_5, last_steps)
COST = """ImageNet at 224 px is only found, never fetched; no experiment here reads it yet. Estimated from floors, not
measured: 100 000 steps of 512 images on ResNet-34 are 1.1e18 floating-point operations, 0.4 to 2 hours of one H200 a
run, and three seeds with eight branch points, all side-trips and controls about six such runs each."""
WITHOUT_DATA = (table_1,)  # run once, on ALGEBRA, at every preset
SYNTHETIC = ()  # data sets that a formula makes, at hand everywhere
OPERATIONS = {figure_5: figure_5_operations, last_steps: last_steps_operations}  # from settings, for their floor
RUNS_ON = {}  # experiment -> data sets it is meant for, where it is not all of them

__all__ = [
    "ALGEBRA",
    "BUILT",
    "COST",
    "EXPERIMENTS",
    "OPERATIONS",
    "PAPER",
    "PRESETS",
    "RUNS_ON",
    "SYNTHETIC",
    "TITLE",
    "WITHOUT_DATA",
    "Settings",
    "contrasts",
    "figure_5",
    "last_steps",
    "measure",
    "table_1",
]
