"""What a GPU is wanted for, the most valuable first, what each stage costs at least, and what is still missing.

A stage is one experiment at one setting of preset gpu. It is missing until its table is in `build/` or recorded in
`data/results/gpu/`. Its floor is its operations over the rate at which the device multiplies matrices; networks reach
a fifth to a third of that rate, so it takes three to five times the floor.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from replicate import floors, report, runs
from replicate.errors import BadParameter, Failure, Unavailable, unknown
from replicate.progress import deadline

PRESET, DRY, SPEED = "gpu", "smoke", "speed"


@dataclass(frozen=True)
class Stage:
    """An experiment of a source on one data set of preset gpu.

    changes: in its settings; label: its data set's name in verdicts, where another stage has that name; tiny: what a
    dry run changes, which without it takes preset smoke's settings.
    """

    source: str
    experiment: str
    dataset: str
    why: str
    changes: Mapping[str, object] = field(default_factory=dict)
    label: str = ""
    tiny: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.source}.{self.experiment}.{self.label or self.dataset}"


TRAJECTORIES, LARGER = "sandler2023trajectories", {"model": "resnet34", "seeds": (0,)}
FEW = {"model": "resnet8", "width": 4, "stem": "stride2", "batch": 16, "warmup": 2, "seeds": (0,), "first_branch": 6,
       "branches": 2, "branch_every": 6, "two_point": (2, 6), "swa": (2, 6), "ema": (2, 6), "controls": (2,),
       "last_windows": (2, 6), "train_images": 64, "norm_batches": 1, "norm_batch": 32}  # fmt: skip
FEWER = FEW | {"branches": 1}
STAGES = (
    *(Stage(SPEED, one, "synthetic", why) for one, why in (
        ("ceilings", "what the device can do at best"),
        ("training_step", "G2, G3, G12"),
        ("scripts", "G1, G4"),
        ("wrappers", "G5, G6, G7"),
        ("side_by_side", "G8"),
        ("host", "G9"),
    )),
    Stage(TRAJECTORIES, "figure_5", "cifar10", "Figure 5: all kernels and controls, ResNet-18", tiny=FEW),
    Stage(TRAJECTORIES, "last_steps", "cifar10", "Table 1's caption, ResNet-18", tiny=FEW),
    Stage("fabi2021extrapolation", "search", "cifar10", "the rates of every arm, ResNet-18"),
    Stage("fabi2021extrapolation", "networks", "cifar10", "extrapolation and its controls, ResNet-18"),
    Stage("warmerdam2020descent", "shares", "resnet18", "what a walk saves on a ResNet-18"),
    Stage("warmerdam2020descent", "figure_12", "figure12", "KeepStepping at the source's full size"),
    Stage("warmerdam2020descent", "figure_13", "figure13", "KeepStepping at the source's full size"),
    Stage(TRAJECTORIES, "figure_5", "cifar10", "Figure 5, ResNet-34", LARGER, "cifar10-resnet34", FEWER),
    Stage(TRAJECTORIES, "figure_5", "cifar100", "Figure 10's other half", tiny=FEW),
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A stage with what it runs. settings: Settings by the data set's name; count: Settings -> operations, if known."""

    stage: Stage
    experiment: Callable
    settings: Mapping[str, object]
    count: Callable[[object], float] | None

    @property
    def operations(self) -> float | None:
        """Multiplications and additions of its networks; None where the source does not count them."""
        return None if self.count is None else sum(map(self.count, self.settings.values()))

    @property
    def done(self) -> bool:
        """Whether its table is in build/, or recorded at these settings by whatever code."""
        ((label, own),) = self.settings.items()
        return not runs.cached(self.experiment, self.settings).empty or runs.recorded_at(
            self.experiment, PRESET, label, own
        )


