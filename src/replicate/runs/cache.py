"""Two levels of cache: an experiment's table is kept whole, and inside it each run of its grid is kept by itself.

The key of both is settings, code digest and numerics class; the checksums of the data are constants of the code. So an
edited docstring or plot re-runs nothing, an edited optimizer everything that uses it, and a killed experiment goes on
with the first run of its grid that is not done.
"""

import hashlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from replicate import paths
from replicate.errors import Busy, Diverged, Killed, Missing, Paused
from replicate.progress import deadline, ends_by, progress
from replicate.runs import backends, machine
from replicate.runs.digest import code_digest
from replicate.runs.tables import provenance_of, read_table, write_table

TABLE = "table.parquet"
_near: set[float] = set()  # deadlines before which a run of this process had to stop: too near to start another


@dataclass(frozen=True)
class Runs:
    """What `each` made: all rows, and the folder of each point of the grid."""

    table: pd.DataFrame
    folders: Mapping[tuple, Path]

    def parents(self, point: Mapping) -> list[Path]:
        """Folders of the points that agree with `point` on every name they share."""
        return [f for key, f in self.folders.items() if all(point.get(n, v) == v for n, v in key)]


def deviations(settings, reference) -> pd.DataFrame:
    """Where `settings` departs from `reference`: one row a field, columns field, paper, here."""
    pairs = [(f.name, getattr(reference, f.name), getattr(settings, f.name)) for f in fields(reference)]
    return pd.DataFrame([p for p in pairs if p[1] != p[2]], columns=["field", "paper", "here"])


def produce_or_load(experiment: Callable, settings) -> pd.DataFrame:
    """`experiment(settings)`, from disk if these settings, this code and this class of machine already ran."""
    path = run_folder(experiment, settings) / TABLE
    if path.exists():
        return read_table(path)
    from replicate.numerics import stopwatch

    elapsed = stopwatch(wall=True)
    table = experiment(settings)
    write_table(path, table, _provenance(experiment, settings, path.parent.name, elapsed()))
    return table


def over(experiment: Callable, settings: Mapping[str, object]) -> pd.DataFrame:
    """The experiment on each data set at hand, with columns dataset, commit, device and key added.

    settings: data set -> Settings. A data set that is missing is left out; one line on stderr says so.
    """
    for dataset, one in settings.items():
        try:
            produce_or_load(experiment, one)
        except Missing as error:
            print(f"going on without {dataset}: {error}", file=sys.stderr)
    return cached(experiment, settings)


def cached(experiment: Callable, settings: Mapping[str, object]) -> pd.DataFrame:
    """What `over` would give, of the runs that are on disk; empty if none is. attrs["settings"]: fields by key."""
    parts, of_key = [], {}
    for dataset, one in settings.items():
        path = run_folder(experiment, one) / TABLE
        if path.exists():
            about = provenance_of(path)
            origin = {"dataset": dataset, "commit": about["commit"] + ("+" if about["dirty"] else "")}
            table = read_table(path)
            if not table.empty:
                parts.append(table.assign(**origin, device=about["device"], key=about["key"]))
                of_key[about["key"]] = about["settings"]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    rows.attrs["settings"] = of_key  # the settings of each key, by field
    return rows


def each(run: Callable, settings, grid: Iterable[Mapping], after: Runs | None = None) -> Runs:
    """`run(settings, point, folder, parents, device)` for every point of the grid, side by side and resumable.

    run: gives a DataFrame and may leave files in `folder`; parents: folders of the points of `after` that agree with
    this one on what they share. The columns of the point are added to the rows. A run that diverges is one row with the
    step in column `diverged`. Where REPLICATE_DEADLINE (seconds since 1970) passes, no further run is started, one that
    goes by `progress.pieces` saves and stops before it, and Busy says how many are left.
    """
    import joblib

    points = [dict(p) for p in grid]
    home, device = run_folder(run, settings), backends.device_for(run)
    folders = {tuple(sorted(p.items())): home / "-".join(f"{n}{v}" for n, v in p.items()) for p in points}
    todo = [p for p in points if not (folders[tuple(sorted(p.items()))] / TABLE).exists()]
    # Told, not left to the environment: a worker that lives on from an earlier call has the environment of that one.
    # So are the device and the word that names it.
    until = deadline()
    tasks = [
        joblib.delayed(_one)(
            run, settings, p, folders[tuple(sorted(p.items()))], after and after.parents(p), device,
            machine.requested(), until,
        )  # fmt: skip
        for p in todo
    ]
    label = f"{source_of(run)} {settings.dataset} {run.__name__}"
    finished = _finished(tasks, label)
    if finished < len(tasks):
        raise Busy(f"{label}: {len(tasks) - finished} of {len(points)} runs are left; the same command goes on")
    parts = [read_table(folder / TABLE).assign(**dict(key)) for key, folder in folders.items()]
    lost = [first for first in map(_diverged_at, folders.values()) if first is not None]
    if len(lost) == len(points):
        raise Diverged(f"{label}: every run diverged, the first at step {min(lost)}; try a smaller rate", min(lost))
    return Runs(pd.concat(parts, ignore_index=True), folders)


