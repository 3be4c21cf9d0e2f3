"""Names are listed and refused within a second, and what is recorded is printed within four,
without large imports.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from replicate import claims, paths
from replicate.app import registry, verdicts

NAME = "sandler2023trajectories"
LARGE = {"torch", "jax", "sympy", "sklearn", "pandas", "scipy"}
LARGE_FOR_TABLES = LARGE - {"pandas"}
SECONDS = {"words": 1.0, "files": 3.0, "recorded": 4.0}
IDLE = 0.09  # seconds of process time that the loop of `calibrate` takes on an idle core, interpreter included
MEASURED = """
import json, sys, time
from pathlib import Path
from replicate import paths
for name, folder in json.loads(sys.argv[1]).items():
    setattr(paths, name, Path(folder))
del sys.argv[1]
from replicate.__main__ import main
code = main()
print(json.dumps([code, time.process_time(), sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def measure(*words: str, **folders: Path) -> tuple[int, float, set[str], str]:
    """Exit code, process seconds, packages that were opened, and stderr of a command."""
    given = json.dumps({name: str(folder) for name, folder in folders.items()})
    command = [sys.executable, "-c", MEASURED, given, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    code, seconds, opened = json.loads(done.stdout.splitlines()[-1])
    return code, seconds * calibrate(), set(opened), done.stderr


def calibrate() -> float:
    """How much of its usual speed the processor has: seconds here, times this, are seconds on an
    idle core.
    """
    code = "import time; sum(i * i for i in range(2_000_000)); print(time.process_time())"
    taken = float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    )
    return min(1.0, IDLE / taken)


WORDS = {
    "help": (["--help"], 0, ""),
    "list": (["list"], 0, ""),
    "preset": (["run", NAME, "--preset", "smok"], 64, "did you mean 'smoke'"),
    "source": (["run", "sandler2023trajectorie"], 64, f"did you mean '{NAME}'"),
    "experiment": (["run", NAME, "figure_99"], 64, "did you mean 'figure_9'"),
    "setting": (["run", NAME, "--set", "momentun=0.5"], 64, "did you mean 'momentum'"),
    "entry": (["run", NAME, "--set", "cifar10.lr=0.1"], 64, "known: digits"),
    "no equals sign": (["run", NAME, "--set", "lr"], 64, "got 'lr'"),
    "value": (["run", NAME, "--set", "lr=fast"], 64, "lr: "),
    "device": (["run", NAME, "--device", "tpu"], 64, "got 'tpu'"),
    "data set": (["data", "fetch", "cifar11"], 64, "did you mean 'cifar10'"),
    "verdicts' source": (["verdicts", "sandler"], 64, "unknown source 'sandler'"),
    "replicate's source": (["replicate", "--only", "zhang"], 64, "unknown source 'zhang'"),
    "command": (["runn"], 64, "runn"),
}


@pytest.mark.parametrize("words, code, line", WORDS.values(), ids=WORDS)
def test_words_are_answered_within_a_second_and_open_nothing_large(words, code, line):
    got, seconds, opened, err = measure(*words)
    assert got == code and line in err and err.count("\n") == (1 if line else 0), err
    assert not opened & LARGE
    assert seconds < SECONDS["words"]


def test_a_claims_file_with_a_wrong_name_is_refused_within_three_seconds(tmp_path):
    text = (paths.CLAIMS / f"{NAME}.toml").read_text()
    (tmp_path / f"{NAME}.toml").write_text(text.replace("experiment = ", "experimant = ", 1))
    code, seconds, opened, err = measure("verdicts", NAME, CLAIMS=tmp_path)
    assert code == 65 and "experimant" in err and err.count("\n") == 1, err
    assert seconds < SECONDS["files"] and not opened & {"torch", "jax"}


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> Path:
    """A folder of results whose verdicts were judged from today's claims and tables: here, one row
    a source.
    """
    shutil.copytree(paths.RESULTS, tmp_path / "results")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(verdicts, "judge_tables", judged)
    for source in registry.sources():
        verdicts.write_recorded(source, "cpu")
    return tmp_path / "results"


def judged(source, *_) -> pd.DataFrame:
    row = dict.fromkeys(claims.COLUMNS, "") | dict.fromkeys(claims.NUMBERS, 1.0)
    row |= {
        "source": source.name,
        "claim": "X-1",
        "role": "primary",
        "kind": "estimate",
        "origin": "source",
    }
    return pd.DataFrame([row | {"verdict": "reproduced", "unit": "1"}], columns=claims.COLUMNS)


def test_what_is_recorded_is_printed_within_four_seconds_and_is_not_judged(recorded):
    code, seconds, opened, err = measure("verdicts", "--recorded", RESULTS=recorded)
    assert code == 0, err
    assert not opened & LARGE_FOR_TABLES
    assert seconds < SECONDS["recorded"]


def test_importing_the_package_opens_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "import replicate, sys; print(*sys.modules)"], capture_output=True
    )
    assert not LARGE & set(done.stdout.decode().split())
