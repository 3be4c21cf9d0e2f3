"""What a process does that makes runs for another one: in its main thread, as joblib's, or in another
one, as Dask's workers do.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback

import pytest

from replicate import paths
from replicate.runs import workers

STARTUP = paths.ROOT / "tests" / "reliability" / "startup"  # lets WALKS_BUILD say where runs go


def serve_in_a_child(in_main_thread: bool) -> int:
    """The exit code of a child that begins a run: 0 if it ignores Ctrl-C now, 1 if it does not, 2
    if it failed.
    """
    parent, child, codes = os.getpid(), os.fork(), [2]
    if child == 0:

        def begin():
            try:
                workers.serve(parent)
                codes.append(int(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN))
            except BaseException:
                traceback.print_exc(file=sys.stderr)

        if in_main_thread:
            begin()
        else:
            thread = threading.Thread(target=begin)
            thread.start()
            thread.join()
        os._exit(codes[-1])
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def test_ctrl_c_is_for_the_parent_where_the_main_thread_makes_runs():
    assert serve_in_a_child(in_main_thread=True) == 0


def test_a_run_may_be_made_in_another_thread_which_cannot_say_what_ctrl_c_does():
    assert serve_in_a_child(in_main_thread=False) == 1


@pytest.mark.long
def test_the_cluster_file_for_this_machine_makes_runs(tmp_path):
    """Its workers are children of the command, and make runs in a thread."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    words = ["run", "warmerdam2020descent", "rates", "--preset", "smoke", "--set", "seeds=(0,)"]
    file = str(paths.ROOT / "docs" / "scale" / "local.toml")
    places = [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    build = {"WALKS_BUILD": str(tmp_path / "build"), "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-m", "replicate", *words, "--workers", file, "--out", "out"],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, env=os.environ | build,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "build").rglob("seed0/table.parquet"))) > 0
    assert "Traceback" not in done.stderr and done.stderr.count(" rows, ") == 1
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1
