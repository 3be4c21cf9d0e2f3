"""Optimizers, averages and training work where nothing is installed but torch, numpy and
safetensors.
"""

import os
import subprocess
import sys

import pytest

# `replicate` may import what it depends on; torch and the others what they depend on.
BLOCKED = """
import builtins, re, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

ALONE = {"torch", "numpy", "safetensors"}
IMPORT = builtins.__import__


def closure(names):
    reached, todo = set(), list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name not in reached:
            reached.add(name)
            try:
                lines = [line for line in requires(name) or [] if "extra ==" not in line]
            except PackageNotFoundError:
                continue
            todo += [re.match(r"[\\w.-]+", line)[0] for line in lines]
    return reached


INSTALLED = {module: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
             for module, names in packages_distributions().items()}
THEIRS = closure(ALONE)


class Shelf:
    # Finds on the disk what may be there.

    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "replicate" and top in INSTALLED and not INSTALLED[top] & THEIRS:
            return None
        return PathFinder.find_spec(name, path, target)


def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    importer, top = (globals or {}).get("__name__", ""), name.partition(".")[0]
    allowed = ALONE | {"replicate"} | set(sys.stdlib_module_names)
    if importer.startswith("replicate") and not level and top not in allowed:
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)
    return IMPORT(name, globals, locals, fromlist, level)


for name in [name for name in sys.modules if name.partition(".")[0] in INSTALLED]:
    del sys.modules[name]
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Shelf]
builtins.__import__ = guarded
"""
PRELUDE = """
import torch
from replicate import averaging, optim, training

torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
x, y = torch.randn(8, 3), torch.randn(8, 1)


def loss():
    return ((net(x) - y) ** 2).mean()
"""
OPTIMIZERS = """
before = [weight.clone() for weight in net.parameters()]
for method in (
    optim.SGD(net.parameters(), lr=0.1),
    optim.Lookahead(optim.SGD(net.parameters(), lr=0.1), k=1, alpha=0.5),
    optim.TaylorExtrapolation(optim.SGD(net.parameters(), lr=0.1), dt=0.01),
    optim.KeepStepping(net.parameters(), lr=0.1),
    optim.KeepVaulting(net.parameters(), lr=0.1),
):
    method.zero_grad()
    loss().backward()
    method.step(loss)
    after = [weight.detach().clone() for weight in net.parameters()]
    assert all(torch.isfinite(weight).all() for weight in after)
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True)), type(method).__name__
    before = after
print("stepped")
"""
AVERAGES = """
averages = averaging.KernelAverages({"swa": averaging.swa(2)}, training.flat_weights(net))
schedule = averaging.equivalent_schedule(lambda step: 0.1, averaging.swa(2), 0)
averaging.recompute_batch_norm(torch.nn.Sequential(torch.nn.BatchNorm1d(3)), [x])
print("averaged", schedule(0))
"""
CHECKPOINT = """
import sys
from pathlib import Path

path = Path(sys.argv[1]) / "state.ckpt"
state = training.State(net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
training.save_state(path, state)
assert training.load_state(path, state).step == 0
print("saved", path.stat().st_size > 100)
"""
WRONG = "import pandas"


def alone(code: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED + code, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.mark.parametrize(
    "code, says",
    [(OPTIMIZERS, "stepped"), (AVERAGES, "averaged 0.1"), (CHECKPOINT, "saved True")],
    ids=["optim", "averaging", "training"],
)
def test_with_torch_numpy_and_safetensors_alone(code, says, tmp_path):
    done = alone(PRELUDE + code, str(tmp_path))
    assert done.stdout.strip() == says, done.stderr


@pytest.mark.parametrize("module", ["pandas", "jax", "typer", "pydantic", "tqdm"])
def test_the_rest_is_really_not_there(module):
    done = alone(f"import {module}")
    assert f"No module named '{module}'" in done.stderr and done.returncode == 1


def test_what_torch_brings_is_not_ours_to_import():
    done = alone("exec('import sympy', {'__name__': 'replicate.leaf', '__builtins__': builtins})")
    assert "No module named 'sympy'" in done.stderr and done.returncode == 1
