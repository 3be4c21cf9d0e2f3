"""What a process does that makes runs for another one: in its main thread, as joblib's, or in another
one, as Dask's workers do.
"""

import os
import subprocess
import sys

import pytest

from replicate import paths

STARTUP = paths.ROOT / "tests" / "reliability" / "startup"  # lets WALKS_BUILD say where runs go


BEGIN = """
import signal, sys, threading
from replicate.runs import workers

def begin():
    workers.serve(int(sys.argv[2]))
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)

if sys.argv[1] == "main":
    begin()
else:
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
"""


def begin_in_a_child(thread: str) -> str:
    """What a child of this process prints that begins a run in its main thread, or in another:
    whether it ignores Ctrl-C now. Nothing if it failed.
    """
    words = [sys.executable, "-c", BEGIN, thread, str(os.getpid())]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60).stdout.strip()


def test_ctrl_c_is_for_the_parent_where_the_main_thread_makes_runs():
    assert begin_in_a_child("main") == "True"


def test_a_run_may_be_made_in_another_thread_which_cannot_say_what_ctrl_c_does():
    assert begin_in_a_child("another") == "False"


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
