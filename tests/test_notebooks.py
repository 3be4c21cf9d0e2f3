"""What strict nbval cannot see in the stored notebooks: without these checks it passes where
nothing is compared.
"""

import ast
import json
import re
import tempfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = {"preset", "overrides", "device", "experiments"}
MOST_BYTES = 4_000_000
MOST_LINES = 12
STATEMENTS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.AsyncFor, ast.While)
NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
# A slash after a blank, a quote or a bracket, then two names; or a drive letter; or a file address.
ABSOLUTE_PATH = re.compile(
    r"""(?:(?<=[\s"'(=\[])|^)/[\w.~-]+/[\w.~-]+|\b[A-Za-z]:\\\w|file://""", re.MULTILINE
)
SANITIZED = re.compile(r"^<Figure size [\d.]+x[\d.]+ with \d+ Axes>$")


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def texts(output: dict) -> list[str]:
    """What can be read in an output: its stream, or its data except the images."""
    data = [
        value for mime, value in output.get("data", {}).items() if not mime.startswith("image/")
    ]
    return [
        output.get("text", ""),
        *(value if isinstance(value, str) else json.dumps(value) for value in data),
    ]


def syntax_tree(cell: dict) -> ast.Module:
    """The cell as Python; an empty module where it is not, which `cells_are_plain_python` complains
    about.
    """
    try:
        return ast.parse(cell["source"])
    except SyntaxError:
        return ast.Module([], [])


# A check takes a notebook and returns its complaints.


def is_valid(notebook: dict) -> list[str]:
    try:
        nbformat.validate(nbformat.from_dict(notebook))
    except nbformat.ValidationError as error:
        return [error.message]
    return []


def ran_once_from_top_to_bottom(notebook: dict) -> list[str]:
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    return (
        []
        if counts and counts == list(range(1, len(counts) + 1))
        else [f"execution counts are {counts}"]
    )


def something_is_compared(notebook: dict) -> list[str]:
    """nbval compares untagged cells and no images, and replaces the line that stands for a figure."""
    compared = [
        text
        for cell in code_cells(notebook)
        if not tags(cell) & NOT_COMPARED and "NBVAL_" not in cell["source"]
        for output in cell["outputs"]
        for text in texts(output)
    ]
    telling = [text for text in compared if text.strip() and not SANITIZED.match(text.strip())]
    return [] if telling else ["no output is compared"]


def the_kernel_is_python3(notebook: dict) -> list[str]:
    name = notebook["metadata"].get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"the kernel is {name!r}"]


def is_small(notebook: dict) -> list[str]:
    size = len(json.dumps(notebook, ensure_ascii=False, indent=1).encode())
    return [] if size < MOST_BYTES else [f"{size} bytes"]


def stores_neither_warnings_nor_errors(notebook: dict) -> list[str]:
    bad = [
        output
        for output in outputs(notebook)
        if output.get("name") == "stderr" or output["output_type"] == "error"
    ]
    return [f"stored: {str(output)[:200]}" for output in bad]


def stores_no_widget(notebook: dict) -> list[str]:
    state = ["widget state"] if "widgets" in notebook["metadata"] else []
    mimes = [
        mime for output in outputs(notebook) for mime in output.get("data", {}) if "widget" in mime
    ]
    return state + mimes


def has_no_trace_of_a_run(notebook: dict) -> list[str]:
    """Neither papermill's record and injected cell nor the times of a run: they change with every
    run.
    """
    holders = [notebook, *notebook["cells"]]
    traces = [
        key for holder in holders for key in ("papermill", "execution") if key in holder["metadata"]
    ]
    return traces + [
        tag for cell in notebook["cells"] for tag in tags(cell) if tag.startswith("injected")
    ]


def cells_are_plain_python(notebook: dict) -> list[str]:
    """No `%` or `!`: a magic is no Python, so it does not parse; `get_ipython` is the same by
    another name.
    """
    complaints = []
    for cell in code_cells(notebook):
        try:
            names = {
                node.id
                for node in ast.walk(ast.parse(cell["source"]))
                if isinstance(node, ast.Name)
            }
        except SyntaxError as error:
            complaints.append(f"not Python: {error.text!r}")
        else:
            complaints += ["get_ipython"] * ("get_ipython" in names)
    return complaints


def defines_and_loops_nowhere(notebook: dict) -> list[str]:
    nodes = [node for cell in code_cells(notebook) for node in ast.walk(syntax_tree(cell))]
    return [
        f"{type(node).__name__}, line {node.lineno} of its cell"
        for node in nodes
        if isinstance(node, STATEMENTS)
    ]


def builds_no_dict_of_tables(notebook: dict) -> list[str]:
    """A dict that names tables is a list of experiments by hand; a study knows which there are."""
    cells = [cell for cell in code_cells(notebook) if "parameters" not in tags(cell)]
    dicts = [
        node for cell in cells for node in ast.walk(syntax_tree(cell)) if isinstance(node, ast.Dict)
    ]
    held = [
        value
        for node in dicts
        for value in node.values
        if isinstance(value, ast.Name | ast.Call | ast.Subscript)
    ]
    return [f"a dict of {ast.unparse(value)}" for value in held]


