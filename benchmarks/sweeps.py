"""Goal C13: what a sweep of short runs costs beside the runs, on two Dask workers of this machine and
on joblib's processes, which make the same runs where no cluster is named.

    share of ideal = runs x nap / (workers x seconds of the sweep)

A run rests instead of computing, so that what else the machine does lengthens the handing out alone.
Publishing is all that a run costs beside itself: its lock, its provenance, its file, and the way back
into the table.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import harness
from replicate import paths, runs
from replicate.numerics import clock, stopwatch
from replicate.runs import machine
from replicate.streams import rng

JOBS = "REPLICATE_JOBS"
HERE = "joblib's processes"
DASK = "Dask workers"


@dataclass(frozen=True)
class Size:
    """sweep: runs of a sweep; nap: seconds of a run; published: runs without a nap; processes: whether
    Dask's workers are processes of their own, or threads of this one.
    """

    sweep: int = 1000
    nap: float = 0.1
    workers: int = 2
    published: int = 100
    rounds: int = 3
    processes: bool = True


FULL = Size()
TINY = Size(sweep=2, nap=0.0, workers=1, published=2, rounds=1, processes=False)


@dataclass(frozen=True)
class Settings:
    """What the runs are told. turn: of the sweep, so that none is there already."""

    nap: float
    turn: str
    dataset: str = "naps"


def nap_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Rests, and draws a number."""
    time.sleep(settings.nap)
    return pd.DataFrame({"drawn": [rng(point["seed"], "init", 0).normal()]})


def measure(size: Size) -> Iterator[harness.Table]:
    """Publishing, then sweeps."""
    with tempfile.TemporaryDirectory() as folder:
        with _write_to(Path(folder), {JOBS: "1", machine.WORKERS: ""}):
            publishing = measure_publishing(size)
        yield publishing
        with _write_to(Path(folder), {JOBS: str(size.workers), machine.WORKERS: ""}):
            sweeps = measure_sweeps(size)
        yield sweeps


def measure_publishing(size: Size) -> harness.Table:
    """Milliseconds that a run without a nap takes, one after the other in this process."""
    key = harness.choose("C13 publish", size == FULL)
    turns = iter(range(2 * size.rounds + 2))

    def publish() -> pd.DataFrame:
        return sweep(Settings(0.0, f"publish {next(turns)}"), size.published)

    passed = []
    for _ in range(size.rounds + 1):
        elapsed = stopwatch(wall=True)
        publish()
        passed.append(elapsed())
    taken = clock({"": publish}, size.rounds)[""]
    rows = [
        harness.Row(name, what, "ms", 1e3 * np.asarray(seconds) / size.published)
        for name, what, seconds in (
            (key, "of the processor", taken),
            ("", "that pass, with two waits for the disk", passed[1:]),
        )
    ]
    return harness.Table("publishing a run", rows)


def measure_sweeps(size: Size) -> harness.Table:
    """The start of a cluster, and the shares of the ideal by turns, of which results are equal."""
    import distributed

    elapsed = stopwatch(wall=True)
    with distributed.LocalCluster(
        n_workers=size.workers,
        threads_per_worker=1,
        processes=size.processes,
        protocol="tcp://",  # threads too have an address
        dashboard_address=None,
        silence_logs=50,
    ) as cluster:
        places = {HERE: "", DASK: cluster.scheduler_address}
        sweep(Settings(0.0, "start"), 1, places[DASK])
        start = elapsed()
        for place in places.values():  # so that every worker has imported everything
            sweep(Settings(0.2 * size.processes, f"warm {place}"), 2 * size.workers, place)
        seconds, drawn = {name: [] for name in places}, {}
        for turn in range(size.rounds):
            for name, place in places.items():
                elapsed = stopwatch(wall=True)
                table = sweep(Settings(size.nap, f"{name} {turn}"), size.sweep, place)
                seconds[name].append(elapsed())
                drawn[name] = table.drawn.to_numpy()
        _let_go(places[DASK])
    title = f"{size.sweep} runs of {size.nap:g} s, {size.workers} at once"
    harness.check_equal(title, drawn, 0, 0)
    ideal = size.sweep * size.nap / size.workers
    rows = [
        harness.Row(
            harness.choose("C13 Dask", size == FULL) if name == DASK else "",
            name, "of ideal", ideal / np.asarray(taken),
        )
        for name, taken in seconds.items()
    ]  # fmt: skip
    ratio = np.asarray(seconds[HERE]) / np.asarray(seconds[DASK])
    rows.append(harness.Row("", f"{HERE} over {DASK}", "ratio", ratio))
    key = harness.choose("C13 start", size == FULL)
    rows.append(harness.Row(key, "from no cluster to the end of its first run", "s", [start]))
    return harness.Table(title, rows)


def sweep(settings: Settings, count: int, where: str = "") -> pd.DataFrame:
    """The rows of `count` runs, made by the workers at an address, or here."""
    os.environ[machine.WORKERS] = where
    return runs.each(nap_run, settings, [{"seed": seed} for seed in range(count)]).table


def _let_go(address: str) -> None:
    """Of the cluster, before it is stopped: else the client would go on asking for it."""
    from replicate.runs import cluster

    cluster.connect(address).close()


@contextmanager
def _write_to(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Runs go to `folder`, and the variables are set, within the block."""
    build, before = paths.BUILD, {name: os.environ.get(name) for name in variables}
    paths.BUILD = folder
    os.environ.update(variables)
    try:
        yield
    finally:
        paths.BUILD = build
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