def _finished(tasks: list, label: str) -> int:
    """Do the tasks side by side; how many of them ran to their end. Raises Killed if a worker was killed."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    count = min(machine.jobs(), len(tasks)) or 1
    with joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1), warnings.catch_warnings():
        # loky takes a worker whose memory grew for a leaking one and replaces it; a data set is what it grew by.
        warnings.filterwarnings("ignore", "A worker stopped while", UserWarning)
        done = joblib.Parallel(return_as="generator_unordered")(tasks)
        try:
            return sum(progress(done, label, total=len(tasks)))
        except TerminatedWorkerError:
            raise Killed(
                f"{label}: a worker process was killed (memory?); finished runs are kept: "
                f"run the same command again, with fewer than {count} jobs (REPLICATE_JOBS) if memory ran out"
            ) from None


def _one(
    run: Callable, settings, point: dict, folder: Path, parents: list[Path] | None, device: str,
    requested: str, until: float,
) -> bool:  # fmt: skip
    """One run of a grid in a process with one thread; False if the deadline has passed or comes before its end."""
    import filelock

    from replicate.numerics import one_thread, stopwatch

    if time.time() > until or until in _near:
        return False
    if machine.requested() != requested:
        os.environ[machine.DEVICE] = requested
    backends.device_for(run)  # jax computes where it is told from now on
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=0), ends_by(until), one_thread():
            if not (folder / TABLE).exists():
                elapsed = stopwatch(wall=True)
                table = _or_diverged(run, settings, point, folder, parents or [], device)
                provenance = _provenance(run, settings, folder.parent.name, elapsed())
                write_table(folder / TABLE, table, provenance | {"point": point})
    except Paused:
        if math.isfinite(until):
            _near.add(until)
        return False
    except filelock.Timeout:
        raise Busy(f"run {folder} is being written by another process; wait until it is done") from None
    return True


def _or_diverged(run: Callable, settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    lost = [step for step in map(_diverged_at, parents) if step is not None]
    if lost:
        return pd.DataFrame([{"diverged": min(lost)}])
    try:
        return run(settings, point, folder, parents, device)
    except Diverged as error:
        return pd.DataFrame([{"diverged": error.step}])


def _diverged_at(folder: Path) -> int | None:
    """The step at which the run in `folder` diverged, None if it did not."""
    table = read_table(folder / TABLE)
    return int(table.diverged.iloc[0]) if "diverged" in table else None


def run_folder(function: Callable, settings) -> Path:
    """Where the runs of `function` under these settings, this code and this class of machine lie."""
    about = [asdict(settings), code_digest(function), backends.numerics(function, settings)]
    key = hashlib.sha256(json.dumps(about, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]
    return paths.BUILD / "runs" / source_of(function) / f"{function.__name__}-{key}"


def source_of(function: Callable) -> str:
    """The source an experiment or run belongs to, the stem of its notebook and claims file; else its package."""
    return function.__module__.removeprefix("replicate.").removeprefix("sources.").split(".")[0]


def _provenance(function: Callable, settings, name: str, seconds: float) -> dict:
    try:
        commit, dirty = machine.commit()
    except Missing:
        commit, dirty = "unknown", True
    return {
        "source": source_of(function),
        "experiment": function.__name__,
        "key": name.rpartition("-")[2],
        "code": code_digest(function),
        "settings": asdict(settings),
        "numerics": backends.numerics(function, settings),
        "device": backends.name_of(function),
        "versions": machine.versions(),
        "commit": commit,
        "dirty": dirty,
        "seconds": round(seconds, 2),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
