"""Ground, then leaves, then sources, then the composing layer: who may import whom, and what belongs together.

A check takes `modules` (name -> text) and yields its complaints; each is seen to complain about a broken example.
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from replicate import claims, paths, report

PACKAGE = paths.ROOT / "src" / "replicate"
GROUND = {"errors", "streams", "progress", "paths", "numerics"}
COMPOSING = {"notebook", "report", "site", "speed", "evidence", "__main__"}
NOT_LEAVES = GROUND | COMPOSING | {"sources", ""}
OF_THE_GROUND = set(sys.stdlib_module_names) | {"numpy", "tqdm"}
DEVICE_QUESTIONS = ("is_available", "get_capabilities", "get_cpu_capability", "device_count", "get_device_capability")
MOST_LINES = 400
NOT_BUILT = {
    "fabi2021extrapolation": 1,
    "sandler2023trajectories": 134,
    "warmerdam2020descent": 0,
}  # claims without code, per file: a change may only make it smaller


def name_of(path: Path) -> str:
    """`datasets.vision` of src/replicate/datasets/vision.py; a package by its folder, the root as ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def top(name: str) -> str:
    return name.split(".")[0]


def imported(text: str, modules: dict[str, str]) -> set[str]:
    """Everything a module imports anywhere in it: third-party names as `/torch`, our own modules by their name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            own = name.removeprefix("replicate").removeprefix(".")
            if top(name) != "replicate":
                found.add(f"/{top(name)}")
            else:
                found.add(own if own in modules else own.rpartition(".")[0])
    return found


def ours(name: str, modules: dict[str, str]) -> set[str]:
    return {other for other in imported(modules[name], modules) if not other.startswith("/")}


# The checks.


def ground_rests_on_nothing(modules):
    for name in GROUND & set(modules):
        for other in imported(modules[name], modules):
            allowed = OF_THE_GROUND | ({"torch"} if name == "numerics" else set())
            if other.startswith("/") and other[1:] not in allowed or other[:1] != "/" and other not in GROUND:
                yield f"{name} imports {other}"


def a_leaf_imports_no_other_leaf(modules):
    for name in modules:
        if top(name) not in NOT_LEAVES:
            for other in ours(name, modules):
                if top(other) not in GROUND | {top(name), ""}:
                    yield f"{name} imports {other}"


def a_source_imports_leaves_only(modules):
    for name in modules:
        if name.startswith("sources."):
            own = ".".join(name.split(".")[:2])
            for other in ours(name, modules):
                if top(other) in COMPOSING or (top(other) == "sources" and not f"{other}.".startswith(f"{own}.")):
                    yield f"{name} imports {other}"


def a_source_opens_no_framework(modules):
    for name in modules:
        if name.startswith("sources.") and (opened := imported(modules[name], modules) & {"/torch", "/jax"}):
            yield f"{name} imports {opened}"


def a_module_speaks_torch_or_jax(modules):
    for name, text in modules.items():
        if {"/torch", "/jax"} <= imported(text, modules):
            yield f"{name} imports both"


def imports_have_no_cycle(modules):
    # A package's `__init__` collects its parts and parts import each other by their own names, so both are nodes.
    try:
        list(TopologicalSorter({n: ours(n, modules) - {n, ""} for n in modules}).static_order())
    except CycleError as error:
        yield f"cycle {error.args[1]}"


def only_runs_asks_for_the_device(modules):
    for name, text in modules.items():
        if top(name) not in {"runs", "numerics"}:
            asked = {n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)} & set(DEVICE_QUESTIONS)
            if asked:
                yield f"{name} asks {asked}"


def versions_come_from_metadata(modules):
    for name, text in modules.items():
        if any(isinstance(n, ast.Attribute) and n.attr == "__version__" for n in ast.walk(ast.parse(text))):
            yield f"{name} reads __version__"


def files_are_short_and_named(modules):
    for name, text in modules.items():
        if len(text.splitlines()) > MOST_LINES:
            yield f"{name} has {len(text.splitlines())} lines"
        if {"utils", "helpers", "common", "misc", "core"} & set(name.split(".")):
            yield f"{name} says nothing by its name"


CHECKS = [
    ground_rests_on_nothing,
    a_leaf_imports_no_other_leaf,
    a_source_imports_leaves_only,
    a_source_opens_no_framework,
    a_module_speaks_torch_or_jax,
    imports_have_no_cycle,
    only_runs_asks_for_the_device,
    versions_come_from_metadata,
    files_are_short_and_named,
]
BROKEN = {
    ground_rests_on_nothing: ("streams", "import torch"),
    a_leaf_imports_no_other_leaf: ("training.loop", "def f():\n    from replicate.averaging import swa"),
    a_source_imports_leaves_only: ("sources.other2020", "from replicate.sources.sandler2023trajectories import PAPER"),
    a_source_opens_no_framework: ("sources.sandler2023trajectories.trips", "from torch import nn"),
    a_module_speaks_torch_or_jax: ("quadratic", "import torch\nimport jax.numpy as jnp"),
    imports_have_no_cycle: ("training.weights", "from replicate.training.loop import steps"),
    only_runs_asks_for_the_device: ("averaging", "import torch\nx = torch.cuda.is_available()"),
    versions_come_from_metadata: ("models.mlp", "import torch\nx = torch.__version__"),
    files_are_short_and_named: ("training.utils", "x = 1"),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_rule_holds(check):
    assert list(check(MODULES)) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_check_complains_about_a_broken_example(check):
    name, text = BROKEN[check]
    assert list(check(MODULES | {name: text}))


def test_too_long_a_file_is_noticed():
    assert list(files_are_short_and_named({"averaging": "x = 1\n" * (MOST_LINES + 1)}))


def stems(folder: Path, pattern: str) -> set[str]:
    return {path.stem for path in folder.glob(pattern)}


def test_a_source_is_one_stem_of_module_notebook_and_claims_file():
    assert set(report.source_names()) == stems(paths.NOTEBOOKS, "*.ipynb") == stems(paths.CLAIMS, "*.toml")


def unbuilt(source: str) -> int:
    module = report.source(source)
    return sum(claim.id not in module.BUILT for claim in claims.load(source))


@pytest.mark.parametrize("source", report.source_names())
def test_no_more_claims_are_without_code_than_before(source):
    assert unbuilt(source) == NOT_BUILT[source], "write the smaller number down; a larger one is a step back"


@pytest.mark.parametrize("source", report.source_names())
def test_what_is_built_is_claimed(source):
    assert set(report.source(source).BUILT) <= {claim.id for claim in claims.load(source)}


@pytest.mark.parametrize("source", report.source_names())
def test_a_source_offers_what_the_composing_layer_asks_of_it(source):
    module = report.source(source)
    assert module.TITLE and module.COST and set(module.WITHOUT_DATA) <= set(module.EXPERIMENTS)
    assert list(module.PRESETS) == list(claims.PRESETS)
    assert all(one.dataset == name for settings in module.PRESETS.values() for name, one in settings.items())
    assert all(experiment.__doc__ for experiment in module.EXPERIMENTS)
    assert set(module.RUNS_ON) <= set(module.EXPERIMENTS) - set(module.WITHOUT_DATA)
    offered = {name for settings in module.PRESETS.values() for name in settings}
    assert offered.issuperset(module.SYNTHETIC) and all(offered.issuperset(on) for on in module.RUNS_ON.values())
