"""Jobs become ratios here: equal results first, then turns by the one clock, then one table.

    ratio of a round = seconds of the other job / seconds of ours, both of that round

A topic is a file of this folder with `measure(size)`, which yields tables, and its sizes FULL and
TINY; or a file of `gpu/`, which declares an experiment of its name.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from types import ModuleType

import numpy as np
import pandas as pd

import benchmarks
import benchmarks.gpu
from benchmarks.goals import GOALS, choose, get_goal, list_goals
from replicate import paths, runs
from replicate.errors import BadData, unknown
from replicate.numerics import clock, one_thread
from replicate.sources.protocol import Experiment

ROUNDS = 9  # odd, so that the median is a round that was measured
# And names that begin with an underscore.
NOT_TOPICS = ("goals", "harness", "inputs", "peers", "peers_in_jax")
NOT_GPU_TOPICS = ("settings",)
COLUMNS = ("goal", "what", "unit", "value", "low", "high", "rounds", "at_least", "at_most", "met")

Job = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A measurement. goal: its key in `goals.GOALS`, or ""; values: of every round."""

    goal: str
    what: str
    unit: str
    values: Sequence[float]


@dataclass(frozen=True)
class Table:
    """What a topic printed together."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Comparison:
    """Jobs that take turns, the last of them ours.

    results: gives what every job computes, by name; nothing is timed unless they are equal within
    `tolerance`, relative and absolute. goals: key -> (the other job, ours), whose ratio is held
    against it; every other job is compared with the last one. is_stated: whether this is the size
    that the goals are stated for; at another one nothing is held against them.
    """

    title: str
    jobs: Mapping[str, Job]
    results: Callable[[], Mapping[str, np.ndarray]]
    tolerance: tuple[float, float]
    goals: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rounds: int = ROUNDS
    warm: int = 1
    is_stated: bool = True


def compare(comparison: Comparison) -> Table:
    """The ratios of a comparison. Raises BadData, and times nothing, unless results are equal."""
    check_equal(comparison.title, comparison.results(), *comparison.tolerance)
    return Table(comparison.title, list_ratios(comparison, take_turns(comparison)))


def take_turns(comparison: Comparison) -> dict[str, np.ndarray]:
    """CPU seconds of every job in every round, on one thread."""
    with one_thread():
        return clock(comparison.jobs, comparison.rounds, warm=comparison.warm)


def list_ratios(comparison: Comparison, seconds: Mapping[str, np.ndarray]) -> list[Row]:
    """A row per goal, then one per job that no goal names, over the last job."""
    last = list(comparison.jobs)[-1]
    is_stated = comparison.is_stated
    pairs = [(choose(key, is_stated), *pair) for key, pair in comparison.goals.items()]
    compared = {peer for _, peer, _ in pairs}
    pairs += [("", job, last) for job in comparison.jobs if job != last and job not in compared]
    return [
        Row(key, f"{peer} over {job}", "ratio", seconds[peer] / seconds[job])
        for key, peer, job in pairs
    ]


def check_equal(
    title: str, results: Mapping[str, np.ndarray], relative: float, absolute: float
) -> None:
    """Raise BadData, which names the job, unless all results are near the last one's."""
    *others, last = results
    reference = np.asarray(results[last])
    for name in others:
        result = np.asarray(results[name])
        near = result.shape == reference.shape and np.allclose(
            result, reference, relative, absolute
        )
        if not near:
            raise BadData(f"{title}: results of {name!r} and {last!r} differ; nothing was timed")


def make_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A line per row: median of the rounds with the smallest and largest, bounds, and `met`.

    `met` is "yes" only if every round meets the goal, "no" if none does, "in part" otherwise, and
    "" without a goal; bounds are NaN where they are open.
    """
    return pd.DataFrame([_make_line(row) for row in rows], columns=list(COLUMNS))


def _make_line(row: Row) -> tuple:
    values = np.asarray(row.values, dtype=float)
    numbers = (float(np.median(values)), values.min(), values.max(), len(values))
    if not row.goal:
        return ("", row.what, row.unit, *numbers, np.nan, np.nan, "")
    goal = get_goal(row.goal)
    bounds = [np.nan if bound is None else bound for bound in (goal.least, goal.most)]
    return (row.goal, row.what, row.unit, *numbers, *bounds, goal.judge(values))


def format_table(title: str, frame: pd.DataFrame) -> str:
    """The one format: a title, then per row its median, range, unit and goal."""
    lines = [title]
    for row in frame.itertuples():
        between = f"rounds {row.low:.4g} to {row.high:.4g}" if row.rounds > 1 else ""
        line = f"  {row.what:72} {row.value:10.4g} {row.unit:12} {between:30}"
        if row.goal:
            line += f" goal {row.goal}: {GOALS[row.goal].bounds}, met: {row.met}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def describe_machine(device: str) -> str:
    """On what the numbers were measured, in a line."""
    commit, dirty = runs.commit()
    unit = "CPU seconds, one thread" if device == "cpu" else "seconds between two events"
    torch = version("torch")
    return f"{unit}; {runs.device_name(device)}, torch {torch}, commit {commit}{'+' * dirty}"


def list_topics() -> list[str]:
    """The topics of a CPU, found by folder."""
    return [name for name in _list_modules(benchmarks) if name not in NOT_TOPICS]


def list_gpu_topics() -> list[str]:
    """The topics of a GPU, found by folder."""
    return [name for name in _list_modules(benchmarks.gpu) if name not in NOT_GPU_TOPICS]


def _list_modules(package: ModuleType) -> list[str]:
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(m.name for m in modules if not m.name.startswith("_") and not m.ispkg)


def load_experiments() -> dict[str, Experiment]:
    """Name -> experiment of every GPU topic."""
    modules = {name: _import(f"gpu.{name}") for name in list_gpu_topics()}
    return {name: getattr(module, name) for name, module in modules.items()}


def _import(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def run_topics(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Measure topics, all that this machine is fit for if none is named.

    Raises BadParameter for a name that is no topic, before anything is measured.
    """
    topics = [*list_topics(), *list_gpu_topics()]
    for name in names:
        if name not in topics:
            raise unknown("topic", name, topics)
    device = runs.device()
    if not names and device != "cuda":
        say(f"going on without {', '.join(list_gpu_topics())}: they are of a GPU; name one to try")
    for name in names or (topics if device == "cuda" else list_topics()):
        run_topic(name, device, say)
    if not names:
        say(list_goals([""]))


def run_topic(name: str, device: str, say: Callable[[str], None]) -> None:
    """Measure one topic; its tables are said one by one and written to build/bench/<topic>.txt."""
    lines = []
    is_of_gpu = name in list_gpu_topics()
    head = f"{name}: {describe_machine(device if is_of_gpu else 'cpu')}"
    tables = _measure_on_gpu(name, device) if is_of_gpu else _measure(name)
    for text in (head, *tables, list_goals([name])):
        say(text)
        lines.append(text)
        paths.write_atomic(paths.BUILD / "bench" / f"{name}.txt", "\n".join([*lines, ""]).encode())


def _measure(name: str) -> Iterator[str]:
    module = _import(name)
    for table in module.measure(module.FULL):
        yield format_table(table.title, make_frame(table.rows))


def _measure_on_gpu(name: str, device: str) -> Iterator[str]:
    presets = _import("gpu.settings").PRESETS
    settings = presets["gpu" if device == "cuda" else "smoke"]["synthetic"]
    title = name if device == "cuda" else f"{name}, at tiny sizes, which say only that it runs"
    yield format_table(title, runs.produce_or_load(load_experiments()[name], settings))
