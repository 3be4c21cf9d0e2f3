"""The notebook for a reader's own model, the lines of README, and what both are told by words."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch

from replicate import averaging, paths
from replicate.cooldown import Comparison, load_kernel, load_recipe
from replicate.errors import BadData, BadParameter, Missing

TEMPLATE = paths.NOTEBOOKS / "templates" / "compare.ipynb"
PARAMETERS = {
    "recipe",
    "window",
    "steps",
    "kernel",
    "branches",
    "runs",
    "directions",
    "device",
    "folder",
}
MINE = """
import torch

def make(device):
    model = torch.nn.Linear(3, 1).to(device)
    loss = lambda model, batch: ((model(batch) - 1) ** 2).mean()
    batches = [torch.randn(4, 3) for _ in range(5)]
    return {"model": model, "loss": loss, "batches": batches,
            "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}

def wrong(device):
    return {"model": None}

def none(device):
    return None
"""


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    path = tmp_path / "my_model.py"
    path.write_text(MINE)
    return path


def test_a_recipe_makes_the_same_model_each_time(mine):
    first, second = (load_recipe(f"{mine}:make", "cpu") for _ in range(2))
    assert torch.equal(first["model"].weight, second["model"].weight)
    assert all(map(torch.equal, first["batches"], second["batches"]))


def test_the_example_trains_a_transformer_of_torch(mine):
    recipe = load_recipe("replicate.cooldown.example:make_transformer", "cpu")
    assert isinstance(recipe["model"][0], torch.nn.TransformerEncoder)
    images, labels = recipe["held_out"][0]
    assert len(labels) == 297 and recipe["model"](images).shape == (297, 10)


@pytest.mark.parametrize(
    "name, kind, line",
    [
        ("my_model.py", BadParameter, "must be file.py:function or module:function"),
        (":make", BadParameter, "must be file.py:function or module:function"),
        ("nowhere.py:make", Missing, "nowhere.py is not there"),
        ("replicate.nowhere:make", Missing, "replicate.nowhere is not there"),
        ("{mine}:made", Missing, "has no function 'made'"),
        ("{mine}:wrong", BadData, "must give a dict of model, loss, .* got .'model'."),
        ("{mine}:none", BadData, "got NoneType"),
    ],
)
def test_a_recipe_that_cannot_be_is_a_line(name, kind, line, mine):
    with pytest.raises(kind, match=line) as error:
        load_recipe(name.format(mine=mine), "cpu")
    assert "\n" not in str(error.value)


def test_kernels_by_name():
    assert load_kernel("ema") is averaging.ema and load_kernel("two_point") is averaging.two_point
    with pytest.raises(BadParameter, match="did you mean 'swa'"):
        load_kernel("swaa")


def test_the_template_runs_a_readers_model_by_papermill(mine, tmp_path):
    papermill = pytest.importorskip("papermill")
    assert set(papermill.inspect_notebook(str(TEMPLATE))) == PARAMETERS
    done = papermill.execute_notebook(
        str(TEMPLATE), str(tmp_path / "done.ipynb"), kernel_name="python3", progress_bar=False,
        parameters={"recipe": f"{mine}:make", "window": 3, "steps": 6, "kernel": "ema", "device": "cpu",
                    "runs": 1, "branches": 2, "folder": str(tmp_path / "kept")},
    )  # fmt: skip
    said = "\n".join(str(cell.get("outputs", "")) for cell in done.cells)
    assert "Undecided: ema(k=3" in said and "noise floor of a loss" in said
    assert len(list((tmp_path / "kept").glob("run-0-branch-*.json"))) == 2


def test_the_template_is_thin_ran_once_and_compares_something():
    cells = [cell for cell in nbformat.read(TEMPLATE, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    plain = [cell for cell in cells if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    assert any(cell.outputs for cell in plain)
    for cell in cells:
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.For, ast.While}


def readme_lines() -> str:
    """The indented block of README that ends with `compare`."""
    text = (
        (paths.ROOT / "README.md").read_text().partition("## Would averaging do for your model?")[2]
    )
    block = text.partition("\nFive runs")[0]
    assert all(not line or line.startswith("    ") for line in block.splitlines()[2:])
    return re.sub(r"^    ", "", block, flags=re.MULTILINE)


def test_the_lines_of_readme_run(capsys):
    """At a small size: a minute's work is a long test."""
    lines = readme_lines()
    assert sum(bool(line) for line in lines.splitlines()) <= 12
    small, count = re.subn(r"window=\d+, steps=\d+\)", "window=4, steps=8, branches=1)", lines)
    assert count == 1
    exec(compile(small, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.match(r"(Yes|No|Undecided): swa\(k=4\) gains ", said) and "(5 runs)" in said


@pytest.mark.long
def test_the_lines_of_readme_answer_as_they_stand():
    values: dict = {}
    exec(
        compile(
            readme_lines().replace("print(compare(", "answer = (compare("), "README.md", "exec"
        ),
        values,
    )
    answer = values["answer"]
    assert isinstance(answer, Comparison) and answer.ratio().n == 5
    assert (answer.table.replayed_apart.dropna() == 0).all()
