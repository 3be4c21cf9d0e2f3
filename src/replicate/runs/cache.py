"""Two levels of cache: an experiment's table is kept whole, and inside it each run of its grid is
kept by itself.

The key of both is settings, code digest, the code and checksum of what is found by folder, and
numerics class. So an edited docstring or plot re-runs nothing, an edited optimizer everything that
uses it, and a killed experiment goes on with the first run of its grid that is not done. A run
knows its seed from its point of the grid, so `seeds` is in no run's key: eight seeds become
twenty-four by running sixteen.
"""

import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from replicate import paths
from replicate.errors import Busy, Diverged, Held, Missing, Paused, Unavailable
from replicate.progress import deadline, ends_by
from replicate.runs import backends, identity, machine, ranks, workers
from replicate.runs.digest import code_digest
from replicate.runs.pool import SEEDS
from replicate.runs.tables import (
    UNFINISHED_ROWS,
    SettingsByKey,
    provenance_of,
    read_table,
    read_with_provenance,
    write_table,
)

TABLE = "table.parquet"
SOURCE_OF_BENCHMARKS = "speed"  # what the folder benchmarks of a checkout measures
FOLDER_ARGUMENT = 3  # the place of a run's folder among the arguments of `_one`
_near: set[float] = (
    set()
)  # deadlines before which a run of this process had to stop: too near to start another


@dataclass(frozen=True)
class Runs:
    """What `each` made: all rows, and the folder of each point of the grid; run and settings, to
    make one again.
    """

    table: pd.DataFrame
    folders: Mapping[tuple, Path]
    run: Callable
    settings: object

    def parents(self, point: Mapping) -> list[Path]:
        """Folders of the points that agree with `point` on every name they share."""
        return [folder for key, folder in self.folders.items()
                if all(point.get(name, value) == value for name, value in key)]  # fmt: skip

    def restore(self) -> None:
        """Make those runs again whose files are gone or have another size than when they ended."""
        damaged = [key for key, folder in self.folders.items() if not _is_whole(folder)]
        damaged = ranks.agree(damaged)
        for key in damaged if ranks.is_first() else ():
            print(f"files of {self.folders[key]} are gone; its run is made again", file=sys.stderr)
            shutil.rmtree(self.folders[key])
        ranks.agree(None)  # they are gone
        if damaged:
            each(self.run, self.settings, [dict(key) for key in damaged])


def deviations(settings, reference) -> pd.DataFrame:
    """Where `settings` departs from `reference`: one row per field, columns field, paper, here."""
    pairs = [
        (f.name, getattr(reference, f.name), getattr(settings, f.name)) for f in fields(reference)
    ]
    pairs += [(name, "", value) for name, value in ranks.describe().items()]
    return pd.DataFrame([p for p in pairs if p[1] != p[2]], columns=["field", "paper", "here"])


def produce_or_load(experiment: Callable, settings) -> pd.DataFrame:
    """`experiment(settings)`, from disk if these settings, this code and this class of machine
    already ran.
    """
    path = run_folder(experiment, settings) / TABLE
    if ranks.agree(path.exists()):
        return read_table(path)
    from replicate.numerics import stopwatch

    elapsed = stopwatch(wall=True)
    table = experiment(settings)
    identity.check_unchanged()
    if ranks.is_first():
        code = _digest(experiment, settings)
        provenance = _provenance(experiment, settings, path.parent.name, elapsed(), code)
        write_table(path, table, provenance)
    ranks.agree(None)  # it is there
    return table


def over(experiment: Callable, settings: Mapping[str, object]) -> pd.DataFrame:
    """The experiment on each data set at hand, with columns dataset, commit, device and key added.

    settings: data set -> Settings. A data set that is missing is left out; one line on stderr says
    so.
    """
    for dataset, values in settings.items():
        try:
            produce_or_load(experiment, values)
        except Missing as error:
            print(f"going on without {dataset}: {error}", file=sys.stderr)
    return load_cached(experiment, settings)


def load_cached(experiment: Callable, settings: Mapping[str, object]) -> pd.DataFrame:
    """What `over` would give, of the runs that are on disk; empty if none is. attrs["settings"]:
    fields by key.
    """
    tables, of_key = [], SettingsByKey()
    for dataset, values in settings.items():
        path = run_folder(experiment, values) / TABLE
        if path.exists():
            table, provenance = read_with_provenance(path)
            origin = {
                "dataset": dataset,
                "commit": provenance["commit"] + ("+" if provenance["dirty"] else ""),
            }
            if not table.empty:
                tables.append(
                    table.assign(**origin, device=provenance["device"], key=provenance["key"])
                )
                of_key[provenance["key"]] = provenance["settings"]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    rows.attrs["settings"] = of_key  # the settings of each key, by field
    return rows


