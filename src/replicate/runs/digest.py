"""A digest of the code that can change an experiment's numbers: of nothing less, and of nothing
more.

It covers the syntax, without docstrings and comments, of the experiment and of the names of its
module that it reaches, and of every module of the package that those names come from, with what
these import in turn; of `optim`, where only `optim.SGD` is said, the module that SGD comes from.
Modules that cannot change a number (READERS: they look at numbers, name files, word errors or find
modules) are left out. The checksums of the data sets are constants of `datasets`, so they are
covered too.
"""

import ast
import functools
import hashlib
import inspect
import threading
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
READERS = {
    f"replicate.{name}"
    for name in (
        "plots",
        "claims",
        "runs",
        "errors",
        "paths",
        "progress",
        "lazy",
        "app",
        "sources.protocol",
    )
}
CLOCK = "replicate.numerics"  # opens torch to time things and to set threads, whatever framework computes

# CPython 3.11's parser counts its depth for all threads together; two at once are an error.
_PARSER = threading.Lock()


def code_digest(experiment: Callable, chosen: tuple[str, ...] = ()) -> str:
    """Sixteen hexadecimal digits that change if and only if code that `experiment` reaches changes.

    chosen: modules that no import names, because a name in the settings chooses them among those of
    a folder.
    """
    return digest_of_file(_file_of(experiment), experiment.__name__, chosen)


def digest_of_file(path: Path, name: str, chosen: tuple[str, ...] = ()) -> str:
    """`code_digest` of the experiment `name` that this file defines, without importing the file."""
    statements, imported = _reach(_syntax(path), name)
    modules = _with_imports(imported | {module for module in chosen if _file(module)})
    text = [ast.dump(node) for node in statements] + [
        f"{name} {_dump(name)}" for name in sorted(modules)
    ]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def packages_of(experiment: Callable) -> set[str]:
    """The packages of others, such as torch, that the code which `experiment` reaches imports."""
    return set(_packages_of(_file_of(experiment), experiment.__name__))


@functools.cache  # of the code that was imported: `identity` refuses what has been edited since
def _packages_of(path: Path, name: str) -> frozenset[str]:
    _, imported = _reach(_syntax(path), name)
    trees = [_syntax(path), *(_syntax(_file(name)) for name in _with_imports(imported) - {CLOCK})]
    return frozenset(name for tree in trees for name in _find_packages(tree))


@functools.cache
def _find_packages(tree: ast.Module) -> set[str]:
    nodes = list(ast.walk(tree))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = plain + [
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    ]
    return {name.split(".")[0] for name in names}


def modules_of(experiment: Callable) -> set[str]:
    """The modules of this package that the code of `experiment` reaches."""
    path = _file_of(experiment)
    return _with_imports(_reach(_syntax(path), experiment.__name__)[1])


def _file_of(experiment: Callable) -> Path:
    return Path(inspect.getsourcefile(inspect.unwrap(experiment)))


def _reach(tree: ast.Module, name: str) -> tuple[list[ast.stmt], set[str]]:
    """Top-level statements that `name` needs, in the order of the module, and the package's modules
    these name.
    """
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        for bound in _bound(node):
            defined[bound] = node
    todo, seen, nodes = [name], set(), []
    while todo:
        current = todo.pop()
        if current in seen or current not in defined:
            continue
        seen.add(current)
        node = defined[current]
        nodes.append(node)
        todo += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    statements = [
        node
        for node in tree.body
        if node in nodes and not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return statements, _homes([*imports, *statements], seen)


def _homes(nodes: list[ast.AST], names: set[str] | None = None) -> set[str]:
    """The package's modules that these nodes take something from; of top-level imports, only by
    `names`.
    """
    inner = [node for each in nodes for node in ast.walk(each)]
    homes = set()
    for node in inner:
        for bound, target in _targets(node):
            if names is None or bound in names or node not in nodes:
                homes |= _find_homes(inner, bound, target)
    return homes


@functools.cache
def _homes_of_module(tree: ast.Module) -> set[str]:
    return _homes([tree])


def _find_homes(nodes: list[ast.AST], bound: str, target: str) -> set[str]:
    """The module `target`; or of a package of which only attributes are used, the modules that
    these come from.
    """
    if _file(target).name != "__init__.py":
        return {target}
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == bound]
    attributes = [node.attr for node in nodes if isinstance(node, ast.Attribute)
                  and isinstance(node.value, ast.Name) and node.value.id == bound]  # fmt: skip
    if not uses or len(attributes) < len(uses):
        return {target}
    return {home for home in (_home(target, name) for name in attributes) if _counts(home)}


def _bound(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]


def _targets(node: ast.AST) -> list[tuple[str, str]]:
    """(bound name, module of this package) of an import statement; empty for anything else."""
    if isinstance(node, ast.Import):
        pairs = [(alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        pairs = [
            (alias.asname or alias.name, _home(node.module, alias.name)) for alias in node.names
        ]
    else:
        pairs = []
    return [(bound, name) for bound, name in pairs if _counts(name)]


def _home(module: str, name: str) -> str:
    """The module that `from module import name` gets it from, through what a package's `__init__`
    hands on.
    """
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    path = _file(module)
    if path is not None and path.name == "__init__.py":
        for node in ast.walk(
            _syntax(path)
        ):  # they stand under `if TYPE_CHECKING:`, see replicate.lazy
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _home(node.module, alias.name)
    return module


def _with_imports(names: set[str]) -> set[str]:
    todo, seen = list(names), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _homes_of_module(_syntax(_file(name)))
    return seen


def _counts(name: str) -> bool:
    """Whether a name is a module of this package that can change a number."""
    return name != "replicate" and _file(name) is not None and not _reads(name)


def _reads(name: str) -> bool:
    return any(name == reader or name.startswith(reader + ".") for reader in READERS)


def _file(name: str) -> Path | None:
    """The file of a module of this package or of the checkout's benchmarks; None for another."""
    names = name.split(".")
    roots = {"replicate": PACKAGE, "benchmarks": PACKAGE.parents[1] / "benchmarks"}
    if names[0] not in roots:
        return None
    path = roots[names[0]].joinpath(*names[1:])
    files = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()]
    return files[0] if files else None


def _dump(name: str) -> str:
    return _dump_of_module(_syntax(_file(name)))


@functools.cache
def _dump_of_module(tree: ast.Module) -> str:
    return ast.dump(tree)


@functools.cache
def _parse(path: Path, text: str) -> ast.Module:
    with _PARSER:
        tree = ast.parse(text, filename=str(path))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
        # What is declared of an experiment (its fields, cost, measures) changes none of its
        # numbers.
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [each for each in node.decorator_list if not _declares(each)]
    return tree


def _declares(decorator: ast.expr) -> bool:
    """Whether a decorator is `@experiment(...)` of `replicate.sources.protocol`."""
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "experiment"


def _syntax(path: Path) -> ast.Module:
    """A module's syntax without docstrings; comments are not syntax."""
    return _parse(path, path.read_text())
