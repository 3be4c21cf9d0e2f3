"""Packages that import a module when a name of it is first used.

The `__init__` of such a package keeps its imports as anybody would write them, under
`if TYPE_CHECKING:`, where editors read them. They are its only list of names:

    from typing import TYPE_CHECKING

    from replicate import lazy

    if TYPE_CHECKING:
        from replicate.optim.lookahead import Lookahead

    lazy.attach(__name__)
"""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType


def attach(package: str) -> None:
    """Let `package` find the names it imports under `if TYPE_CHECKING:` at their first use."""
    module = sys.modules[package]
    text = Path(module.__file__).read_text(encoding="utf-8")
    module._homes = read_imports(ast.parse(text))
    module.__all__ = sorted(module._homes)
    module.__class__ = LazyPackage


def read_imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Name -> (module, its name there) of every `from ... import` under `if TYPE_CHECKING:`."""
    guarded = [node for node in tree.body if isinstance(node, ast.If) and _is_guard(node.test)]
    imports = [line for node in guarded for line in node.body if isinstance(line, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (line.module, alias.name)
        for line in imports
        for alias in line.names
    }


def _is_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


class LazyPackage(ModuleType):
    """A package whose names are looked up in the modules that define them."""

    def __getattr__(self, name: str):
        if name not in self._homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, original = self._homes[name]
        if module == self.__name__:  # a module of the package itself
            value = importlib.import_module(f"{module}.{original}")
        else:
            value = getattr(importlib.import_module(module), original)
        vars(self)[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # After an import of package.mlp the import system would put the module where the
        # function of the same name belongs.
        if not (name in self._homes and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self._homes})

    def __reduce__(self) -> tuple:
        return importlib.import_module, (self.__name__,)