def cells_are_short(notebook: dict) -> list[str]:
    lengths = [len(cell["source"].splitlines()) for cell in code_cells(notebook)]
    return [f"a cell of {length} lines" for length in lengths if length > MOST_LINES]


def papermill_sees_the_parameters(notebook: dict) -> list[str]:
    """One cell is tagged `parameters`: it assigns the four names, and papermill finds the same."""
    cells = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged parameters"]
    assigned, seen = assigned_names(cells[0]), names_papermill_sees(notebook)
    return (
        [] if assigned == seen == PARAMETERS else [f"assigned {assigned}, seen by papermill {seen}"]
    )


def assigned_names(cell: dict) -> set[str]:
    names = [node for node in ast.walk(syntax_tree(cell)) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


def names_papermill_sees(notebook: dict) -> set[str]:
    papermill = pytest.importorskip("papermill")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notebook.ipynb"
        path.write_text(json.dumps(notebook))
        return set(papermill.inspect_notebook(str(path)))


def outputs_name_no_absolute_path(notebook: dict) -> list[str]:
    return [
        found
        for output in outputs(notebook)
        for text in texts(output)
        for found in ABSOLUTE_PATH.findall(text)
    ]


CHECKS = (
    is_valid,
    ran_once_from_top_to_bottom,
    something_is_compared,
    the_kernel_is_python3,
    is_small,
    stores_neither_warnings_nor_errors,
    stores_no_widget,
    has_no_trace_of_a_run,
    cells_are_plain_python,
    defines_and_loops_nowhere,
    builds_no_dict_of_tables,
    cells_are_short,
    papermill_sees_the_parameters,
    outputs_name_no_absolute_path,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_compared_and_portable(path, check):
    assert check(nbformat.read(path, 4)) == []


def test_a_source_has_a_notebook_and_a_notebook_has_a_source():
    modules = {
        path.stem for path in (ROOT / "src/replicate/sources").glob("[!_]*") if path.is_dir()
    }
    assert {path.stem for path in NOTEBOOKS} == modules


# From here on: each check is shown a notebook in which just its own rule is broken.

PARAMETERS_CELL = 'preset = "smoke"\noverrides = {}\ndevice = "auto"\nexperiments = ()'
TABLE = "<table><tr><td>claim</td><td>contradicted</td></tr></table>"


def result(**data: str) -> dict:
    """The output of a cell's last line; keywords name the mime type, `text_html` is text/html."""
    data = {mime.replace("_", "/", 1): text for mime, text in data.items()}
    return nbformat.v4.new_output("display_data", data=data)


def good_notebook() -> dict:
    """A notebook of four cells in which nothing is wrong."""
    verdicts = result(text_plain="1/2 and/or https://example.org/a/b", text_html=TABLE)
    cells = [
        nbformat.v4.new_markdown_cell("# A source, see https://example.org/a/b"),
        nbformat.v4.new_code_cell(PARAMETERS_CELL),
        nbformat.v4.new_code_cell("verdicts", outputs=[verdicts]),
        nbformat.v4.new_code_cell(
            "{name: 7 % 4 for name in verdicts}", outputs=[result(image_png="/9j/4AAQ /a/b")]
        ),
    ]
    cells[1]["metadata"]["tags"] = ["parameters"]
    for number, cell in enumerate(cells[1:], start=1):
        cell["execution_count"] = number
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def source(text: str):
    """Break a notebook by giving its last cell another source."""
    return lambda notebook: notebook["cells"][-1].update(source=text)


def parameters(text: str):
    """Break a notebook by giving its parameters cell another source."""
    return lambda notebook: notebook["cells"][1].update(source=text)


def printed(text: str, name: str = "stdout"):
    """Break a notebook by letting its last cell print."""
    stream = nbformat.v4.new_output("stream", name=name, text=text)
    return lambda notebook: notebook["cells"][-1]["outputs"].append(stream)


def show_primary(**data: str):
    """Break a notebook by letting its comparing cell show this alone."""
    return lambda notebook: notebook["cells"][2].update(outputs=[result(**data)])


def count(value: int | None):
    """Break a notebook by giving its last cell another execution count."""
    return lambda notebook: notebook["cells"][-1].update(execution_count=value)


def metadata(key: str, value: object, cell: int | None = None):
    """Break a notebook by an entry in its metadata, or in a cell's."""
    return lambda notebook: (notebook if cell is None else notebook["cells"][cell])[
        "metadata"
    ].update({key: value})


def raised(notebook: dict) -> None:
    notebook["cells"][-1]["outputs"].append(
        nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    )


def without_cells(notebook: dict) -> None:
    notebook["cells"] = []


def bad_identity(notebook: dict) -> None:
    notebook["cells"][-1].update(id="no such id, it has blanks")


BROKEN = (
    (is_valid, bad_identity),
    (is_valid, lambda notebook: notebook["cells"][-1].pop("outputs")),
    (ran_once_from_top_to_bottom, count(None)),
    (ran_once_from_top_to_bottom, count(2)),
    (ran_once_from_top_to_bottom, count(7)),
    (ran_once_from_top_to_bottom, without_cells),
    (something_is_compared, lambda notebook: notebook["cells"][2].update(outputs=[])),
    (
        something_is_compared,
        show_primary(text_plain="<Figure size 640x480 with 1 Axes>", image_png="AAAA"),
    ),
    (something_is_compared, show_primary(text_plain=" \n")),
    (something_is_compared, metadata("tags", ["nbval-ignore-output"], cell=2)),
    (something_is_compared, metadata("tags", ["nbval-skip"], cell=2)),
    (
        something_is_compared,
        lambda notebook: notebook["cells"][2].update(source="# NBVAL_IGNORE_OUTPUT\nverdicts"),
    ),
    (the_kernel_is_python3, metadata("kernelspec", {"name": "my-env", "display_name": "Mine"})),
    (the_kernel_is_python3, lambda notebook: notebook["metadata"].pop("kernelspec")),
    (is_small, show_primary(image_png="A" * MOST_BYTES)),
    (stores_neither_warnings_nor_errors, printed("UserWarning: mind the gap", name="stderr")),
    (stores_neither_warnings_nor_errors, raised),
    (stores_no_widget, metadata("widgets", {"application/vnd.jupyter.widget-state+json": {}})),
    (stores_no_widget, show_primary(**{"application_vnd.jupyter.widget-view+json": "{}"})),
    (has_no_trace_of_a_run, metadata("papermill", {})),
    (has_no_trace_of_a_run, metadata("papermill", {}, cell=0)),
    (has_no_trace_of_a_run, metadata("execution", {}, cell=-1)),
    (has_no_trace_of_a_run, metadata("tags", ["injected-parameters"], cell=-1)),
    (cells_are_plain_python, source("%matplotlib inline")),
    (cells_are_plain_python, source("%%time\nverdicts")),
    (cells_are_plain_python, source("!ls")),
    (cells_are_plain_python, source("files = !ls")),
    (cells_are_plain_python, source("get_ipython().system('ls')")),
    (defines_and_loops_nowhere, source("def verdict(): ...")),
    (defines_and_loops_nowhere, source("if True:\n    async def verdict(): ...")),
    (defines_and_loops_nowhere, source("class Verdict: ...")),
    (defines_and_loops_nowhere, source("for _ in range(3): pass")),
    (defines_and_loops_nowhere, source("with verdicts:\n    while True: break")),
    (builds_no_dict_of_tables, source('tables = {"figure_5": figure_5}')),
    (builds_no_dict_of_tables, source('judge({"figure_5": study.run("figure_5")})')),
    (cells_are_short, source("1\n" * (MOST_LINES + 1))),
    (papermill_sees_the_parameters, metadata("tags", [], cell=1)),
    (papermill_sees_the_parameters, metadata("tags", ["parameters"], cell=-1)),
    (papermill_sees_the_parameters, parameters('preset = "smoke"\noverrides = {}')),
    (
        papermill_sees_the_parameters,
        parameters(PARAMETERS_CELL + "\njobs = 2"),
    ),
    (
        papermill_sees_the_parameters,
        parameters(PARAMETERS_CELL.replace("overrides =", "overrides: dict | None =")),
    ),
    (
        papermill_sees_the_parameters,
        parameters('preset, overrides, device, experiments = "smoke", {}, "auto", ()'),
    ),
    (outputs_name_no_absolute_path, printed("saved in /home/me/replicate")),
    (outputs_name_no_absolute_path, printed("/root/x.parquet")),
    (outputs_name_no_absolute_path, printed("PosixPath('/tmp/x')")),
    (outputs_name_no_absolute_path, printed("C:\\Users\\me")),
    (outputs_name_no_absolute_path, show_primary(text_html='<a href="file:///a">')),
    (outputs_name_no_absolute_path, show_primary(text_html='<img src="/srv/figure.png">')),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_notebook_draws_no_complaint(check):
    assert check(good_notebook()) == []


@pytest.mark.parametrize("check, break_it", BROKEN, ids=lambda part: part.__name__)
def test_a_broken_notebook_is_noticed(check, break_it):
    notebook = good_notebook()
    break_it(notebook)
    assert check(notebook)


def test_each_check_has_been_seen_to_fail():
    assert {check for check, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(
    "text", ["reproduced 0.0512 [0.0498, 0.0526] cpu", "2.13.0+cpu", "12.3 s", "0xdeadbeef"]
)
def test_the_sanitizer_leaves_verdicts_numbers_and_units_alone(text):
    config = (ROOT / "tests/nbval_sanitize.cfg").read_text()
    patterns = re.findall(r"^regex: (.*)$", config, re.MULTILINE)
    assert patterns
    assert not [pattern for pattern in patterns if re.search(pattern, text)]