def each(run: Callable, settings, grid: Iterable[Mapping], after: Runs | None = None) -> Runs:
    """`run(settings, point, folder, parents, device)` for every point of the grid, side by side and
    resumable.

    run: gives a DataFrame and may leave files in `folder`; parents: folders of the points of
    `after` that agree with this one on what they share. The columns of the point are added to the
    rows. A run that diverges is one row with the step in column `diverged`. Where
    REPLICATE_DEADLINE (seconds since 1970) passes, no further run is started, one that goes by
    `progress.pieces` saves and stops before it, and Busy says how many are left.
    """
    import joblib

    points = [dict(point) for point in grid]
    home, device = run_folder(run, settings, seeds=False), backends.device_for(run)
    folders = {
        _key(point): home / "-".join(f"{name}{value}" for name, value in point.items())
        for point in points
    }
    todo = ranks.agree([point for point in points if not (folders[_key(point)] / TABLE).exists()])
    if todo and after is not None:
        after.restore()
    # Told, not left to the environment: a worker that lives on from an earlier call has the
    # environment of that one.
    context = (device, machine.read_request(), deadline(), identity.hash_imported(), os.getpid(),
               _digest(run, settings))  # fmt: skip
    tasks = [joblib.delayed(_one)(run, settings, point, folders[_key(point)], after and after.parents(point), *context)
             for point in todo]  # fmt: skip
    label = f"{source_of(run)} {settings.dataset} {run.__name__}"
    if tasks and machine.workers():
        finished = _finish_elsewhere(tasks, label, run, settings)
    else:
        finished = workers.finish(tasks, label) if tasks else 0
    if finished < len(tasks):
        raise Busy(
            f"{label}: {len(tasks) - finished} of {len(points)} runs are left; run the same command again to resume"
        )
    tables = [read_table(folder / TABLE).assign(**dict(key)) for key, folder in folders.items()]
    diverged = [step for step in map(_find_divergence, tables) if step is not None]
    if len(diverged) == len(points):
        first = min(diverged)
        raise Diverged(
            f"{label}: every run diverged, the first at step {first}; try a smaller rate", first
        )
    return Runs(pd.concat(tables, ignore_index=True), folders, run, settings)


def _key(point: Mapping) -> tuple:
    return tuple(sorted(point.items()))


def tables_in(folders: Iterable[Path]) -> list[pd.DataFrame]:
    """The tables of the runs in these folders, such as the parents of a run. Raises Missing or
    BadData.
    """
    return [read_table(folder / TABLE) for folder in folders]


def _finish_elsewhere(tasks: list, label: str, run: Callable, settings) -> int:
    """`workers.finish` on the workers of a cluster, the runs first that took longest where they have run
    before. Raises Unavailable if what a worker says it has written is not here.
    """
    from replicate.runs import cluster

    tasks = sorted(tasks, key=lambda task: -_seconds_before(run, task[1][FOLDER_ARGUMENT]))
    finished = cluster.finish(tasks, label, cluster.Grid(run, settings, _name_runs))
    written = sum((task[1][FOLDER_ARGUMENT] / TABLE).exists() for task in tasks)
    if written < finished:
        raise Unavailable(
            f"{finished - written} of {finished} runs are not in {paths.BUILD}, which has to lie on "
            "a disk that all workers share"
        )
    return finished


def _name_runs(run: Callable, settings) -> str:
    return run_folder(run, settings, seeds=False).name


def _seconds_before(run: Callable, folder: Path) -> float:
    """What this point of the grid took when it was last run, under whatever key; 0 if never."""
    former = folder.parent.parent.glob(f"{run.__name__}-*/{folder.name}/{TABLE}")
    newest = max(former, key=lambda path: path.stat().st_mtime, default=None)
    return 0.0 if newest is None else provenance_of(newest).get("seconds", 0.0)


