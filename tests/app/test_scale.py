"""What docs/scale.md says is what the commands print, and the schedule is a schedule."""

import itertools
import re
import textwrap

import pytest

from replicate import paths
from replicate.app import cli, scale

DOCS = paths.ROOT / "docs"


def print_of(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["replicate", "scale", *words])
    assert cli.main() == 0
    return capsys.readouterr().out


def between(name: str) -> str:
    text = (DOCS / "scale.md").read_text()
    return re.search(rf"<!-- {name}.*? -->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)[1]


@pytest.mark.long  # every network of presets gpu and paper is built once, to be counted
def test_the_table_is_what_the_command_prints(monkeypatch, capsys):
    assert print_of(monkeypatch, capsys) == between("table")


def test_the_script_is_what_dask_jobqueue_writes(monkeypatch, capsys):
    pytest.importorskip("dask_jobqueue", reason="needs the extra cluster")
    script = print_of(monkeypatch, capsys, "--script", str(DOCS / "scale" / "slurm.toml"))
    assert (
        re.sub(r"tcp://[\d.]+:\d+", "tcp://HOST:PORT", script).strip()
        == textwrap.dedent(between("script")).strip()
    )
    assert "--nthreads 1" in script


def test_half_the_rate_is_twice_the_hours(monkeypatch, capsys):
    monkeypatch.setattr(scale, "list_seeds", lambda name, preset: (4e15, 3e15, 2e17))

    def hours(*words):
        cells = re.findall(r"([\d.]+) h", print_of(monkeypatch, capsys, *words))
        return list(map(float, cells))

    whole, half = hours("--rate", "100"), hours("--rate", "50")
    assert half == pytest.approx([2 * value for value in whole], rel=0.01)


@pytest.mark.parametrize("words", [["--rate", "0"], ["--reached", "1.5"]])
def test_a_rate_nobody_has_is_refused(monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["replicate", "scale", *words])
    assert cli.main() == 64
    assert capsys.readouterr().err.startswith("BadParameter: rate must be above 0")


@pytest.mark.parametrize("seconds", [[3.0], [5, 4, 3, 3, 3], [2, 2, 2, 7], [1] * 10])
def test_longest_first_is_near_the_best_of_all_schedules(seconds):
    for gpus in (1, 2, 3):
        plans = itertools.product(range(gpus), repeat=len(seconds)) if len(seconds) < 6 else ()
        ends = [
            max(
                sum(s for s, at in zip(seconds, plan, strict=True) if at == gpu)
                for gpu in range(gpus)
            )
            for plan in plans
        ]
        best = min(ends, default=-(-len(seconds) // gpus))
        assert best <= scale.schedule(seconds, gpus) <= best * (4 / 3 - 1 / (3 * gpus)) + 1e-9
