"""Mistakes in experiments and contrasts turn tests red; where one does not, survivors.toml says why."""

import csv
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from changes import choose, list_changes
from run import CONTRASTS, find_tests, list_files

HERE = Path(__file__).parent
MINUTES = 36

MODULE = b'''"""Words that are left alone: 1 < 2."""
import numpy as np
ARMS = ("raw", "average")


def gain(a: int, b, axis=0):
    """1 - a."""
    if a < b and axis:
        return np.mean(a - b, axis=1) / 2
    return {"train_loss": min(a, b)}


def operations(a):
    return 3 * a
'''
EXPECTED = {
    ("def gain(a: int, b, axis=0):", "def gain(a: int, b, axis=1):"),
    ("if a < b and axis:", "if a >= b and axis:"),
    ("if a < b and axis:", "if a < b or axis:"),
    ("if a < b and axis:", "if not (a < b and axis):"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean(a + b, axis=1) / 2"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean((b) - (a), axis=1) / 2"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean(a - b, axis=2) / 2"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean(a - b, ) / 2"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean(a - b, axis=1) * 2"),
    ("return np.mean(a - b, axis=1) / 2", "return (2) / (np.mean(a - b, axis=1))"),
    ("return np.mean(a - b, axis=1) / 2", "return np.mean(a - b, axis=1) / 3"),
    ("return np.mean(a - b, axis=1) / 2", "return np.sum(a - b, axis=1) / 2"),
    ('return {"train_loss": min(a, b)}', 'return {"test_loss": min(a, b)}'),
    ('return {"train_loss": min(a, b)}', 'return {"train_loss": max(a, b)}'),
    ('return {"train_loss": min(a, b)}', 'return {"train_loss": min(b, a)}'),
}


def test_mistakes_are_made_where_something_is_computed():
    changes = list_changes(MODULE)
    assert {(each.before, each.after) for each in changes} == EXPECTED
    for each in changes:
        lines = zip(MODULE.split(b"\n"), each.apply(MODULE).split(b"\n"), strict=True)
        (changed,) = [after for before, after in lines if before != after]
        assert " ".join(changed.decode().split()) == each.after


def test_the_same_mistakes_are_chosen_wherever_their_lines_stand():
    moved = MODULE.replace(b"import numpy", b"# a line more\nimport math\nimport numpy")
    first, second = ([(c.before, c.after) for c in choose(m, 5)] for m in (MODULE, moved))
    assert first == second and len(set(first)) == 5
    assert len(choose(MODULE, 100)) == len(EXPECTED)


def test_a_module_is_tested_by_files_that_name_it_or_what_imports_it():
    files = list_files()
    assert files[0] == CONTRASTS and not any(file.endswith("presets.py") for file in files)
    base = "src/replicate/sources/sandler2023trajectories"
    twins = "tests/sources/test_sandler2023trajectories_twins.py"
    assert twins in find_tests(f"{base}/figure_5.py") and twins in find_tests(
        f"{base}/_branches.py"
    )
    assert find_tests(f"{base}/_turning.py")  # named by a test of what imports it


@pytest.mark.long
def test_what_no_test_minds_has_a_reason(tmp_path):
    out = tmp_path / "mutations.csv"
    words = ["--minutes", str(MINUTES), "--out", str(out)]
    subprocess.run([sys.executable, str(HERE / "run.py"), *words], check=True)
    rows = list(csv.DictReader(out.open()))
    assert len(rows) > 100 and not [row for row in rows if (row["kind"], row["word"]) == ("named", "survived")]  # fmt: skip
    survivors = {(r["file"], r["before"], r["after"]) for r in rows if r["word"] == "survived"}
    listed = tomllib.loads((HERE / "survivors.toml").read_text()).get("survivor", [])
    reasons = {(each["file"], each["before"], each["after"]): each["reason"] for each in listed}
    unexplained = sorted(survivors - {place for place, reason in reasons.items() if reason})
    assert not unexplained
