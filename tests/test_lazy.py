"""A lazy package has the names that its text imports, and loads a module when one of them is used."""

import ast
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import replicate
from replicate import lazy

HOME = Path(replicate.__file__).parent
NOT_LEAVES = {"app", "sources"}
LEAVES = sorted(
    path.parent.name for path in HOME.glob("*/__init__.py") if path.parent.name not in NOT_LEAVES
)
PACKAGE = '''"""A package of a test."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from {name}.area import area, circle as disc
    from {name}.length import Length

lazy.attach(__name__)
'''


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A lazy package with a function that is named as its module."""
    name = f"shapes_{tmp_path.name}"
    home = tmp_path / name
    home.mkdir()
    (home / "__init__.py").write_text(PACKAGE.format(name=name))
    (home / "area.py").write_text("def area():\n    return 1\n\n\ndef circle():\n    return 3\n")
    (home / "length.py").write_text("class Length:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(name)
    for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[loaded]


def test_nothing_is_loaded_until_a_name_is_used(shapes):
    assert f"{shapes.__name__}.area" not in sys.modules
    assert shapes.area() == 1 and shapes.disc() == 3
    assert f"{shapes.__name__}.length" not in sys.modules


def test_a_name_is_looked_up_once(shapes):
    assert shapes.Length is shapes.Length and "Length" in vars(shapes)


def test_an_unknown_name_is_an_attribute_error_that_names_the_package(shapes):
    with pytest.raises(
        AttributeError, match=f"module '{shapes.__name__}' has no attribute 'volume'"
    ):
        shapes.volume  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'volume'"):
        importlib.import_module(shapes.__name__)
        exec(f"from {shapes.__name__} import volume")


def test_all_names_are_listed_and_imported_by_a_star(shapes):
    names, listed = {"area", "disc", "Length"}, {}
    exec(f"from {shapes.__name__} import *", listed)
    assert set(shapes.__all__) == names and names <= set(dir(shapes)) and names <= set(listed)


def test_a_function_stays_one_when_its_module_of_the_same_name_is_imported_first(shapes):
    module = importlib.import_module(f"{shapes.__name__}.area")
    assert shapes.area is module.area
    sys.modules.pop(module.__name__)
    importlib.import_module(module.__name__)
    assert callable(shapes.area)


def test_a_name_can_be_replaced_for_a_while(shapes, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "area", lambda: 2)
        assert shapes.area() == 2
    assert shapes.area() == 1


def test_a_lazy_package_goes_to_a_worker(shapes):
    assert pickle.loads(pickle.dumps(shapes)) is shapes


def test_imports_outside_the_guard_are_not_the_packages():
    text = "from a import b\nif TYPE_CHECKING:\n    import c\n    from d import e as f\nif x:\n    from g import h\n"
    assert lazy.read_imports(ast.parse(text)) == {"f": ("d", "e")}


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_is_lazy_and_lists_its_names_once(leaf):
    text = (HOME / leaf / "__init__.py").read_text()
    listed = lazy.read_imports(ast.parse(text))
    assert listed and "__all__" not in text and text.rstrip().endswith("lazy.attach(__name__)")
    imported = {
        alias.name
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"TYPE_CHECKING", "lazy"}


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_name_of_a_leaf_is_there(leaf):
    package = importlib.import_module(f"replicate.{leaf}")
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_importing_every_leaf_loads_nothing_but_what_reads_their_texts():
    code = "; ".join(
        ["import sys", *(f"import replicate.{leaf}" for leaf in LEAVES), "print(*sys.modules)"]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("replicate.")}
    assert ours == {"replicate.lazy", *(f"replicate.{leaf}" for leaf in LEAVES)}, done.stderr
    assert not loaded & {"torch", "jax", "numpy", "pandas", "pydantic"}
