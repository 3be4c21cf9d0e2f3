"""The report's page on the library: what a user of the methods calls, with the docstrings as they stand.

Sphinx's autodoc reads them. It takes a docstring for reStructuredText, and ours are plain text: an indented
paragraph is an equation or a piece of code, `x` is code, and nothing else is markup.
"""

import importlib
import itertools
import re
from collections.abc import Iterator

SHOWN_PACKAGES = {
    "replicate.optim": "Optimizers",
    "replicate.averaging": "Averages and the schedules that equal them",
    "replicate.training": "Training, and going on",
}
AUTODOC = "sphinx.ext.autodoc"
RST_MARKUP = re.compile(r"([\\*_|<>])")
BACKQUOTED = re.compile(r"(`+[^`]+`+)")


def page() -> str:
    """The page as Markdown: `compare`, then every public name of SHOWN_PACKAGES, in order of the alphabet."""
    start = "The names that README and the pages beside it use, with their docstrings."
    parts = [
        "# The library, name by name",
        start,
        "## replicate",
        _directive("function", "replicate.compare"),
    ]
    for package, title in SHOWN_PACKAGES.items():
        module = importlib.import_module(package)
        values = {name: getattr(module, name) for name in module.__all__}
        ours = {
            name: value for name, value in values.items() if _home(value).startswith("replicate")
        }
        parts.append(f"## {title}: {package}")
        if others := [f"`{name}`" for name in values if name not in ours]:
            parts.append(f"{', '.join(others)} are torch's own.")
        parts += [_directive(_kind(value), f"{package}.{name}") for name, value in ours.items()]
    return "\n\n".join(parts) + "\n"


def connect(app) -> None:
    """Let Sphinx have every docstring as what it is."""
    app.connect("autodoc-process-docstring", _rewrite)


def as_text(lines: list[str]) -> Iterator[str]:
    """The lines of a plain docstring as reStructuredText that shows it unchanged."""
    for empty, group in itertools.groupby(lines, lambda line: not line.strip()):
        if empty:
            continue
        paragraph = list(group)
        if paragraph[0].startswith(">>>"):
            yield from paragraph
        elif paragraph[0].startswith("    "):
            yield from ("::", "", *(f"    {line}" for line in paragraph))
        else:
            yield from _prose(paragraph)
        yield ""


def _prose(paragraph: list[str]) -> Iterator[str]:
    """A paragraph on one line, or its items on one line each."""
    text = "\n".join(line.strip() for line in paragraph)
    for item in re.split(r"\n(?=- )", text):
        bullet = "- " if item.startswith("- ") else ""
        yield bullet + _plain(" ".join(item.removeprefix("- ").split()))


def _plain(text: str) -> str:
    """Text in which only what stands between backquotes is markup."""
    pieces = BACKQUOTED.split(text)
    return "".join(
        f"``{piece.strip('`')}``\\ " if i % 2 else RST_MARKUP.sub(r"\\\1", piece)
        for i, piece in enumerate(pieces)
    )


def _rewrite(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = as_text(list(lines))


def _home(value: object) -> str:
    return getattr(value, "__module__", None) or getattr(value, "__name__", "")


def _kind(value: object) -> str:
    if isinstance(value, type):
        return "class"
    return "function" if callable(value) else "module"


def _directive(kind: str, name: str) -> str:
    """A block that autodoc fills in, with the methods that have a docstring."""
    members = "" if kind == "function" else "\n   :members:"
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}{members}\n```"
