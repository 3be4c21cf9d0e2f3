"""Experiments that need CUDA: stages in order of value, each with its cost, run one after the other
within a budget.

A stage is one experiment on one entry of preset gpu, for which it declares why and how valuable it
is. It is missing until its table is in build/ or recorded in data/results/gpu/. Its floor is its
operations over the rate at which the device multiplies matrices; networks reach a fifth to a third
of that rate, so it takes three to five times the floor.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from replicate import runs
from replicate.app import benchmarks, registry
from replicate.errors import Failure, Unavailable, unknown
from replicate.numerics import clock, stopwatch
from replicate.progress import deadline
from replicate.sources.protocol import Experiment

PRESET = "gpu"
DRY = "smoke"


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
        recorded = runs.is_recorded(self.experiment, PRESET, self.entry, settings)
        return recorded or not runs.load_cached(self.experiment, self.settings).empty


def stages(only: str = "", dry: bool = False) -> list[Stage]:
    """Every stage, most valuable first. only: those whose name begins so; dry: at tiny sizes.

    Raises BadParameter if no stage's name begins so.
    """
    every = sorted([*_speed(dry), *_of_sources(dry)], key=lambda stage: -stage.value)
    chosen = [stage for stage in every if stage.name.startswith(only)]
    if not chosen:
        raise unknown("stage", only, (stage.name for stage in every))
    return chosen


def _of_sources(dry: bool) -> Iterable[Stage]:
    for source in registry.sources():
        try:
            experiments = list(source.values())
        except (
            ModuleNotFoundError
        ) as error:  # of another package: a source needs what a bare machine may not have
            print(f"going on without {source.name}: {error.name} is not installed", file=sys.stderr)
            continue
        for each in experiments:
            for entry, evidence in each.evidence.items():
                settings = source.presets[PRESET][entry]
                settings = source.tiny(settings) if dry else settings
                yield Stage(
                    source.name, each, entry, {entry: settings}, evidence.value, evidence.why
                )


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
    stages: list[Stage], out: Path | None, say: Callable[[str], None], preset: str = PRESET
) -> list[Stage]:
    """Run what is missing, in order, until the deadline; what is left. With `out`, each finished
    stage is a file there.

    A stage whose data are not at hand, or that fails, stays missing and does not stop the others.
    """
    missing = []
    for stage in stages:
        if stage.done:
            continue
        if time.time() > deadline():
            missing.append(stage)
            continue
        elapsed = stopwatch(wall=True)
        try:
            rows = len(runs.over(stage.experiment, stage.settings))
            missing += [] if rows else [stage]
            say(f"{stage.name}: {rows} rows, {elapsed():.1f} s")
            if out is not None:
                same = [other for other in stages if other.experiment is stage.experiment]
                settings = {
                    entry: value for other in same for entry, value in other.settings.items()
                }
                runs.export(stage.experiment, settings, preset, out)
        except Failure as failure:
            missing.append(stage)
            say(f"{stage.name}: {type(failure).__name__}: {failure}")
    return missing


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
    seconds = operations / rate
    unit, size = next(
        (u, s) for u, s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 0)) if seconds >= 2 * s
    )
    return f"{operations / 1e15:.3g} P, {seconds / (size or 1):.1f} {unit}"
