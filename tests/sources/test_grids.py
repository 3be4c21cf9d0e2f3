"""A run of a grid knows its seed from its point: `seeds` is in no run's key, so no run may read it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from replicate.sources.protocol import names

SOURCES = Path(__file__).resolve().parents[2] / "src" / "replicate" / "sources"
ARGUMENTS = ["settings", "point", "folder", "parents", "device"]


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """Every function and method of a source, by name."""
    trees = [ast.parse(path.read_text()) for path in sorted((SOURCES / source).glob("*.py"))]
    return {
        node.name: node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def runs_of_grids(defined: Mapping[str, ast.FunctionDef]) -> list[str]:
    return [
        name for name, node in defined.items() if [arg.arg for arg in node.args.args] == ARGUMENTS
    ]


def calls(node: ast.AST) -> Iterator[str]:
    """What a function names without a dot, but for its own variables, or takes from a module of its
    source, `_module.name`.
    """
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    variables = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id not in variables:
            yield inner.id
        elif (
            isinstance(inner, ast.Attribute)
            and isinstance(inner.value, ast.Name)
            and inner.value.id.startswith("_")
        ):
            yield inner.attr


def reads_seeds(node: ast.AST) -> bool:
    return any(
        isinstance(inner, ast.Attribute) and inner.attr == "seeds" for inner in ast.walk(node)
    )


def readers_of_seeds(defined: Mapping[str, ast.FunctionDef]) -> list[str]:
    """Runs of grids that read `seeds`, themselves or by a function of their source."""
    readers = []
    for run in runs_of_grids(defined):
        todo, seen = [run], set()
        while todo:
            name = todo.pop()
            if name in defined and name not in seen:
                seen.add(name)
                todo += calls(defined[name])
        if any(reads_seeds(defined[name]) for name in seen):
            readers.append(run)
    return readers


@pytest.mark.parametrize("source", names())
def test_no_run_of_a_grid_reads_the_seeds(source):
    defined = functions(source)
    assert runs_of_grids(defined)
    assert readers_of_seeds(defined) == []


def test_a_run_that_reads_the_seeds_is_noticed():
    text = "def run(settings, point, folder, parents, device):\n    return every(settings)\n\n\n"
    text += "def every(settings):\n    return list(settings.seeds)\n"
    defined = {node.name: node for node in ast.parse(text).body}
    assert readers_of_seeds(defined) == ["run"]
