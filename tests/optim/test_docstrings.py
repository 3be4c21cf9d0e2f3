"""Every public docstring of an optimizer has an example that runs."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

from replicate import optim

FILES = sorted(Path(optim.__file__).parent.glob("[!_]*.py"))


def public(tree: ast.AST, prefix: str = ""):
    """(name, docstring) of every public class, method and function."""
    for node in ast.iter_child_nodes(tree):
        kinds = (ast.ClassDef, ast.FunctionDef)
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_public_name_has_an_example(file):
    without = [name for name, text in public(ast.parse(file.read_text())) if ">>> " not in text]
    assert not without


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_gives_what_it_says(file):
    if file.stem == "keras":
        pytest.skip("tests/optim/test_keras.py runs them, on each of Keras' backends")
    module = importlib.import_module(f"replicate.optim.{file.stem}")
    tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried.attempted and not tried.failed
