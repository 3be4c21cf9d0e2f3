"""Runs of a grid on the workers of a Dask cluster; nothing but their folder is shared.

joblib hands the runs out, a thread waiting for each, and Dask decides where they run. (joblib's own
backend for Dask waits for ever once the scheduler is gone.) A worker takes runs only if it would
give them the key that they have here: the same code, data and class of numerics. A worker that is
killed gives its run to another; what a scheduler forgets when it is restarted is sent again, and
what is finished by then is found on disk.
"""

import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import joblib
from distributed import Client, KilledWorker
from distributed.comm.core import CommClosedError
from distributed.diagnostics.plugin import WorkerPlugin

from replicate import paths
from replicate.errors import Busy, Held, Killed, Unavailable
from replicate.progress import deadline, progress
from replicate.runs import backends, cluster_file, identity, machine

CONNECT = 10  # seconds in which a scheduler has to answer
PATIENCE = 120  # seconds for which a sweep waits for a scheduler that is gone, or for any worker
POLL = 0.5  # seconds between two looks at the cluster while a run goes on
ONE_RUN = "replicate"  # a resource of which a worker process has one: it computes one run at a time
MOST_WAITING = 128  # runs that are with the scheduler at once; each is a thread of this process
OF_A_CLOSED_CLIENT = (RuntimeError, UnboundLocalError)  # what Dask raises instead of a result
_clients: dict[str, Client] = {}


class Lost(Exception):
    """The scheduler is gone, or has been restarted and knows nothing of what it was sent."""


@dataclass(frozen=True)
class Grid:
    """What the runs have in common. key: (run, settings) -> their name, by all that decides it."""

    run: Callable
    settings: object
    key: Callable[[Callable, object], str]


def _wait_from_now() -> Callable[[], float]:
    from replicate.numerics import stopwatch

    return stopwatch(wall=True)


@dataclass
class Sweep:
    """One sending of the runs of a grid: what its threads share."""

    client: Client
    resource: str
    stopped: threading.Event = field(default_factory=threading.Event)
    unfit: Callable[[], float] = field(
        default_factory=_wait_from_now
    )  # s without a worker that fits
    looked: Callable[[], float] = field(default_factory=_wait_from_now)  # s since the last look
    look: threading.Lock = field(default_factory=threading.Lock)  # one thread looks for all

    def send(self, task: tuple) -> bool | None:
        """Have one run made; what it gave, None if another sweep is making it. Raises Lost."""
        needs = {self.resource: 1, ONE_RUN: 1}
        try:
            future = self.client.submit(make_unless_held, *task, pure=False, resources=needs)
            done = threading.Event()
            future.add_done_callback(lambda _: done.set())
            while not self.stopped.is_set():
                if done.wait(POLL):
                    return future.result()
                self._look()
        except (CancelledError, CommClosedError, *OF_A_CLOSED_CLIENT) as error:
            if isinstance(error, OF_A_CLOSED_CLIENT) and self.client.status == "running":
                raise  # of the run itself
            raise Lost from None
        future.cancel()
        return False

    def _look(self) -> None:
        """Raises Lost without a scheduler, Unavailable if no worker has fitted for PATIENCE."""
        if self.client.status == "closed":
            raise Lost
        if self.looked() < POLL or not self.look.acquire(blocking=False):
            return
        try:
            self._look_for_workers()
        finally:
            self.looked = _wait_from_now()
            self.look.release()

    def _look_for_workers(self) -> None:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        if any(self.resource in worker["resources"] for worker in workers):
            self.unfit = _wait_from_now()
        elif self.unfit() > PATIENCE or time.time() > deadline():
            raise Unavailable(
                f"no worker is left that can make these runs (none for {self.unfit():.0f} s); "
                "start one, and run the same command again to resume"
            )


class Fits(WorkerPlugin):
    """Gives a worker the resource that the runs of a grid need, if it would give them their key."""

    def __init__(self, grid: Grid, wanted: Mapping, mark: Path, resource: str):
        self.grid, self.wanted, self.mark, self.resource = grid, wanted, mark, resource

    async def setup(self, worker) -> None:
        """As Dask calls it, on a worker that is there and on one that joins later."""
        here = describe(self.grid, self.wanted["asked"], self.mark)
        if not list_differences(here, self.wanted):
            await worker.set_resources(**{self.resource: 1, ONE_RUN: 1})


def finish(tasks: list, label: str, grid: Grid) -> int:
    """Do the tasks on the cluster that REPLICATE_WORKERS names; how many of them ran to their end.

    tasks: as `joblib.delayed` makes them. A line on stderr names each worker that is left out.
    Raises Unavailable without a scheduler or a worker that fits, Killed if a run kills its workers.
    """
    left, finished = list(tasks), 0
    while left and time.time() <= deadline():
        outcomes: dict[int, bool | None] = {}
        try:
            with _place(connect(machine.workers()), grid) as sweep:
                for number, outcome in progress(_send(left, sweep), label, total=len(left)):
                    outcomes[number] = outcome
        except KilledWorker as error:
            raise Killed(
                f"{label}: a run killed {error.allowed_failures + 1} workers (memory?); finished "
                "runs are kept: run the same command again, with more memory for a worker"
            ) from None
        except Lost:
            print(f"{label}: the scheduler is gone; waiting for it", file=sys.stderr)
            _wait_for_scheduler()
        finished += sum(map(bool, outcomes.values()))
        if not any(outcome is None for outcome in outcomes.values()) and len(outcomes) == len(left):
            break
        left = [task for number, task in enumerate(left) if outcomes.get(number) is None]
        time.sleep(POLL)
    return finished


