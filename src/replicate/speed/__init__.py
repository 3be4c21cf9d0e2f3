"""How fast this is on a GPU, beside what one writes first: goals G1 to G9 and G12, with the ceilings beside them.

Ratios are taken in one process with variants that take turns. On a CPU every line runs at the sizes of preset smoke,
which says that it works, not how fast it is.
"""

from replicate.speed.goals import GOALS
from replicate.speed.settings import PRESETS, Settings
from replicate.speed.steps import ceilings, host, script_operations, scripts, step_operations, training_step
from replicate.speed.vectors import side_by_side, wrappers

EXPERIMENTS = (ceilings, training_step, scripts, wrappers, side_by_side, host)
OPERATIONS = {training_step: step_operations, scripts: script_operations}  # from settings, for their floor

__all__ = [
    "EXPERIMENTS",
    "GOALS",
    "OPERATIONS",
    "PRESETS",
    "Settings",
    "ceilings",
    "host",
    "scripts",
    "side_by_side",
    "training_step",
    "wrappers",
]
