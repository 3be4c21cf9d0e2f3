"""What a cell of a stored notebook must be, so that one figure can be run alone, and a method be
read as code that is held against the library.
"""

import ast
import tomllib

import nbformat
import pytest
from test_notebooks import (
    NOT_COMPARED,
    NOTEBOOKS,
    ROOT,
    SANITIZED,
    code_cells,
    syntax_tree,
    tags,
    texts,
)

RUNS = {"run", "run_together"}  # what a cell is about; `run_beside` is what it needs besides
LONGEST_LISTING = 15
LIBRARY = ("replicate.optim", "replicate.averaging")
BESIDE = "listing.run_beside_library"
CLOSEST = 1e-12  # the widest difference between a listing and the library, in float64


def calls(cell: dict) -> list[ast.Call]:
    """The calls of methods of `study` in a cell."""
    return [
        node
        for node in ast.walk(syntax_tree(cell))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "study"
    ]


def holds(value: ast.AST) -> set[str]:
    """The methods of `study` that a value comes from."""
    return {
        node.func.attr
        for node in ast.walk(value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


def tables_of(cell: dict) -> set[str]:
    """The names that a cell gives to what it ran."""
    return {
        name.id
        for node in ast.walk(syntax_tree(cell))
        if isinstance(node, ast.Assign) and holds(node.value) & RUNS
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }


def names_read(cell: dict) -> set[str]:
    names = [node for node in ast.walk(syntax_tree(cell)) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


# A check takes a notebook and returns its complaints.


def runs_one_experiment_a_cell(notebook: dict) -> list[str]:
    """Where a second one is asked for, the first one's absence would end the cell before it."""
    asked = [
        [call for call in calls(cell) if call.func.attr in RUNS] for cell in code_cells(notebook)
    ]
    return [f"{ast.unparse(several[1])} after another" for several in asked if len(several) > 1]


def keeps_a_table_in_its_cell(notebook: dict) -> list[str]:
    """A cell that takes a table from another one fails where the other one was not run."""
    cells = code_cells(notebook)
    return [
        f"{name} of cell {index} in cell {other}"
        for index, cell in enumerate(cells)
        for other, reader in enumerate(cells)
        for name in sorted(tables_of(cell) & names_read(reader) - tables_of(reader))
    ]


def hands_the_parameters_on(notebook: dict) -> list[str]:
    """The study is made of all that the parameters cell names."""
    made = [
        node
        for cell in code_cells(notebook)
        for node in ast.walk(syntax_tree(cell))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Study"
    ]
    given = [[ast.unparse(argument) for argument in call.args[1:]] for call in made]
    return [] if given == [["preset", "overrides", "device", "experiments"]] else [str(given)]


def holds_listings_against_the_library(notebook: dict) -> list[str]:
    """Two cells: the method's code is shown, then asserted equal to what the library does."""
    cells = [cell for cell in code_cells(notebook) if "listing" in tags(cell)]
    if len(cells) != 2:
        return [f"{len(cells)} listings"]
    shown, equal = map(syntax_tree, cells)
    return [
        *([] if functions_shown(shown) else ["shows no function of the source's listing"]),
        *([] if BESIDE in called(equal) else ["runs nothing of the library beside it"]),
        *([] if asserts_closeness(equal) else ["asserts nothing"]),
    ]


def functions_shown(tree: ast.AST) -> list[str]:
    """The functions of a source's module `listing` whose code a cell shows."""
    shown = [
        ast.unparse(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "show_code"
        for argument in node.args
    ]
    return [name.removeprefix("listing.") for name in shown if name.startswith("listing.")]


def called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def compares_half_of_its_outputs(notebook: dict) -> list[str]:
    """nbval sees text alone: a figure without numbers below it counts as an output not compared, and
    so does an empty table.
    """
    shown = [cell for cell in code_cells(notebook) if cell["outputs"]]
    compared = [cell for cell in shown if is_compared(cell)]
    return [] if 2 * len(compared) >= len(shown) > 0 else [f"{len(compared)} of {len(shown)}"]


def is_compared(cell: dict) -> bool:
    """Whether nbval compares what a cell shows, and that says something."""
    said = [text.strip() for output in cell["outputs"] for text in texts(output)]
    left_out = tags(cell) & NOT_COMPARED or "NBVAL_" in cell["source"]
    return not left_out and any(
        text and not SANITIZED.match(text) and not text.startswith("Empty DataFrame")
        for text in said
        if "<IPython.core.display" not in text
    )


def asserts_closeness(tree: ast.AST) -> bool:
    """Whether every assertion of the cell bounds a difference, all by CLOSEST or less."""
    tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    parts = [part for test in tests for part in getattr(test, "values", [test])]
    return bool(parts) and all(
        isinstance(part, ast.Compare)
        and isinstance(part.ops[0], ast.Lt)
        and isinstance(part.comparators[0], ast.Constant)
        and part.comparators[0].value <= CLOSEST
        for part in parts
    )


def has_a_published_text(path) -> bool:
    """Whether a notebook's claims are a source's, and not all of them ours."""
    claims = tomllib.loads((ROOT / f"data/claims/{path.stem}.toml").read_text())["claim"]
    return any(claim["origin"] == "source" for claim in claims)


PUBLISHED = [path for path in NOTEBOOKS if has_a_published_text(path)]
CHECKS = (
    runs_one_experiment_a_cell,
    keeps_a_table_in_its_cell,
    hands_the_parameters_on,
    holds_listings_against_the_library,
    compares_half_of_its_outputs,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_figure_can_be_run_alone_and_a_method_be_read(path, check):
    if check is holds_listings_against_the_library and path not in PUBLISHED:
        return
    assert check(nbformat.read(path, 4)) == []


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_listing_is_short_and_what_runs_beside_it_is_the_library(path):
    module = ast.parse((ROOT / f"src/replicate/sources/{path.stem}/listing.py").read_text())
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    beside = functions.pop("run_beside_library")
    cells = [cell for cell in code_cells(nbformat.read(path, 4)) if "listing" in tags(cell)]
    assert set(functions) == set(functions_shown(syntax_tree(cells[0])))
    lines = [node.end_lineno - node.lineno + 1 for node in functions.values()]
    assert sum(lines) <= LONGEST_LISTING
    of_library = {name.name for node in module.body if isinstance(node, ast.ImportFrom)
                  and node.module in LIBRARY for name in node.names}  # fmt: skip
    assert set(functions) | of_library <= called(beside) and of_library
    assert not any(isinstance(node, ast.Import | ast.ImportFrom)
                   or isinstance(node, ast.Name) and node.id in of_library
                   for each in functions.values() for node in ast.walk(each))  # fmt: skip


# From here on: each check is shown a notebook in which just its own rule is broken.

SHOWN = "show_code(listing.walk)"
EQUAL = "ends = listing.run_beside_library()\nassert abs(ends.listing - ends.library).max() < 1e-12"


def notebook_of(*sources: str, code: str = SHOWN, equal: str = EQUAL) -> dict:
    """A good notebook with these cells below its listings."""
    first = 'study = Study("someone2020", preset, overrides, device, experiments)'
    cells = [nbformat.v4.new_code_cell(source) for source in (first, code, equal, *sources)]
    for cell in cells[1:3]:
        cell["metadata"]["tags"] = ["listing"]
    return nbformat.v4.new_notebook(cells=cells)


def shows(cell: dict, *said: str, tag: str = "") -> dict:
    """The cell with these texts as its output, and a figure; tagged so if it is to be."""
    data = {"image/png": "AAAA", **dict(zip(("text/plain", "text/html"), said, strict=False))}
    cell["outputs"] = [nbformat.v4.new_output("display_data", data=data)]
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), *([tag] if tag else [])]
    return cell


def notebook_that_shows(said: str, tag: str = "") -> dict:
    """A good notebook, but for one cell of three outputs that shows figures and another that shows
    this.
    """
    notebook = notebook_of("1", "2", "3")
    for cell, text in zip(notebook["cells"][-3:-1], ("0.5", FIGURE), strict=True):
        shows(cell, text)
    shows(notebook["cells"][-1], said, tag=tag)
    return notebook


FIGURE = "<Figure size 640x480 with 1 Axes>"
GOOD = notebook_of(
    'table = study.run("figure_5")\nplots.averages(table)',
    'plots.averages(*study.run_together("figure_4", "figure_5"))',
    'table = study.run("spectrum")\nplots.spectrum(table, study.run_beside("figure_5"))',
)
shows(GOOD["cells"][-1], "0.5")
shows(GOOD["cells"][-2], FIGURE)
WITHOUT_LISTING = notebook_of()
WITHOUT_LISTING["cells"].pop()
BROKEN = (
    (
        runs_one_experiment_a_cell,
        notebook_of('a = study.run("figure_4")\nb = study.run("figure_5")'),
    ),
    (runs_one_experiment_a_cell, notebook_of('draw(study.run("a"), study.run_together("b", "c"))')),
    (keeps_a_table_in_its_cell, notebook_of('table = study.run("figure_5")', "draw(table)")),
    (keeps_a_table_in_its_cell, notebook_of('a, b = study.run_together("c", "d")', "draw(b)")),
    (keeps_a_table_in_its_cell, notebook_of('a = derive(study.run("c"))', "a.head()")),
    (hands_the_parameters_on, notebook_of('Study("someone2020", preset, overrides, device)')),
    (hands_the_parameters_on, nbformat.v4.new_notebook()),
    (holds_listings_against_the_library, WITHOUT_LISTING),
    (holds_listings_against_the_library, notebook_of(code="1")),
    (holds_listings_against_the_library, notebook_of(code="show_code(walk)")),
    (holds_listings_against_the_library, notebook_of(equal=EQUAL.replace("_library", ""))),
    (holds_listings_against_the_library, notebook_of(equal=EQUAL.replace("12", "11"))),
    (holds_listings_against_the_library, notebook_of(equal=EQUAL.replace("<", "<="))),
    (holds_listings_against_the_library, notebook_of(equal=EQUAL.replace("assert ", ""))),
    (holds_listings_against_the_library, notebook_of(equal=EQUAL + " or True")),
    (compares_half_of_its_outputs, notebook_of()),
    (compares_half_of_its_outputs, notebook_that_shows(FIGURE)),
    (compares_half_of_its_outputs, notebook_that_shows("Empty DataFrame\nColumns: []")),
    (compares_half_of_its_outputs, notebook_that_shows("0.25", "nbval-ignore-output")),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_notebook_draws_no_complaint(check):
    assert check(GOOD) == []


@pytest.mark.parametrize("check, notebook", BROKEN)
def test_a_broken_notebook_is_noticed(check, notebook):
    assert check(notebook)


def test_half_of_the_outputs_are_enough():
    assert compares_half_of_its_outputs(notebook_that_shows("0.25")) == []


def test_each_check_has_been_seen_to_fail():
    assert {check for check, _ in BROKEN} == set(CHECKS)
