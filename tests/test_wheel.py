"""An installed wheel works outside any checkout, writes only where it is called, or says in one
line what it needs.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from replicate import paths

pytestmark = pytest.mark.long
NAME = "sandler2023trajectories"
OURS = ("build", "data")  # what the package may make where it is called


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(paths.ROOT),
    ]
    subprocess.run(command, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def full(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel and every extra, which it borrows from the tests' own."""
    home = install(wheel, tmp_path_factory.mktemp("full"))
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    return home


@pytest.fixture(scope="session")
def bare(wheel, tmp_path_factory) -> Path:
    """An environment with nothing but the wheel."""
    return install(wheel, tmp_path_factory.mktemp("bare"))


def install(wheel: Path, home: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(home / "bin" / "python"),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    return home


def call(
    home: Path, folder: Path, *words: str, program: str = "replicate"
) -> subprocess.CompletedProcess:
    around = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REPLICATE", "PYTHON"))
    }
    given = around | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
    return subprocess.run(
        [home / "bin" / program, *words], cwd=folder, capture_output=True, text=True, env=given
    )


def files(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_wheel_brings_what_a_checkout_has(full, tmp_path):
    code = ("from replicate import paths; from pathlib import Path; import replicate; print(replicate.__version__); "
            "print(paths.IS_CHECKOUT, paths.WORK == Path.cwd(), paths.ROOT.is_relative_to(paths.PACKAGE)); "
            "print(*sorted(path.stem for path in paths.CLAIMS.iterdir())); "
            "print(*sorted(path.stem for path in paths.NOTEBOOKS.iterdir()))")  # fmt: skip
    done = call(full, tmp_path, "-c", code, program="python")
    stems = " ".join(sorted(path.stem for path in paths.CLAIMS.glob("*.toml")))
    assert done.stdout.splitlines() == ["0.1.0", "False True True", stems, stems], done.stderr


WORKS = {
    "list": ["list"],
    "help": ["--help"],
    "run": ["run", NAME, "table_1", "--preset", "smoke"],
    "verdicts": ["verdicts", NAME, "--preset", "smoke"],
    "recorded": ["verdicts", "--recorded"],
    "evidence": ["evidence", "--device", "cpu"],
    "everything": ["replicate", "--preset", "smoke", "--only", NAME],
    "report": ["report"],
}


@pytest.mark.parametrize("words", WORKS.values(), ids=WORKS)
def test_a_command_works_and_writes_only_where_it_is_called(full, tmp_path, words):
    before = files(full)
    done = call(full, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert files(full) == before
    assert {path.name for path in tmp_path.iterdir()} <= set(OURS)


REFUSED = {
    "record": (["record"], 66, "a clone of the repository"),
    "readme": (["readme"], 66, "a clone of the repository"),
    "refresh": (["refresh"], 66, "a clone of the repository"),
    "verify": (["data", "verify", "cifar10"], 66, "cifar10 is not at hand"),
    "preset": (["run", NAME, "--preset", "smok"], 64, "did you mean 'smoke'"),
}


@pytest.mark.parametrize("words, code, line", REFUSED.values(), ids=REFUSED)
def test_a_command_that_cannot_says_why_in_one_line(full, tmp_path, words, code, line):
    done = call(full, tmp_path, *words)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1) and line in done.stderr, (
        done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(full, tmp_path):
    (tmp_path / "build").write_text("in the way")
    done = call(full, tmp_path, "run", NAME, "table_1", "--preset", "smoke")
    assert (done.returncode, done.stderr.count("\n")) == (74, 1), done.stderr
    assert f"{tmp_path}/build" in done.stderr


def test_a_repository_around_the_caller_is_not_taken_for_the_codes(full, tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    done = call(full, tmp_path, "run", NAME, "table_1", "--out", "out")
    assert done.returncode == 66 and "REPLICATE_COMMIT" in done.stderr


@pytest.mark.parametrize("words", WORKS.values(), ids=WORKS)
def test_without_extras_a_command_names_the_one_to_install(bare, tmp_path, words):
    done = call(bare, tmp_path, *words)
    assert done.returncode == 69 and "pip install 'replicate[sources]'" in done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