def _one(
    run: Callable,
    settings,
    point: dict,
    folder: Path,
    parents: list[Path] | None,
    device: str,
    requested: str,
    until: float,
    code: str,
    parent: int,
    digest: str,
) -> bool:
    """One run of a grid in a process with one thread; False if the deadline has passed or comes
    before its end.

    code: what the whole package hashes to where the run was asked for; digest: of what the run
    reaches of it.
    """
    import filelock

    from replicate.numerics import one_thread, stopwatch

    if ranks.agree(time.time() > until or until in _near):
        return False
    workers.serve(parent)
    if machine.read_request() != requested:
        os.environ[machine.DEVICE] = requested
    backends.device_for(run)  # jax computes where it is told from now on
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            ranks.take_folder(folder) as home,
            filelock.FileLock(home / "lock", timeout=0),
            ends_by(until),
            one_thread(),
        ):
            if not ranks.agree((folder / TABLE).exists()):
                elapsed = stopwatch(wall=True)
                table = _or_diverged(run, settings, point, home, parents or [], device)
                identity.check_unchanged(code)
                provenance = _provenance(run, settings, folder.parent.name, elapsed(), digest)
                provenance |= {"point": point, "files": _files(home)}
                if ranks.is_first():
                    write_table(folder / TABLE, table, provenance)
                ranks.agree(None)  # it is there
    except Paused:
        if math.isfinite(until):
            _near.add(until)
        return False
    except filelock.Timeout:
        raise Held(
            f"run {folder} is being written by another process; wait until it is done, and run the same command again"
        ) from None
    except NotImplementedError:
        raise Unavailable(
            f"files in {folder} cannot be locked; work on a disk where they can"
        ) from None
    return True


def _or_diverged(
    run: Callable, settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    lost = [step for step in map(_find_divergence, tables_in(parents)) if step is not None]
    if lost:
        return pd.DataFrame([{"diverged": min(lost)}])
    try:
        return run(settings, point, folder, parents, device)
    except Diverged as error:
        return pd.DataFrame([{"diverged": error.step}])


def _find_divergence(table: pd.DataFrame) -> int | None:
    """The step at which the run of this table diverged, None if it did not."""
    return int(table.diverged.iloc[0]) if "diverged" in table else None


def _files(folder: Path) -> dict[str, int]:
    """What a run leaves behind beside its table: path in its folder -> bytes."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (TABLE, UNFINISHED_ROWS, "lock")
    ]
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _is_whole(folder: Path) -> bool:
    """Whether all files that a finished run left are there with their sizes."""
    files = provenance_of(folder / TABLE).get("files", {})
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in files.items()
    )


def run_folder(function: Callable, settings, seeds: bool = True) -> Path:
    """Where the runs of `function` under these settings, this code and this class of machine lie.

    seeds: whether `seeds` is part of the key, as of an experiment's table, or not, as of one run of
    a grid.
    """
    values = {name: value for name, value in asdict(settings).items() if seeds or name != SEEDS}
    key = key_of(
        values, _digest(function, settings), list_found_by_folder(settings),
        backends.numerics(function, settings),
    )  # fmt: skip
    return paths.BUILD / "runs" / source_of(function) / f"{function.__name__}-{key}"


def _digest(function: Callable, settings) -> str:
    return code_digest(function, tuple(sorted(list_found_by_folder(settings))))


def key_of(settings: Mapping, code: str, found_by_folder: Mapping, numerics: object) -> str:
    """The key of a run: sixteen hexadecimal digits of all that decides its numbers."""
    identified = [settings, code, found_by_folder, numerics]
    text = json.dumps(identified, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_found_by_folder(settings) -> dict[str, str]:
    """Module -> checksum of its data, of what a name in the settings chooses among the modules of a
    folder.
    """
    return getattr(settings, "found_by_folder", dict)()


def source_of(function: Callable) -> str:
    """The source an experiment or run belongs to, the stem of its notebook and claims file; else
    its package.
    """
    package = function.__module__.removeprefix("replicate.").removeprefix("sources.").split(".")[0]
    return SOURCE_OF_BENCHMARKS if package == "benchmarks" else package


def _provenance(function: Callable, settings, name: str, seconds: float, code: str) -> dict:
    try:
        commit, dirty = machine.commit()
    except Missing:
        commit, dirty = "unknown", True
    return {
        "source": source_of(function),
        "experiment": function.__name__,
        "key": name.rpartition("-")[2],
        "code": code,
        "found_by_folder": list_found_by_folder(settings),
        "settings": asdict(settings),
        "numerics": backends.numerics(function, settings),
        "device": backends.name_of(function),
        "versions": machine.versions(),
        "commit": commit,
        "dirty": dirty,
        "seconds": round(seconds, 2),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
