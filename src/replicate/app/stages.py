"""The evidence of presets night and gpu: stages in order of value, each with its cost, run one
after the other within a budget.

A stage is one experiment on one entry of the preset, with all its seeds, for which it declares why
and how valuable it is. It is missing until its table is in build/ or its seeds are recorded in
data/results/<preset>/; seeds that are recorded, by whatever machine, are not run again. The list of
gpu gives floors: operations over the rate at which the device multiplies matrices; networks reach a
fifth to a third of that rate, so a stage takes three to five times its floor. `prospects` says more
of a stage of night.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from replicate import progress, runs
from replicate.app import benchmarks, registry
from replicate.errors import Busy, Failure, Unavailable, unknown
from replicate.numerics import clock, stopwatch
from replicate.progress import deadline, ends_by
from replicate.sources.protocol import Experiment

PRESET = "gpu"
DRY = "smoke"
MOMENT = 1e-3  # seconds between the deadlines of two stages of one call
TOO_LATE = 30  # seconds before the end of a call, in which nothing starts after a stage had to stop


@dataclass(frozen=True)
class Cost:
    """What is left of a stage on this machine: seconds until it is done, and of one seed on one
    core.
    """

    seconds: float
    seed_seconds: float


@dataclass(frozen=True)
class Stage:
    """One experiment on one entry of the preset: source, entry, settings, and why and how soon it
    should run.
    """

    source: str
    experiment: Experiment
    entry: str
    settings: Mapping[str, object]
    value: int
    why: str
    preset: str = PRESET

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.source}.{self.experiment.name}.{self.entry}"

    @property
    def operations(self) -> float | None:
        """Multiplications and additions of its networks; None where the experiment does not count
        them.
        """
        count = self.experiment.operations
        return None if count is None else sum(map(count, self.settings.values()))

    @property
    def done(self) -> bool:
        """Whether its table is in build/, or recorded at these settings by whatever code."""
        (settings,) = self.settings.values()
        if runs.is_recorded(self.experiment, self.preset, self.entry, settings):
            return True
        return (
            not self.count_remaining()
            or not runs.load_cached(self.experiment, self.remaining).empty
        )

    @property
    def remaining(self) -> Mapping[str, object]:
        """Its settings with the seeds alone that are not recorded yet, by whatever machine."""
        (settings,) = self.settings.values()
        recorded = runs.find_recorded_seeds(self.experiment, self.preset, self.entry, settings)
        seeds = tuple(seed for seed in getattr(settings, "seeds", ()) if seed not in recorded)
        return {self.entry: replace(settings, seeds=seeds)} if recorded and seeds else self.settings

    def count_remaining(self) -> int:
        """How many of its seeds are not recorded yet; 1 for an experiment without seeds."""
        (settings,) = self.settings.values()
        if not (planned := set(getattr(settings, "seeds", ()))):
            return 1
        recorded = runs.find_recorded_seeds(self.experiment, self.preset, self.entry, settings)
        return len(planned - recorded)


def stages(only: str = "", dry: bool = False, preset: str = PRESET) -> list[Stage]:
    """Every stage of a preset, most valuable first. only: those whose name begins so; dry: at tiny
    sizes.

    Raises BadParameter if no stage's name begins so.
    """
    speed = _speed(dry) if preset == PRESET else ()
    every = sorted([*speed, *_of_sources(dry, preset)], key=lambda stage: -stage.value)
    chosen = [stage for stage in every if stage.name.startswith(only)]
    if not chosen:
        raise unknown("stage", only, (stage.name for stage in every))
    return chosen


def _of_sources(dry: bool, preset: str) -> Iterable[Stage]:
    for source in registry.sources():
        try:
            experiments = list(source.values())
        except (
            ModuleNotFoundError
        ) as error:  # of another package: a source needs what a bare machine may not have
            print(f"going on without {source.name}: {error.name} is not installed", file=sys.stderr)
            continue
        for each in experiments:
            for entry, evidence in each.evidence_at(preset).items():
                settings = source.presets[preset][entry]
                value = {entry: source.tiny(settings) if dry else settings}
                yield Stage(source.name, each, entry, value, evidence.value, evidence.why, preset)


def _speed(dry: bool) -> Iterable[Stage]:
    for each in benchmarks.experiments().values():
        for entry, evidence in each.evidence.items():
            settings = benchmarks.presets()[DRY if dry else PRESET][entry]
            value = {entry: settings}
            yield Stage(benchmarks.SOURCE, each, entry, value, evidence.value, evidence.why)


# Here and not in numerics, whose every change makes all recorded results those of older code.
def matrix_rate(device: str, size: int = 8192, dtype: torch.dtype = torch.bfloat16) -> float:
    """Multiplications and additions per second of size x size matrix products, the best of five.

    Of random numbers, since a GPU multiplies zeros faster than numbers.
    """
    matrix = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 / clock({"product": lambda: matrix @ matrix}, 5, device)["product"].min()


def table(stages: Iterable[Stage], device: str) -> str:
    """One line per stage: whether it is there, its operations, and its floor at the rate measured
    on the device now.
    """
    rate = matrix_rate(device, *((8192,) if device == "cuda" else (1024,)))
    lines = [
        f"floor: at {rate / 1e12:.3g} T operations/s in bfloat16, measured on {runs.device_name(device)}"
    ]
    for number, stage in enumerate(stages, 1):
        cost = _cost(stage.operations, rate)
        lines.append(
            f"{number:3}  {'done' if stage.done else 'missing':8}{stage.name:52}{cost:30}{stage.why}"
        )
    return "\n".join(lines)


def run(
    stages: list[Stage],
    out: Path | None,
    say: Callable[[str], None],
    preset: str = PRESET,
    cost_of: Callable[[Stage], Cost | None] = lambda stage: None,
) -> list[Stage]:
    """Run what is missing, in order, until the deadline; what is left. With `out`, each finished
    stage is a file there.

    A stage whose data are not at hand, or that fails, stays missing and does not stop the others.
    cost_of: what a stage will cost, None if nobody knows. One that the deadline will stop says so
    before it starts; after it, only those start that fit into what time is left. One whose seed
    runs in one go does not start where not even a seed fits.
    """
    missing, until, stopped = [], deadline(), False
    for number, stage in enumerate(stages):
        if stage.done:
            continue
        seconds = until - time.time()
        late = seconds < (TOO_LATE if stopped else 0)
        if late or not _may_start(stage, cost_of(stage), seconds, stopped, say):
            missing.append(stage)
            continue
        try:
            # A deadline of its own: a worker that had to stop before one starts nothing before it.
            with ends_by(until - MOMENT * number):
                missing += [] if _run_stage(stage, stages, out, say, preset) else [stage]
        except Failure as failure:
            missing.append(stage)
            stopped = stopped or isinstance(failure, Busy)
            say(f"{stage.name}: {type(failure).__name__}: {failure}")
    return missing


def _may_start(
    stage: Stage, cost: Cost | None, seconds: float, stopped: bool, say: Callable[[str], None]
) -> bool:
    """Whether a stage is started so many seconds before the end; a line where they are too few."""
    if cost is None or cost.seconds <= seconds:
        return True
    if stage.experiment.whole and cost.seed_seconds > seconds:
        say(f"{stage.name}: a seed takes about {in_words(cost.seed_seconds)} in one go, and "
            f"{in_words(seconds)} are left; not started")  # fmt: skip
        return False
    if not stopped:
        say(f"{stage.name}: takes about {in_words(cost.seconds)}, and {in_words(seconds)} are left; "
            "what it does until then is kept")  # fmt: skip
    return not stopped


def _run_stage(
    stage: Stage, stages: list[Stage], out: Path | None, say: Callable[[str], None], preset: str
) -> bool:
    """Run one stage and export it; whether it has rows. Raises Failure, Busy before its end."""
    elapsed = stopwatch(wall=True)
    with progress.task(stage.name):
        rows = len(runs.over(stage.experiment, stage.remaining))
    say(f"{stage.name}: {rows} rows, {elapsed():.1f} s")
    if out is not None:
        same = [other for other in stages if other.experiment is stage.experiment]
        settings = {entry: value for other in same for entry, value in other.remaining.items()}
        runs.export(stage.experiment, settings, preset, out)
    return rows > 0


def in_words(seconds: float) -> str:
    """A time such as "2.5 h", in the largest unit of which there are two."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 0))
    unit, size = next((name, size) for name, size in units if seconds >= 2 * size)
    return f"{seconds / (size or 1):.1f} {unit}"


def ask_for(device: str) -> str:
    """The device that stages run on, for workers too. Raises Unavailable without CUDA, unless the
    CPU is asked for.
    """
    os.environ["REPLICATE_DEVICE"] = device
    if (present := runs.device()) != "cuda" and device != "cpu":
        raise Unavailable(
            "evidence needs CUDA and this machine has none; say --device cpu for a dry run at tiny sizes"
        )
    return present


def _cost(operations: float | None, rate: float) -> str:
    if operations is None:
        return "not counted"
    return f"{operations / 1e15:.3g} P, {in_words(operations / rate)}"
