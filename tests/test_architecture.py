"""Ground, then leaves, then sources, then what composes them: who may import whom, and what belongs
together.

The rules go by folder. A check takes `modules` (name -> text) and yields its complaints; each is
seen to complain about a broken example.
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import nbformat
import pytest

from replicate import claims, paths
from replicate.app import registry
from replicate.sources.protocol import Experiment, Source, names

PACKAGE = paths.ROOT / "src" / "replicate"
GROUND = {"errors", "paths", "streams", "progress", "numerics", "lazy"}
COMPOSING = {"app", "__main__", "cooldown"}
NOT_LEAVES = GROUND | COMPOSING | {"sources", ""}
SHARED = {
    "sources",
    "sources.protocol",
    "sources.settings",
    "sources.images",
}  # what every source may import
LEAVES = set(
    "optim averaging models datasets training problems descent curvature claims runs plots".split()
)
OF_THE_GROUND = set(sys.stdlib_module_names) | {"numpy", "tqdm"}
DEVICE_QUESTIONS = (
    "is_available",
    "get_capabilities",
    "get_cpu_capability",
    "device_count",
    "get_device_capability",
)
MOST_LINES = 400
# Claims without an experiment, per file: a change may only make it smaller.
WITHOUT_EXPERIMENT = {
    "across": 0,
    "fabi2021extrapolation": 1,  # an address that once led nowhere
    "sandler2023trajectories": 0,
    "warmerdam2020descent": 0,
    "zhang2019lookahead": 0,
}


def name_of(path: Path) -> str:
    """`datasets.vision` of src/replicate/datasets/vision.py; a package by its folder, the root as
    "".
    """
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def top(name: str) -> str:
    return name.split(".")[0]


def imported(text: str, modules: dict[str, str]) -> set[str]:
    """Everything a module imports anywhere in it: third-party names as `/torch`, our own modules by
    their name.
    """
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
            if (
                other.startswith("/")
                and other[1:] not in allowed
                or other[:1] != "/"
                and other not in GROUND
            ):
                yield f"{name} imports {other}"


def a_leaf_imports_no_other_leaf(modules):
    for name in modules:
        if top(name) not in NOT_LEAVES:
            for other in ours(name, modules):
                if top(other) not in GROUND | {top(name), ""}:
                    yield f"{name} imports {other}"


def a_source_imports_leaves_and_what_sources_share(modules):
    for name in modules:
        if name.startswith("sources."):
            home = ".".join(name.split(".")[:2])
            for other in ours(name, modules):
                inside = f"{other}.".startswith(f"{home}.")
                if top(other) in COMPOSING or (
                    top(other) == "sources" and not inside and other not in SHARED
                ):
                    yield f"{name} imports {other}"


def packages_are_those_of_the_house(modules):
    packages = {top(name) for name in modules if "." in name}
    yield from (
        f"{name} is no package of the house" for name in packages - LEAVES - COMPOSING - {"sources"}
    )


def a_source_opens_no_framework(modules):
    for name in modules:
        if name.startswith("sources.") and (
            opened := imported(modules[name], modules) & {"/torch", "/jax"}
        ):
            yield f"{name} imports {opened}"


def a_module_speaks_torch_or_jax(modules):
    for name, text in modules.items():
        if {"/torch", "/jax"} <= imported(text, modules):
            yield f"{name} imports both"


def imports_have_no_cycle(modules):
    # A package's `__init__` collects its parts and parts import each other by their own names, so
    # both are nodes.
    try:
        list(TopologicalSorter({n: ours(n, modules) - {n, ""} for n in modules}).static_order())
    except CycleError as error:
        yield f"cycle {error.args[1]}"


def only_runs_asks_for_the_device(modules):
    for name, text in modules.items():
        if top(name) not in {"runs", "numerics"}:
            asked = {
                n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)
            } & set(DEVICE_QUESTIONS)
            if asked:
                yield f"{name} asks {asked}"


def versions_come_from_metadata(modules):
    for name, text in modules.items():
        if any(
            isinstance(n, ast.Attribute) and n.attr == "__version__"
            for n in ast.walk(ast.parse(text))
        ):
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
    a_source_imports_leaves_and_what_sources_share,
    packages_are_those_of_the_house,
    a_source_opens_no_framework,
    a_module_speaks_torch_or_jax,
    imports_have_no_cycle,
    only_runs_asks_for_the_device,
    versions_come_from_metadata,
    files_are_short_and_named,
]
BROKEN = {
    ground_rests_on_nothing: ("streams", "import torch"),
    a_leaf_imports_no_other_leaf: (
        "training.loop",
        "def f():\n    from replicate.averaging import swa",
    ),
    a_source_imports_leaves_and_what_sources_share: (
        "sources.other2020",
        "from replicate.sources.sandler2023trajectories import PAPER",
    ),
    packages_are_those_of_the_house: ("kitchen.sink", "x = 1"),
    a_source_opens_no_framework: (
        "sources.sandler2023trajectories.figure_5",
        "from torch import nn",
    ),
    a_module_speaks_torch_or_jax: ("descent.nets", "import torch\nimport jax.numpy as jnp"),
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


@pytest.mark.parametrize("text", [
    "from replicate.app import registry", "import replicate.app.verdicts", "from replicate.app import benchmarks",
    "from replicate.sources.fabi2021extrapolation import presets", "from replicate import app",
])  # fmt: skip
def test_a_source_reaches_neither_up_nor_sideways(text):
    name = "sources.sandler2023trajectories.figure_9"
    assert list(a_source_imports_leaves_and_what_sources_share(MODULES | {name: text}))


@pytest.mark.parametrize("leaf", sorted(LEAVES & {top(name) for name in MODULES}))
def test_a_leaf_that_reaches_another_is_noticed(leaf):
    for other in (
        "app.registry",
        "sources.protocol",
        "training.loop" if leaf != "training" else "models.mlp",
    ):
        package, _, module = other.rpartition(".")
        text = f"from replicate.{package} import {module}"
        assert list(a_leaf_imports_no_other_leaf(MODULES | {f"{leaf}.extra": text})), (
            f"{leaf} imports {other}"
        )


# What belongs together.


def stems(folder: Path, pattern: str) -> set[str]:
    return {path.stem for path in folder.glob(pattern)}


def test_a_source_is_one_stem_of_package_notebook_and_claims():
    assert set(names()) == stems(paths.NOTEBOOKS, "*.ipynb") == stems(paths.CLAIMS, "*.toml")


@pytest.mark.parametrize("source", names())
def test_no_more_claims_are_without_experiment_than_before(source):
    without = sum(not claim.experiments for claim in registry.claims_of(registry.source(source)))
    assert without == WITHOUT_EXPERIMENT[source], (
        "write a smaller number down; a larger one is a step back"
    )


@pytest.mark.parametrize("source", names())
def test_a_public_module_declares_the_experiment_of_its_name(source):
    folder = PACKAGE / "sources" / source
    files = {path.stem for path in folder.glob("[!_]*.py")} - {"settings", "presets", "listing"}
    declared = Source(source)
    assert set(declared) == files
    for name, experiment in declared.items():
        assert (
            isinstance(experiment, Experiment)
            and experiment.name == name == experiment.run.__name__
        )
        assert experiment.__doc__


def code_of(notebook: Path) -> str:
    """What the code cells of a notebook say."""
    cells = nbformat.read(notebook, 4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def texts_in(code: str) -> set[str]:
    return {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("source", names())
def test_every_experiment_stands_in_the_notebook_of_its_source(source):
    assert set(Source(source)) - texts_in(code_of(paths.NOTEBOOKS / f"{source}.ipynb")) == set()


@pytest.mark.parametrize("source", names())
def test_every_claim_with_an_experiment_is_judged_on_its_table(source):
    """What a claim names is the experiment's: a field, a metric, or a measure of its file."""
    used = {
        name for claim in registry.claims_of(registry.source(source)) for name in claim.experiments
    }
    assert used <= set(Source(source))
    assert [
        name for name in used if not (Source(source)[name].metrics or Source(source)[name].measures)
    ] == []


@pytest.mark.parametrize("name", names())
def test_a_source_offers_what_is_asked_of_it(name):
    source = registry.source(name)
    assert source.title and source.cost
    assert list(source.presets) == [preset for preset in claims.PRESETS if preset in source.presets]
    offered = {entry for settings in source.presets.values() for entry in settings}
    for experiment in source.values():
        assert set(experiment.datasets) <= offered and set(experiment.evidence) <= offered
    for settings in source.presets.values():
        for entry, value in settings.items():
            assert source.setting(entry, vars(value))
    on_gpu = source.presets["gpu"]
    rehearsed = {entry for experiment in source.values() for entry in experiment.evidence}
    assert all(source.tiny(on_gpu[entry]) != on_gpu[entry] for entry in rehearsed)


def test_every_recorded_table_is_of_an_experiment_that_a_claim_reads():
    recorded = {path.stem for path in (paths.ROOT / "data" / "results").rglob("*.parquet")}
    read = {
        f"{source.name}-{name}"
        for source in registry.sources()
        for claim in registry.claims_of(source)
        for name in claim.experiments
    }
    assert recorded and recorded <= read
