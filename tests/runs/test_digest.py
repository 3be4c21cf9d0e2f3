"""The digest changes with code that can change a number, and with nothing else."""

import importlib.util
import shutil
import sys

import pytest

from replicate.runs import digest
from replicate.sources.protocol import Source

SOURCE = '''"""A source."""
from replicate import leaf, plots, nets, shapes
from replicate.other import helper
from replicate.optim import SGD, first

RATE = 0.1
UNUSED = 3


def experiment(settings):
    """What it does."""
    return inner(settings) * RATE + leaf.f() + first(SGD) + nets.wide(shapes)


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
    "nets/__init__.py": "from typing import TYPE_CHECKING\n\nfrom replicate import lazy\n\nif TYPE_CHECKING:\n"
    "    from replicate.nets.broad import wide\n    from replicate.nets.small import narrow\n\nlazy.attach(__name__)\n",
    "nets/broad.py": "def wide(x):\n    return x\n",
    "nets/small.py": "def narrow(x):\n    return x\n",
    "shapes/__init__.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from replicate.shapes.round import ball\n",
    "shapes/round.py": "def ball(x):\n    return x\n",
    "lazy.py": "def attach(name):\n    pass\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own; `package(name, old, new)` edits a file and gives the digest of
    `experiment`.
    """
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
        exec(
            compile("def experiment(settings): ...", str(tmp_path / "source.py"), "exec"),
            module.__dict__,
        )
        module.experiment.__module__ = "source_of_a_test"
        digest._homes_of_module.cache_clear()  # in a process the code does not change
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
        ("nets/small.py", "return x", "return -x"),
        ("nets/__init__.py", "    from replicate.nets.small import narrow\n", ""),
        ("lazy.py", "pass", "return name"),
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
        ("nets/broad.py", "return x", "return -x"),
        ("nets/__init__.py", "nets.broad import wide", "nets.small import narrow as wide"),
        (
            "shapes/round.py",
            "return x",
            "return -x",
        ),  # the package is handed on, so all of it may be used
    ],
)
def test_whatever_the_experiment_reaches_changes_it(package, name, old, new):
    assert package() != package(name, old, new)


def test_order_of_functions_aside_the_digest_is_the_same_twice(package):
    assert package() == package() and len(package()) == 16


@pytest.fixture
def changed_by(tmp_path, monkeypatch):
    """`changed_by(path)`: the experiments whose digest changes with an edit of this file of the
    package.
    """
    home = shutil.copytree(digest.PACKAGE, tmp_path / "replicate")
    monkeypatch.setattr(digest, "PACKAGE", home)
    experiments = Source("sandler2023trajectories")

    def digests() -> dict[str, str]:
        digest._homes_of_module.cache_clear()
        return {name: digest.code_digest(each) for name, each in experiments.items()}

    def edited(path: str) -> set[str]:
        before = digests()
        text = (home / path).read_text()
        (home / path).write_text(text + "\nEDITED = 1\n")
        after = digests()
        (home / path).write_text(text)
        return {name for name in before if before[name] != after[name]}

    return edited


def test_an_edit_reaches_the_experiments_that_use_it_through_a_lazy_package_and_no_others(
    changed_by,
):
    trips = {
        "continuations",
        "cooldowns",
        "figure_6",
        "figure_7",
        "flatness",
        "momentum_inside",
        "steep_directions",
        "same_model",
        "optimal_kernel",
        "cosine_end",
        "noise_at_optimum",
        "radius_by_rate",
        "sparse_averages",
    }
    networks = {
        "decoupled_decay",
        "drifting_data",
        "figure_5",
        "figure_2",
        "figure_3",
        "figure_8",
        "figure_14",
        "last_steps",
        "line_search",
        "spectrum",
    } | trips
    algebra = {"appendix_a", "frozen_updates", "section_4", "spread"}
    kernels = networks | algebra | {"regimes", "table_1"}
    drawn = algebra | {"figure_4", "figure_9", "figure_11", "radius"}
    assert changed_by("training/loop.py") == changed_by("models/mlp.py") == networks
    assert changed_by("problems/heavy_ball.py") == {"table_1"}
    assert changed_by("streams.py") == networks | drawn
    assert changed_by("averaging/kernels.py") == kernels
    hessian = "sources/sandler2023trajectories/_hessian.py"
    assert changed_by(hessian) == {
        "flatness",
        "steep_directions",
        "optimal_kernel",
        "radius_by_rate",
    }
    assert changed_by("sources/sandler2023trajectories/_turning.py") == {"drifting_data"}
    symbols = "sources/sandler2023trajectories/_equations.py"
    assert changed_by(symbols) == {"appendix_a", "section_4"}
    unused = (
        "training/lanes.py",
        "optim/keep_stepping.py",
        "problems/moments.py",
        "descent/walks.py",
        "lazy.py",
    )
    assert {path: changed_by(path) for path in unused} == dict.fromkeys(unused, set())