def stages(only: str = "", dry: bool = False) -> list[Work]:
    """The stages whose source and experiment exist, in order. only: those whose name begins so; dry: at tiny sizes.

    Raises BadParameter if no stage's name begins so.
    """
    found = [work for stage in STAGES if (work := _work(stage, dry)) and stage.name.startswith(only)]
    if not found:
        raise unknown("stage", only, (stage.name for stage in STAGES))
    return found


def table(works: Iterable[Work], device: str) -> str:
    """A line a stage: whether it is there, its operations, and its floor at the rate measured on the device now."""
    rate = floors.matrix_rate(device, *((8192,) if device == "cuda" else (1024,)))
    lines = [f"floor: at {rate / 1e12:.3g} T operations/s in bfloat16, measured on {runs.device_name(device)}"]
    for number, work in enumerate(works, 1):
        cost = _cost(work.operations, rate)
        lines.append(f"{number:3}  {'done' if work.done else 'missing':8}{work.stage.name:52}{cost:30}{work.stage.why}")
    return "\n".join(lines)


def run(works: list[Work], out: Path | None, say: Callable[[str], None], preset: str = PRESET) -> list[Work]:
    """Run what is missing, in order, until the deadline; what is left. With `out`, each finished stage is a file there.

    A stage whose data are not at hand, or that fails, is left over and does not stop the others.
    """
    left = []
    for work in works:
        if work.done or time.time() > deadline():
            left += [] if work.done else [work]
            continue
        start = time.perf_counter()
        try:
            rows = len(runs.over(work.experiment, work.settings))
            left += [] if rows else [work]
            say(f"{work.stage.name}: {rows} rows, {time.perf_counter() - start:.1f} s")
            if out is not None:
                same = [other for other in works if other.experiment is work.experiment]
                runs.export(work.experiment, {k: v for one in same for k, v in one.settings.items()}, preset, out)
        except Failure as failure:
            left.append(work)
            say(f"{work.stage.name}: {type(failure).__name__}: {failure}")
    return left


def ask_for(device: str) -> str:
    """The device that stages run on, for workers too. Raises Unavailable without CUDA, unless the CPU is asked for."""
    os.environ["REPLICATE_DEVICE"] = device
    if (found := runs.device()) != "cuda" and device != "cpu":
        raise Unavailable("evidence needs CUDA and this machine has none; say --device cpu for a dry run at tiny sizes")
    return found


def _work(stage: Stage, dry: bool) -> Work | None:
    """None where the source or its experiment does not exist, or has not this data set."""
    try:
        module = importlib.import_module("replicate.speed") if stage.source == SPEED else report.source(stage.source)
    except BadParameter:
        return None
    except ModuleNotFoundError as error:  # of another package: a source needs what a bare machine may not have
        print(f"going on without {stage.name}: {error.name} is not installed", file=sys.stderr)
        return None
    experiment = {one.__name__: one for one in module.EXPERIMENTS}.get(stage.experiment)
    own = module.PRESETS[PRESET].get(stage.dataset)
    if experiment is None or own is None:
        return None
    own = replace(own, **stage.changes)
    if dry:
        own = replace(own, **stage.tiny) if stage.tiny else _smallest(module, experiment, stage)
    count = getattr(module, "OPERATIONS", {}).get(experiment)
    return Work(stage, experiment, {stage.label or stage.dataset: own}, count)


def _smallest(module: ModuleType, experiment: Callable, stage: Stage):
    """Preset smoke's settings of the stage's data set, else of the first that the experiment is meant for."""
    chosen = (
        module.PRESETS[DRY] if stage.source == SPEED else report.settings_of(module, experiment, module.PRESETS[DRY])
    )
    return chosen.get(stage.dataset) or next(iter(chosen.values()))


def _cost(operations: float | None, rate: float) -> str:
    if operations is None:
        return "not counted"
    seconds = operations / rate
    unit, size = next((u, s) for u, s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 0)) if seconds >= 2 * s)
    return f"{operations / 1e15:.3g} P, {seconds / (size or 1):.1f} {unit}"
