"""A wrong formula in the library turns just the cells of a notebook red, under nbval, that show it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LISTINGS = ("listing", "listing-equal")
# Notebook, cells that are run after its imports, file and formula, what it becomes, cells that turn red.
MUTATIONS = (
    ("fabi2021extrapolation", (*LISTINGS, "fabi-08"), "optim/stencils.py",
     "Fraction((-j) ** i, factorial(i))", "Fraction((-j) ** i, factorial(i) + (i == 2))",
     {"listing-equal", "fabi-08"}),
    ("warmerdam2020descent", LISTINGS, "optim/keep_vaulting.py",
     "(slope * t / (2 * above))", "(slope * t / (3 * above))", {"listing-equal"}),
    ("warmerdam2020descent", LISTINGS, "optim/keep_stepping.py",
     "1 + self.scale_i * sqrt(i)", "1 + self.scale_i * i", {"listing-equal"}),
    ("zhang2019lookahead", (*LISTINGS, "look-10"), "problems/noisy_quadratic.py",
     "np.square(alpha) * spread)", "alpha * spread)", {"look-10"}),
    ("zhang2019lookahead", LISTINGS, "optim/lookahead.py",
     "lerp_(fast_piece.to(slow_piece.dtype), alpha)",
     "lerp_(fast_piece.to(slow_piece.dtype), alpha**2)", {"listing-equal"}),
    ("sandler2023trajectories", (*LISTINGS, "c06"), "averaging/kernels.py",
     "[::-1][1:].copy()", "[::-1][:-1].copy()", {"listing-equal", "c06"}),
    ("across", ("across-07", "across-09"), "problems/filters.py",
     "[0, beta]], [1 + beta, 1])", "[0, beta]], [1 + beta**2, 1])", {"across-07", "across-09"}),
    ("across", ("across-07", "across-09"), "optim/lookahead.py",
     "lerp_(fast_piece.to(slow_piece.dtype), alpha)",
     "lerp_(fast_piece.to(slow_piece.dtype), alpha**2)", {"across-09"}),
)  # fmt: skip


@pytest.fixture
def tree(tmp_path) -> Path:
    """A checkout of its own, whose code can be changed, with the claims and results of this one."""
    shutil.copytree(
        ROOT / "src/replicate",
        tmp_path / "src/replicate",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").symlink_to(ROOT / "data")
    return tmp_path


def keep(tree: Path, name: str, cells: tuple[str, ...]) -> list[str]:
    """Write the notebook's parameters, its imports and these cells; their names."""
    notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = code[:2] + [cell for cell in code[2:] if cell.id in cells]
    nbformat.write(notebook, tree / "notebooks/part.ipynb")
    return [cell.id for cell in notebook.cells]


def red_cells(tree: Path, names: list[str]) -> set[str]:
    """The cells that nbval calls failed, by name."""
    options = [
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-o",
        "addopts=",
    ]
    sanitized = ["--nbval-sanitize-with", str(ROOT / "tests/nbval_sanitize.cfg")]
    command = [sys.executable, "-m", "pytest", *options, *sanitized, "--junitxml=told.xml"]
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"), "REPLICATE_COMMIT": "c0ffee0", "REPLICATE_DEVICE": "cpu"
    }  # fmt: skip
    done = subprocess.run(
        [*command, "notebooks/part.ipynb"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    cases = list(ElementTree.parse(tree / "told.xml").iter("testcase"))
    assert [case.get("name") for case in cases] == [f"Cell {i}" for i in range(len(names))], (
        done.stdout
    )
    return {
        name
        for name, case in zip(names, cases, strict=True)
        if case.find("failure") is not None or case.find("error") is not None
    }


def test_a_formula_is_changed_under_every_notebook():
    assert {row[0] for row in MUTATIONS} == {
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb")
    }


@pytest.mark.long  # a kernel that imports torch or jax, twice
@pytest.mark.parametrize("name, cells, file, formula, wrong, red", MUTATIONS)
def test_a_wrong_formula_turns_just_its_cells_red(tree, name, cells, file, formula, wrong, red):
    names = keep(tree, name, cells)
    assert red_cells(tree, names) == set()
    code = tree / "src/replicate" / file
    text = code.read_text()
    assert text.count(formula) == 1
    code.write_text(text.replace(formula, wrong))
    assert red_cells(tree, names) == red
