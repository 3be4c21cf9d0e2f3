"""The command line says in one line what was wrong, with its exit code, in seconds, and writes
nothing.
"""

import os
import subprocess
import sys

import pytest
from records import FILE, write_record

from replicate import paths, runs
from replicate.app import cli, options, registry, verdicts

NAME = "sandler2023trajectories"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A build folder of its own, no data sets and no server."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("replicate.datasets.download.REACH", 0.2)
    monkeypatch.setattr("socket.socket.connect", refuse)
    for name in ("DEVICE", "JOBS", "DEADLINE", "COMMIT", "WORKERS"):
        monkeypatch.setenv(f"REPLICATE_{name}", "")
        monkeypatch.delenv(f"REPLICATE_{name}")
    return tmp_path


def refuse(*_):
    raise ConnectionRefusedError("no network in this test")


def called(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    return cli.main()


def set_to(*assignments: str) -> list[str]:
    return ["run", NAME, *(word for text in assignments for word in ("--set", text))]


WRONG = {
    "preset": (["run", NAME, "--preset", "smok"], 64, "did you mean 'smoke'"),
    "source": (["run", "sandler2023trajectorie"], 64, f"did you mean '{NAME}'"),
    "experiment": (["run", NAME, "figure_5x"], 64, "did you mean 'figure_5'"),
    "field": (set_to("momentun=0.5"), 64, "did you mean 'momentum'"),
    "data set of a preset": (set_to("cifar10.lr=0.1"), 64, "known: digits"),
    "text for a number": (set_to("lr=fast"), 64, "lr: "),
    "number for a list": (set_to("seeds=3"), 64, "seeds: "),
    "nan": (set_to("lr=nan"), 64, "lr: "),
    "infinity": (set_to("lr=inf"), 64, "lr: "),
    "negative rate": (set_to("lr=-0.1"), 64, "greater than 0, got -0.1"),
    "seed beyond 32 bits": (set_to("seeds=(4294967296,)"), 64, "seeds: "),
    "window longer than the run": (
        set_to("swa=(10, 5000)"),
        64,
        "branch_every must be at least the longest window, 5000",
    ),
    "no equals sign": (set_to("lr"), 64, "got 'lr'"),
    "budget": (["run", NAME, "--budget", "soon"], 64, "got 'soon'"),
    "device": (["run", NAME, "--device", "tpu"], 64, "got 'tpu'"),
    "gpu preset": (["run", NAME, "--preset", "gpu"], 64, "--device cpu"),
    "missing gpu": (["run", NAME, "--device", "cuda"], 69, "has none"),
    "missing data set": (
        ["run", NAME, "--preset", "cpu", "--set", "cifar10.lr=0.1"],
        66,
        "cifar10",
    ),
    "data set to fetch": (["data", "fetch", "cifar11"], 64, "did you mean 'cifar10'"),
    "data set to verify": (["data", "verify", "cifar10"], 66, "cifar10"),
    "workers": (["run", NAME, "--workers", "host:8786"], 64, "such as tcp://host:8786"),
    "cluster file": (["run", NAME, "--workers", "no.toml"], 66, "no.toml is not there"),
    "evidence's workers": (["evidence", "--budget", "9m", "--workers", "2"], 64, "got '2'"),
    "replicate's workers": (["replicate", "--workers", "2"], 64, "got '2'"),
    "word": (["runn"], 64, "runn"),
    "option": (["run", NAME, "--presets", "smoke"], 64, "--presets"),
    "nothing to record": (["record"], 66, "make replicate"),
    "folder without tables": (["record", "nowhere"], 66, "nowhere"),
    "evidence": (
        ["evidence", "--preset", "gpu", "--budget", "9m"],
        69,
        "--device cpu for a dry run",
    ),
    "evidence's preset": (["evidence", "--preset", "nigt"], 64, "did you mean 'night'"),
    "evidence's budget": (["evidence", "--budget", "soon"], 64, "got 'soon'"),
    "stage": (["evidence", "--only", "sped"], 64, "unknown stage 'sped'"),
    "replicate": (["replicate", "--only", "zhang"], 64, "unknown source 'zhang'"),
    "replicate's preset": (["replicate", "--preset", "pcu"], 64, "unknown preset 'pcu'"),
}


@pytest.mark.skipif(runs.device() == "cuda", reason="asks for a GPU that is not there")
@pytest.mark.parametrize("words, code, line", WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_line_and_leaves_nothing(monkeypatch, capsys, alone, words, code, line):
    assert called(monkeypatch, *words) == code
    out, err = capsys.readouterr()
    assert line in err and err.count("\n") == 1 and "Traceback" not in err and out == ""
    assert not list(alone.rglob("*"))


def test_the_number_of_jobs_has_to_be_a_number(monkeypatch, capsys):
    monkeypatch.setenv("REPLICATE_JOBS", "many")
    assert called(monkeypatch, "run", NAME, "figure_5") == 64
    assert (
        "REPLICATE_JOBS must be a whole number of at least 1, got 'many'" in capsys.readouterr().err
    )


def test_a_table_nobody_could_record_is_refused_first(monkeypatch, capsys, alone):
    monkeypatch.setattr("replicate.runs.machine.ROOT", alone)
    runs.commit.cache_clear()
    assert called(monkeypatch, "run", NAME, "--out", str(alone / "out")) == 66
    runs.commit.cache_clear()
    assert "REPLICATE_COMMIT" in capsys.readouterr().err and not (alone / "build").exists()


def test_list_names_sources_experiments_and_presets(monkeypatch, capsys):
    assert called(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    source = registry.source(NAME)
    assert NAME in out and f"experiments: {', '.join(source)}" in out
    assert f"cpu: {', '.join(source.presets['cpu'])}" in out


def test_exact_claims_run_and_are_judged(monkeypatch, capsys):
    assert called(monkeypatch, "run", NAME, "table_1") == 0
    assert called(monkeypatch, "verdicts", NAME, "--preset", "smoke") == 0
    out = capsys.readouterr().out
    assert (
        "TRAJ-29.outside reproduced" in out
        and "TRAJ-29.inside reproduced" in out
        and "not tested, needs preset cpu: " in out
    )


def test_preset_paper_prints_settings_and_cost_and_runs_no_network(monkeypatch, capsys):
    assert called(monkeypatch, "run", NAME, "figure_5", "--preset", "paper") == 0
    out, err = capsys.readouterr()
    assert (
        "resnet34" in out
        and "floating-point operations" in out
        and "going on without imagenet" in err
    )


def test_a_deadline_holds_for_its_command_only(monkeypatch, capsys):
    assert called(monkeypatch, "run", NAME, "figure_5", "--budget", "0s") == 75
    assert "runs are left" in capsys.readouterr().err
    assert "REPLICATE_DEADLINE" not in os.environ


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_it_was(monkeypatch, before):
    monkeypatch.delenv("X_TEST", raising=False)
    if before:
        monkeypatch.setenv("X_TEST", before)
    with options.set_variable("X_TEST", "1"):
        assert os.environ["X_TEST"] == "1"
    assert os.environ.get("X_TEST") == before


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )


def test_importing_the_package_loads_nothing_heavy():
    found = python(
        "import replicate, sys; print([m for m in ('torch', 'jax', 'pandas', 'numpy') if m in sys.modules])"
    )
    assert found.stdout.strip() == "[]", found.stderr


BLOCKED = """
import sys
TOOLS = ("pooch", "papermill", "jupyterlab", "nbval", "nbclient", "nbformat", "playwright", "sphinx", "IPython", "tqdm",
         "ipykernel", "ipywidgets", "matplotlib", "seaborn", "PIL", "statsmodels", "scipy", "sklearn", "jax",
         "requests", "pytest")
sys.modules.update(dict.fromkeys(TOOLS))  # as if they were not installed
import replicate, replicate.optim
from pathlib import Path
from replicate import paths
paths.BUILD = Path(sys.argv[1])
from replicate.__main__ import main
for words in (
    "run sandler2023trajectories table_1", "evidence --preset gpu --only speed.ceilings",
    "evidence --preset gpu --device cpu --budget 5m --only speed.scripts --out " + sys.argv[2],
):
    sys.argv = ["replicate", *words.split()]
    if main():
        sys.exit(words)
"""


def test_runs_and_evidence_need_what_a_bare_machine_has(alone):
    given = [sys.executable, "-c", BLOCKED, str(alone / "b"), str(alone / "out")]
    found = subprocess.run(
        given, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert found.returncode == 0 and "table_1 [smoke]: 46 rows" in found.stderr, found.stderr
    assert "missing speed.ceilings.synthetic" in found.stdout and [
        one.name for one in (alone / "out").iterdir()
    ] == ["speed-scripts.parquet"]


def test_who_stops_it_is_told_in_one_line_that_it_goes_on(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "over", stopped)
    assert called(monkeypatch, "run", NAME, "table_1") == 130
    assert capsys.readouterr().err == "stopped; run the same command again to resume\n"


def test_make_refuses_a_misspelt_variable():
    found = subprocess.run(
        ["make", "-n", "replicate", "PRESETS=smoke"], cwd=paths.ROOT, capture_output=True, text=True
    )
    assert found.returncode == 2 and "unknown variable PRESETS" in found.stderr


def test_make_lists_its_targets():
    named = "env replicate test test-long test-gpu lab report data bench record readme refresh lock clean".split()
    found = subprocess.run(
        ["make", "--no-print-directory"], cwd=paths.ROOT, capture_output=True, text=True
    )
    listed = [line.split()[1] for line in found.stdout.splitlines()]
    assert set(named) | {"help"} == set(listed)


# Claims files.

CLAIMS = {
    "a name nobody knows": (
        '"side-trip", "average"',
        '"banana", "average"',
        "unknown value 'banana'",
    ),
    "a band upside down": (
        "at_least = 0.8\nat_most = 1.25",
        "at_least = 8.0\nat_most = 1.25",
        "band must have an edge",
    ),
    "no TOML": ("[[claim]]", "[[claim]", "no list of [[claim]]"),
}


@pytest.mark.parametrize("before, after, line", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize(
    "words", [("verdicts", NAME), ("verdicts", NAME, "--recorded")], ids=" ".join
)
def test_a_bad_claims_file_is_one_line_and_65(
    monkeypatch, capsys, tmp_path, words, before, after, line
):
    text = (paths.CLAIMS / f"{NAME}.toml").read_text()
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / f"{NAME}.toml").write_text(text.replace(before, after, 1))
    monkeypatch.setattr(paths, "CLAIMS", folder)
    assert called(monkeypatch, *words) == 65
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.startswith(f"BadData: {NAME}.toml: ")
        and line in err
        and err.count("\n") == 1
    )


def test_edited_verdicts_are_one_line_and_65(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    write_record(tmp_path / "results" / "gpu" / NAME / FILE)
    verdicts.write_recorded(registry.source(NAME), "gpu")
    path = tmp_path / "results" / "gpu" / NAME / "verdicts.csv"
    assert called(monkeypatch, "verdicts", NAME, "--preset", "gpu", "--recorded") == 0
    assert "TRAJ-21.loss" in capsys.readouterr().out
    path.write_text(path.read_text().replace("reproduced", "contradicted"))
    assert called(monkeypatch, "verdicts", NAME, "--preset", "gpu", "--recorded") == 65
    out, err = capsys.readouterr()
    assert out == "" and "was edited by hand" in err and err.count("\n") == 1
