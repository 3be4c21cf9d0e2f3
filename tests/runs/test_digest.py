"""The digest changes with code that can change a number, and with nothing else."""

import importlib.util
import sys

import pytest

from replicate.runs import digest

SOURCE = '''"""A source."""
from replicate import leaf, plots
from replicate.other import helper
from replicate.optim import SGD, first

RATE = 0.1
UNUSED = 3


def experiment(settings):
    """What it does."""
    return inner(settings) * RATE + leaf.f() + first(SGD)


def inner(settings):
    # a comment
    return helper(settings)


def unrelated(settings):
    return UNUSED
'''
FILES = {
    "leaf.py": "from replicate import deep\n\n\ndef f():\n    return deep.g()\n",
    "deep.py": "def g():\n    return 1\n",
    "other.py": "def helper(x):\n    return x\n",
    "plots.py": "def draw():\n    return 1\n",
    "__init__.py": "",
    "optim/__init__.py": "from torch.optim import SGD\n\nfrom replicate.optim.one import first\n",
    "optim/one.py": "def first(x):\n    return x\n",
    "optim/two.py": "def second(x):\n    return x\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own; `package(name, old, new)` edits a file and gives the digest of `experiment`."""
    for name, text in (FILES | {"source.py": SOURCE}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(digest, "PACKAGE", tmp_path)

    def edited(name: str = "source.py", old: str = "", new: str = "") -> str:
        path = tmp_path / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1) if old else path.read_text())
        spec = importlib.util.spec_from_file_location("source_of_a_test", tmp_path / "source.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "source_of_a_test", module)
        exec(compile("def experiment(settings): ...", str(tmp_path / "source.py"), "exec"), module.__dict__)
        module.experiment.__module__ = "source_of_a_test"
        return digest.code_digest(module.experiment)

    return edited


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("source.py", '"""What it does."""', '"""What else it says."""'),
        ("source.py", '"""A source."""', ""),
        ("source.py", "# a comment", "# another comment"),
        ("source.py", "UNUSED = 3", "UNUSED = 4"),
        ("source.py", "return UNUSED", "return 7"),
        ("source.py", "\n\n\ndef inner", "\n\n\n\n\ndef inner"),
        ("plots.py", "return 1", "return 2"),
        ("optim/two.py", "return x", "return -x"),
        ("optim/__init__.py", "first\n", "first\nfrom replicate.optim.two import second\n"),
    ],
)
def test_what_cannot_change_a_number_changes_nothing(package, name, old, new):
    assert package() == package(name, old, new)


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("source.py", "* RATE", "/ RATE"),
        ("source.py", "RATE = 0.1", "RATE = 0.2"),
        ("source.py", "return helper(settings)", "return 2 * helper(settings)"),
        ("leaf.py", "return deep.g()", "return deep.g() + 1"),
        ("deep.py", "return 1", "return 2"),
        ("other.py", "return x", "return -x"),
        ("optim/one.py", "return x", "return -x"),
    ],
)
def test_whatever_the_experiment_reaches_changes_it(package, name, old, new):
    assert package() != package(name, old, new)


def test_order_of_functions_aside_the_digest_is_the_same_twice(package):
    assert package() == package() and len(package()) == 16
