"""The figures of the notebooks, drawn from what is recorded: cells are run with a study that reads."""

import ast
import functools
import re

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from matplotlib.figure import Figure

from replicate import paths
from replicate.app import registry, verdicts
from replicate.app.notebooks import Study


class FullSizeStudy(Study):
    """A study that draws one table of an experiment, in full size."""

    def draw(self, names, *plots, beside=()):
        names = [names] if isinstance(names, str) else names
        for plot in plots:
            plot(*map(self.run, [*names, *beside]))


@functools.cache
def read_once(source: str, preset: str, names: tuple[str, ...]) -> pd.DataFrame:
    """What a study reads: cells and data sets ask for the same tables many times."""
    tables = [registry.read_largest(registry.source(source), name, preset) for name in names]
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


class ReadingStudy(FullSizeStudy):
    """A study whose runs are those on record; of what is not, the table is empty."""

    def run(self, name):
        return self.run_together(name)[0]

    def run_together(self, *names):
        return [self.read_recorded(name) for name in names]

    def read_recorded(self, *names):
        return read_once(self.source.name, self.preset, names).copy()

    def run_beside(self, name):
        return self.run(name)

    def verdicts(self):
        return verdicts.read_recorded(self.source, "cpu")


def list_code_cells(source: str) -> dict[str, str]:
    """Name of a cell -> its code."""
    cells = nbformat.read(paths.NOTEBOOKS / f"{source}.ipynb", 4).cells
    return {cell.id: cell.source for cell in cells if cell.cell_type == "code"}


def list_drawing_cells(source: str) -> dict[str, str]:
    """Name of a cell -> its code, of every cell that shows figures."""
    return {
        name: code
        for name, code in list_code_cells(source).items()
        if "show()" in code or "study.draw(" in code
    }


def find_plots(code: str) -> set[str]:
    return set(re.findall(r"plots\.(\w+)", code))


def list_imports(source: str) -> str:
    cells = nbformat.read(paths.NOTEBOOKS / f"{source}.ipynb", 4).cells
    trees = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    lines = [
        node
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(map(ast.unparse, lines))


def draw_cell(source: str, code: str, study: Study) -> list[Figure]:
    """The figures that a cell leaves open."""
    return show_cell(source, code, study)[0]


def show_cell(source: str, code: str, study: Study) -> tuple[list[Figure], object]:
    """The figures that a cell leaves open, and the value of its last line if that is an expression."""
    plt.close("all")
    names: dict = {}
    exec(list_imports(source), names)
    names |= {"study": study, "show": lambda: None, "shown": None}
    if "larger" in code:
        names["larger"] = study.read_larger()
    *_, last = lines = ast.parse(code).body
    if isinstance(last, ast.Expr):
        name = ast.Name("shown", ast.Store())
        assigned = ast.copy_location(ast.Assign([name], last.value), last)
        lines[-1] = ast.fix_missing_locations(assigned)
    exec(compile(ast.Module(lines, []), "a cell", "exec"), names)
    return [plt.figure(number) for number in plt.get_fignums()], names["shown"]
