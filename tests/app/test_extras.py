"""A module that is not there is explained by the extra that brings it."""

import pytest

from replicate import paths
from replicate.app import extras

LINES = [
    "torch<2.14,>=2.6",
    "scikit-learn>=1.5; extra == 'sources'",
    'jax>=0.8; extra == "sources"',
    "jupyterlab>=4.2; extra == 'notebooks'",
    "myst-nb>=1.1; extra == 'report'",
    "jax[cuda13]; extra == 'gpu'",
]


@pytest.fixture(autouse=True)
def metadata(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda _: LINES)


def absent(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    "module, extra",
    [("jax", "sources"), ("jax.numpy", "sources"), ("sklearn.datasets", "sources"), ("jupyterlab", "notebooks"),
     ("myst_nb", "report")],
)  # fmt: skip
def test_the_first_extra_that_brings_a_module_is_named(monkeypatch, module, extra):
    monkeypatch.setattr(paths, "IS_CHECKOUT", False)
    line = extras.explain(absent(module))
    assert (
        line
        == f"this needs {module.split('.')[0]}, which is not installed: pip install 'replicate[{extra}]'"
    )


def test_a_checkout_is_told_of_make_env(monkeypatch):
    monkeypatch.setattr(paths, "IS_CHECKOUT", True)
    assert extras.explain(absent("jax")).endswith("pip install -e '.[sources]' or make env")


@pytest.mark.parametrize("module", ["torch", "replicate.nowhere", "nobody", ""])
def test_any_other_module_is_left_to_its_traceback(module):
    assert extras.explain(absent(module)) is None


def test_without_metadata_nothing_is_claimed(monkeypatch):
    def fail(_):
        raise extras.PackageNotFoundError

    monkeypatch.setattr(extras, "requires", fail)
    assert extras.explain(absent("jax")) is None
