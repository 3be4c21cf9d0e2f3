"""A digest of the code that can change an experiment's numbers: of nothing less, and of nothing more.

It covers the syntax, without docstrings and comments, of the experiment and of the names of its module that it reaches,
and of every module of the package that those names come from, with what these import in turn. Modules that cannot
change a number (READERS: they look at numbers, name files or word errors) are left out. The checksums of the data sets
are constants of `datasets`, so they are covered too.
"""

import ast
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
READERS = {
    f"replicate.{name}"
    for name in ("plots", "claims", "runs", "errors", "paths", "progress", "app", "sources.protocol")
}


def code_digest(experiment: Callable, chosen: tuple[str, ...] = ()) -> str:
    """Sixteen hexadecimal digits that change if and only if code that `experiment` reaches changes.

    chosen: modules that no import names, because a name in the settings chooses them among those of a folder.
    """
    tree = _syntax(Path(inspect.getsourcefile(inspect.unwrap(experiment))))
    own, imported = _reached(tree, experiment.__name__)
    modules = _with_imports(imported | {name for name in chosen if _file(name)})
    text = [ast.dump(node) for node in own] + [f"{name} {_dump(name)}" for name in sorted(modules)]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def _reached(tree: ast.Module, name: str) -> tuple[list[ast.stmt], set[str]]:
    """Top-level statements that `name` needs, in the order of the module, and the package's modules these name."""
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
    own = [node for node in tree.body if node in nodes and not isinstance(node, ast.Import | ast.ImportFrom)]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {target for node in imports for alias, target in _targets(node) if alias in seen}
    names |= {target for node in own for inner in ast.walk(node) for _, target in _targets(inner)}
    return own, names


def _bound(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _targets(node: ast.AST) -> list[tuple[str, str]]:
    """(bound name, module of this package) of an import statement; empty for anything else."""
    if isinstance(node, ast.Import):
        pairs = [(alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        pairs = [(alias.asname or alias.name, _home(node.module, alias.name)) for alias in node.names]
    else:
        pairs = []
    return [(bound, name) for bound, name in pairs if _file(name) and name != "replicate" and not _reads(name)]


def _home(module: str, name: str) -> str:
    """The module that `from module import name` gets it from, through what a package's `__init__` hands on."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    path = _file(module)
    if path is not None and path.name == "__init__.py":
        for node in _syntax(path).body:
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
            todo += [target for node in ast.walk(_syntax(_file(name))) for _, target in _targets(node)]
    return seen


def _reads(name: str) -> bool:
    return any(name == reader or name.startswith(reader + ".") for reader in READERS)


def _file(name: str) -> Path | None:
    """The file of a module of this package or of the checkout's benchmarks; None for another."""
    parts = name.split(".")
    roots = {"replicate": PACKAGE, "benchmarks": PACKAGE.parents[1] / "benchmarks"}
    if parts[0] not in roots:
        return None
    path = roots[parts[0]].joinpath(*parts[1:])
    found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()]
    return found[0] if found else None


def _dump(name: str) -> str:
    return ast.dump(_syntax(_file(name)))


@functools.cache
def _parsed(path: Path, text: str) -> ast.Module:
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
        # What is declared of an experiment (its fields, cost, measures) changes none of its numbers.
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [each for each in node.decorator_list if not _declares(each)]
    return tree


def _declares(decorator: ast.expr) -> bool:
    """Whether a decorator is `@experiment(...)` of `replicate.sources.protocol`."""
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "experiment"


def _syntax(path: Path) -> ast.Module:
    """A module's syntax without docstrings; comments are not syntax."""
    return _parsed(path, path.read_text())