def _send(tasks: list, sweep: Sweep) -> Iterator[tuple[int, bool | None]]:
    """(number, what it gave) of every task, as they end."""
    count = min(len(tasks), MOST_WAITING)
    jobs = (joblib.delayed(lambda n, t: (n, sweep.send(t)))(*each) for each in enumerate(tasks))
    with joblib.parallel_config("threading", n_jobs=count):
        try:
            yield from joblib.Parallel(return_as="generator_unordered", pre_dispatch=count)(jobs)
        finally:
            sweep.stopped.set()


def make_unless_held(function: Callable, arguments: tuple, options: Mapping) -> bool | None:
    """What the call gives; None if another process is making this run."""
    try:
        return function(*arguments, **options)
    except Held:
        return None


@contextmanager
def _place(client: Client, grid: Grid) -> Iterator[Sweep]:
    """The workers that fit have a resource of the grid's, those that join later too."""
    mark = paths.BUILD / "runs" / f".shared-{uuid.uuid4().hex}"
    paths.write_atomic(mark, b"")
    try:
        wanted = describe(grid, machine.read_request(), mark)
        _refuse_others(client, grid, wanted, mark)
        sweep = Sweep(client, f"{wanted['key']}-{mark.name.rpartition('-')[2]}")
        client.register_plugin(Fits(grid, wanted, mark, sweep.resource), name=sweep.resource)
        try:
            yield sweep
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(sweep.resource)
    except (CommClosedError, OSError) as error:
        if client.status == "running":
            raise
        raise Lost from error
    finally:
        mark.unlink(missing_ok=True)


def describe(grid: Grid, device: str, mark: Path) -> dict[str, object]:
    """What has to be the same here and at a worker, by its name, the key of the runs last.

    device: what REPLICATE_DEVICE says where the sweep was asked for; mark: a file that is there.
    """
    if machine.read_request() != device:
        os.environ[machine.DEVICE] = device
    backends.device_for(grid.run)  # jax computes where it is told from now on
    return {
        "shared": mark.exists(),
        "code": identity.hash_imported()[:12],
        "asked": device,
        **backends.numerics(grid.run, grid.settings),
        **{f"{name}'s version": number for name, number in machine.versions().items()},
        "key": grid.key(grid.run, grid.settings),
    }


def list_differences(there: Mapping, here: Mapping) -> list[str]:
    """Why a worker would not give a run the key that it has here; empty if it would.

    What differs and is in no key, such as the last digit of a version, is no reason by itself.
    """
    if not there["shared"]:
        return ["it does not see the results folder of this process"]
    if there["code"] == here["code"] and there["key"] == here["key"]:
        return []
    names = [name for name in here if name != "shared" and there.get(name) != here[name]]
    return [f"{name} {there.get(name)}, here {here[name]}" for name in names]


def _refuse_others(client: Client, grid: Grid, wanted: Mapping, mark: Path) -> None:
    """A line on stderr for each worker that will get none of these runs. Raises Unavailable if all
    of those that are there are such.
    """
    _wait_for_workers(client)
    answers = client.run(describe, grid, wanted["asked"], mark, on_error="return")
    reasons = {
        address: _explain(answer)
        if isinstance(answer, BaseException)
        else list_differences(answer, wanted)
        for address, answer in answers.items()
    }
    refused = {address: "; ".join(why) for address, why in reasons.items() if why}
    if len(refused) == len(answers):
        address, why = next(iter(refused.items()))
        remedy = "REPLICATE's build/ has to lie on a disk that all share: " + str(paths.BUILD)
        more = remedy if "results folder" in why else f"{len(refused)} of {len(answers)} workers"
        raise Unavailable(f"no worker can make these runs: {address}: {why} ({more})")
    for address, why in refused.items():
        print(f"going on without worker {address}: {why}", file=sys.stderr)


def _explain(error: BaseException) -> list[str]:
    return [f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0]}"]


def _wait_for_workers(client: Client) -> None:
    """Raises Unavailable if none joins within PATIENCE, or what a cluster file says."""
    if client.scheduler_info(n_workers=-1)["workers"]:
        return
    seconds = min(cluster_file.patience(machine.workers(), PATIENCE), deadline() - time.time())
    try:
        client.wait_for_workers(1, timeout=max(seconds, 1))
    except TimeoutError:
        raise Unavailable(
            f"no worker has joined {machine.workers()} in {seconds:.0f} s; start some with "
            f"dask worker {client.scheduler.address} --nthreads 1"
        ) from None


def connect(where: str) -> Client:
    """The client of the cluster at an address, or of the one that a file describes, which is
    started; the same one at every call as long as it is alive.

    Raises Unavailable if nobody answers there; BadParameter, Missing or BadData for the file.
    """
    if where not in _clients or _clients[where].status != "running":
        place = cluster_file.start(where) if cluster_file.is_file_name(where) else where
        _clients[where] = _open(place, where)
    return _clients[where]


def _open(place: object, where: str) -> Client:
    """place: an address, or a cluster that runs in this process."""
    if isinstance(place, str):
        _need_listener(place)
    try:
        return Client(place, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise _silent(where, error) from None


def _need_listener(address: str) -> None:
    """Raises Unavailable at once where no process listens; Dask would try for a while."""
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except (OSError, ValueError) as error:
        raise _silent(address, error) from None


def _silent(where: str, error: Exception) -> Unavailable:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return Unavailable(
        f"no scheduler answers at {where} ({reason}); "
        "start one with dask scheduler, or leave out --workers"
    )


def _wait_for_scheduler() -> None:
    """Raises Busy if it is not back after PATIENCE."""
    until = min(time.time() + PATIENCE, deadline())
    while True:
        try:
            connect(machine.workers())
            return
        except Unavailable as error:
            if time.time() > until:
                raise Busy(
                    f"{error}; finished runs are kept: run the same command again to resume"
                ) from None
            time.sleep(POLL)
