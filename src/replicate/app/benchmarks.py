"""The folder benchmarks of a checkout, which measures speed: its experiments, presets and goals.

It is not of the package, so that whoever installs it imports no competitor's script; where there is
no checkout nothing of speed is offered.
"""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType

from replicate import paths
from replicate.sources.protocol import Experiment

SOURCE = "speed"  # under which the records of its experiments are kept, see runs.cache.source_of
BENCHMARKS = "benchmarks"


def are_there() -> bool:
    """Whether this package lies in a checkout with the folder."""
    return (paths.ROOT / BENCHMARKS / "__init__.py").is_file()


def experiments() -> dict[str, Experiment]:
    """Name -> experiment that measures speed on a GPU; empty, with a line on stderr, without it."""
    if not are_there():
        print(f"going on without speed: no folder {BENCHMARKS} in {paths.ROOT}", file=sys.stderr)
        return {}
    return _load("harness").load_experiments()


def presets() -> Mapping[str, Mapping[str, object]]:
    """Preset -> entry -> settings of these experiments; empty without the folder."""
    return _load("gpu.settings").PRESETS if are_there() else {}


def goal_in_words(key: str) -> tuple[str, str]:
    """(number, wanted range) of a goal's key, such as ("G1", "at least 4"); empty for no goal."""
    goal = _load("goals").GOALS.get(key)
    return (goal.number, goal.bounds) if goal else ("", "")


def _load(name: str) -> ModuleType:
    # On the path, not loaded from its file: a worker process imports the experiment by its name.
    if str(paths.ROOT) not in sys.path:
        sys.path.insert(0, str(paths.ROOT))
    return importlib.import_module(f"{BENCHMARKS}.{name}")
