"""How the package is written, counted: `python tests/style.py` prints the numbers that
tests/test_style.py bounds.

They are symptoms. A number that is met by a trick is a defect, not a success.
"""

import ast
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "replicate"
# Words that do not say what they hold. Terms of the field (`inner`, `outer`, `lower`) are none of
# them.
VAGUE = set(
    "one own about found part parts what known left kept side worth asked said told got much some".split()
)
# First words of functions that are participles or adjectives and do not end in "ed"; a function
# does something.
NOT_VERBS = set("made drawn known beside larger older newer firm noisy due seen begun taken held shown lost whole "
                "missing absent printed own late early last next best".split())  # fmt: skip
VERBS_IN_ED = set("need seed feed speed embed exceed proceed".split())
# What every source, every experiment and every data set says of itself under one name.
SHARED = set("PAPER PRESETS TITLE COST ALGEBRA ARMS METRICS DATASET ARCHIVE SHA256".split())
WIDE = 100


def modules(package: Path = PACKAGE) -> dict[Path, ast.Module]:
    """Every module of the package, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Every function and method."""
    return (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def bound_names(tree: ast.AST) -> Iterator[str]:
    """Names that are bound: targets, arguments, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def is_packed(node: ast.Assign) -> bool:
    """Whether an assignment is of the form `a, b = x, y`."""
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def is_no_verb(name: str) -> bool:
    """Whether the first word of a function's name is a participle or an adjective."""
    word = name.strip("_").split("_")[0]
    return word in NOT_VERBS or (word.endswith("ed") and word not in VERBS_IN_ED)


def constants(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Upper-case names at the top of modules -> their different values, as text."""
    values: dict[str, set[str]] = defaultdict(set)
    for tree in trees.values():
        for node in tree.body:
            targets = (
                node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            )
            for target in ast.walk(ast.Tuple(elts=[each for each in targets if each is not None])):
                if isinstance(target, ast.Name) and target.id.isupper() and len(target.id) > 1:
                    values[target.id].add(ast.dump(node.value) if node.value else "")
    return values


def percentile(values: list[int], share: float) -> int:
    """The value below which a share of the sorted values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(package: Path = PACKAGE) -> dict[str, float]:
    """Every count by its name; shares in percent."""
    trees = modules(package)
    names = [name for tree in trees.values() for name in bound_names(tree)]
    assignments = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Assign)
    ]
    lines = [line for path in trees for line in path.read_text().splitlines() if line.strip()]
    every = [node for tree in trees.values() for node in functions(tree)]
    lengths = [node.end_lineno - node.lineno + 1 for node in every]
    ambiguous = {
        name for name, values in constants(trees).items() if len(values) > 1 and name not in SHARED
    }
    return {
        "files at the root": len([path for path in trees if path.parent == package]),
        "packages at the root": len(
            [path for path in package.iterdir() if (path / "__init__.py").exists()]
        ),
        "vague names, percent": 100 * sum(name in VAGUE for name in names) / len(names),
        "packed assignments, percent": 100 * sum(map(is_packed, assignments)) / len(assignments),
        f"lines over {WIDE} columns, percent": 100
        * sum(len(line) > WIDE for line in lines)
        / len(lines),
        "functions that are no verb": sum(is_no_verb(node.name) for node in every),
        "constants with several meanings": len(ambiguous),
        "function lines, median": statistics.median(lengths),
        "function lines, p90": percentile(lengths, 0.9),
        "longest file": max(len(path.read_text().splitlines()) for path in trees),
    }


def worst(package: Path = PACKAGE) -> Iterator[str]:
    """Where the symptoms are: vague names and functions by file, constants by name."""
    trees = modules(package)
    for path, tree in trees.items():
        vague = Counter(name for name in bound_names(tree) if name in VAGUE)
        participles = [node.name for node in functions(tree) if is_no_verb(node.name)]
        if vague or participles:
            yield f"{path.relative_to(package)}: {dict(vague)} {participles or ''}"
    for name, values in constants(trees).items():
        if len(values) > 1 and name not in SHARED:
            yield f"{name}: {len(values)} values"


if __name__ == "__main__":
    for label, value in measure().items():
        print(f"{label:36} {value:8.2f}")
    if "--where" in sys.argv:
        print(*worst(), sep="\n")
