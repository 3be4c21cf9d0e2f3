"""The Keras wrapper, on each backend in a process of its own; and what is said where Keras is not."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replicate.errors import Unavailable

CASES = Path(__file__).with_name("keras_cases.py")
PACKAGES = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}


@pytest.mark.parametrize(
    "backend",
    ["torch", *(pytest.param(name, marks=pytest.mark.long) for name in ("jax", "tensorflow"))],
)
def test_every_case_holds(backend, tmp_path):
    for package in ("keras", PACKAGES[backend]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environment = os.environ | {"KERAS_BACKEND": backend, "KERAS_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "no:xdist", "-W", "ignore::DeprecationWarning", str(CASES)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.parametrize("absent, how", [
    ("keras", "pip install 'replicate[keras]'"),
    ("tensorflow", "Keras' backend here is tensorflow; set KERAS_BACKEND to torch or jax"),
])  # fmt: skip
def test_what_is_not_installed_is_one_line(monkeypatch, tmp_path, absent, how):
    """A keras that fails at its import as the real one does without itself or its backend."""
    (tmp_path / "keras.py").write_text(f"raise ModuleNotFoundError('no', name={absent!r})")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("keras", "replicate.optim.keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(Unavailable) as caught:
        importlib.import_module("replicate.optim.keras")
    assert str(caught.value) == (
        f"replicate.optim.keras needs {absent}, which is not installed: {how}"
    )
