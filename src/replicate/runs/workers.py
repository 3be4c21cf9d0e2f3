"""Worker processes: side by side while the process that asked is there, and gone when it is gone."""

import os
import signal
import sys
import threading
import time
import warnings

from replicate.errors import Killed
from replicate.progress import progress
from replicate.runs import machine, ranks

QUIET_TRACKER = "ignore:resource_tracker"  # as of python -W: what begins so
LOOK_SECONDS = 1.0  # how often a worker looks whether its parent is there


def finish(tasks: list, label: str) -> int:
    """Do the tasks side by side; how many of them ran to their end. Raises Killed if a worker was
    killed. Whoever stops this process stops the workers.
    """
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    count = 1 if ranks.count() > 1 else min(machine.jobs(), len(tasks)) or 1
    if count > 1:
        _start_tracker()
    with (
        joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1),
        warnings.catch_warnings(),
    ):
        # What is replaced nevertheless (see `_keep_worker`) is no matter of the reader's.
        warnings.filterwarnings("ignore", "A worker stopped while", UserWarning)
        try:
            done = joblib.Parallel(return_as="generator_unordered")(tasks)
            return sum(progress(done, label, total=len(tasks)))
        except TerminatedWorkerError:
            raise Killed(
                f"{label}: a worker process was killed (memory?); finished runs are kept: "
                f"run the same command again, with fewer than {count} jobs (REPLICATE_JOBS) if memory ran out"
            ) from None
        except KeyboardInterrupt:
            _stop_workers()
            raise


def serve(parent: int) -> None:
    """Called first in every task: a process other than `parent` is a worker of it."""
    _keep_worker()
    if os.getpid() != parent and os.getppid() == parent:
        if threading.current_thread() is threading.main_thread():  # a worker of Dask's has others
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer
        if not any(thread.name == _end_with.__name__ for thread in threading.enumerate()):
            threading.Thread(
                target=_end_with, args=(parent,), name=_end_with.__name__, daemon=True
            ).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, wherever it is: what it was writing is old or new."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(Killed.exit_code)


def _start_tracker() -> None:
    """Start the process that removes joblib's locks after this one was killed; by itself it would warn
    of each, and be all that a killed command says.
    """
    from joblib.externals.loky.backend import resource_tracker

    sys.warnoptions.append(QUIET_TRACKER)  # handed on to what this interpreter starts
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(QUIET_TRACKER)


def _stop_workers() -> None:
    """Kill the workers that joblib keeps for a next call, which would end their runs first."""
    from joblib.externals.loky import reusable_executor

    executor = reusable_executor._executor
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def _keep_worker() -> None:
    """Let this process grow by 2 GB before loky takes it for a leaking one and starts another.

    Its 300 MB are less than what torch, jax and scikit-learn add when the second experiment of a
    worker imports them, and a new worker takes eight seconds to import them all again. The number
    has no public name.
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = 2 * 10**9
