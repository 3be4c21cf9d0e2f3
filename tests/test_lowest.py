"""The lowest versions that pyproject.toml allows work: a throw-away environment has exactly those."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from replicate import paths

pytestmark = pytest.mark.long
SELECTION = (
    "tests/test_start_up.py",
    "tests/test_averaging.py",
    "tests/optim/test_lookahead.py",
    "tests/training/test_checkpoint.py",
    "tests/runs/test_record.py",
    "tests/runs/test_backends.py",
    "tests/descent/test_newton.py",
)


@pytest.fixture
def uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    return found or pytest.skip("uv is not here; make env installs it")


@pytest.fixture
def lowest(uv, tmp_path):
    """The interpreter of an environment with the lowest versions; gigabytes, so it is removed
    afterwards.
    """
    home = tmp_path / "lowest"
    python = home / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True)
    project = f"{paths.ROOT}[sources,test]"
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--resolution",
        "lowest-direct",
        "-e",
        project,
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(home)
        pytest.skip(
            f"the lowest versions cannot be installed here: {done.stderr.strip().splitlines()[-1]}"
        )
    yield python
    shutil.rmtree(home)


def test_a_selection_of_the_tests_passes_with_the_lowest_versions(lowest):
    there = [path for path in SELECTION if (paths.ROOT / path).exists()]
    command = [
        str(lowest),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not long",
        *there,
    ]
    around = os.environ | {"OMP_NUM_THREADS": "1", "REPLICATE_JOBS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, env=around)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
