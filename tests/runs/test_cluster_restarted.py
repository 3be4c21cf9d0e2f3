"""A sweep outlives its scheduler, and a worker that joins late is held to the same key."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.long

from test_cluster import GRID, Settings, read_log, rows_here, walk  # noqa: E402

from replicate import errors, paths, runs  # noqa: E402
from replicate.runs import cluster, machine  # noqa: E402

HERE = Path(__file__).parent
WAIT = 90  # seconds for processes to start on a busy machine


class Processes:
    """A scheduler at one port, and workers, as a user starts them."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.folder, self.alive = f"tcp://127.0.0.1:{self.port}", folder, []

    def start(self, *words: str, path: str = f"{HERE}") -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        places = [path, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stderr=subprocess.DEVNULL
        )
        self.alive.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen:
        return self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    def start_worker(self, **options) -> subprocess.Popen:
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny", **options)


@pytest.fixture
def processes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    started = Processes(tmp_path)
    monkeypatch.setenv(machine.WORKERS, started.address)
    yield started
    for process in started.alive:
        process.kill()
        process.wait(10)


def wait_until(condition) -> None:
    until = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.1)


def answers(address: str) -> bool:
    try:
        cluster.connect(address)
        return True
    except errors.Unavailable:
        return False


def test_a_sweep_goes_on_after_its_scheduler_was_restarted(
    processes, monkeypatch, tmp_path, capsys
):
    settings = Settings(log=str(tmp_path / "log"), nap=1.0)
    first = processes.start_scheduler()
    processes.start_worker(), processes.start_worker()
    wait_until(lambda: answers(processes.address))
    tables = []
    sweep = threading.Thread(target=lambda: tables.append(runs.each(walk, settings, GRID).table))
    sweep.start()
    wait_until(lambda: Path(settings.log).exists() and len(read_log(settings)) >= 3)
    first.kill(), first.wait(10)
    for worker in processes.alive[1:]:
        worker.kill(), worker.wait(10)
    processes.start_scheduler()
    processes.start_worker()
    sweep.join(WAIT)
    (table,) = tables
    lines = read_log(settings)
    assert set(lines) == set(range(8)) and len(lines) <= 8 + 2  # what two workers were at
    serial = rows_here(walk, Settings(log=settings.log), monkeypatch, tmp_path)
    assert table.place.tolist() == serial.place.tolist()
    assert "the scheduler is gone; waiting for it" in capsys.readouterr().err


def test_a_worker_that_joins_late_with_other_code_gets_nothing(processes, tmp_path):
    other = tmp_path / "other"
    package = other / "replicate"
    shutil.copytree(paths.PACKAGE, package)
    (package / "errors.py").write_text((package / "errors.py").read_text() + "\n# other\n")
    processes.start_scheduler()
    alike = processes.start_worker()
    wait_until(lambda: answers(processes.address))
    settings = Settings(log=str(tmp_path / "log"), nap=0.5)
    tables = []
    sweep = threading.Thread(target=lambda: tables.append(runs.each(walk, settings, GRID).table))
    sweep.start()
    wait_until(lambda: Path(settings.log).exists())
    processes.start_worker(path=f"{HERE}:{other}")
    client = cluster.connect(processes.address)
    wait_until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2 or tables)
    sweep.join(WAIT)
    (table,) = tables
    assert set(table.pid) == {alike.pid}


def test_a_sweep_without_scheduler_or_worker_ends_with_a_line(processes, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    processes.start_scheduler()
    wait_until(lambda: answers(processes.address))
    with pytest.raises(errors.Unavailable, match="no worker has joined tcp://.* in 2 s; start"):
        runs.each(walk, Settings(log=str(tmp_path / "log")), GRID)
    worker = processes.start_worker()
    settings = Settings(log=str(tmp_path / "log"), nap=2.0)
    failures = []

    def sweep():
        try:
            runs.each(walk, settings, GRID)
        except errors.Failure as failure:
            failures.append(failure)

    monkeypatch.setattr(cluster, "PATIENCE", 20)
    thread = threading.Thread(target=sweep)
    thread.start()
    wait_until(lambda: Path(settings.log).exists() or failures)
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    worker.kill(), worker.wait(10)
    thread.join(WAIT)
    (failure,) = failures
    assert isinstance(failure, errors.Unavailable) and "no worker is left" in str(failure)
    assert "run the same command again to resume" in str(failure)
