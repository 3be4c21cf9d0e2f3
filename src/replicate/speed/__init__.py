"""How fast this is on a GPU, beside what one writes first: goals G1 to G9 and G12, with the ceilings beside them.

Ratios are taken in one process with variants that take turns. On a CPU every line runs at the sizes of preset smoke,
which says that it works, not how fast it is.
"""

from replicate.sources.protocol import Experiment
from replicate.speed import steps, vectors
from replicate.speed.goals import GOALS
from replicate.speed.settings import PRESETS, Settings

EXPERIMENTS = tuple(
    each for module in (steps, vectors) for each in vars(module).values() if isinstance(each, Experiment)
)

__all__ = ["EXPERIMENTS", "GOALS", "PRESETS", "Settings"]
