"""Small mistakes in a module, one at a time: operators, signs, order of arguments, settings that are
not handed on, and what goes wrong in experiments: another stream, another set of images, another arm.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

# In which functions and declarations nothing is changed: what an experiment says of its cost and
# its place in an evening's work enters no number that is judged.
UNJUDGED = {"operations", "count_training", "count_evaluation"}
OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
SYMBOLS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
OTHER_WAY = {ast.Sub, ast.Div}  # whose operands matter by their order
COMPARISONS = {
    ast.Lt: ("<", ">="), ast.Gt: (">", "<="), ast.LtE: ("<=", "<"), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
}  # fmt: skip
NAMES = {  # of functions, methods, constants and fields
    "min": "max", "max": "min", "mean": "sum", "idxmin": "idxmax", "idxmax": "idxmin",
    "argmin": "argmax", "nanargmin": "nanargmax", "first": "last", "last": "first", "cumsum": "cumprod",
    "var": "std", "std": "var", "log10": "log2", "log2": "log10", "head": "tail", "tail": "head", "le": "ge",
    "any": "all", "all": "any", "MAIN": "OTHER", "OTHER": "MAIN", "NORM": "MAIN", "DRAWS": "MAIN",
    "train_x": "test_x", "train_y": "test_y", "test_x": "train_x", "test_y": "train_y",
}  # fmt: skip
TEXTS = {
    "train_loss": "test_loss", "test_loss": "train_loss", "valid_loss": "train_loss", "train": "test",
    "raw": "average", "average": "raw", "side-trip": "other-batches", "plain": "s=0.5", "tuned": "source",
    "sweep": "tuning", "published": "corrected", "two-point": "swa", "first": "last",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `stop` of a file replaced. before, after: the lines that this touches."""

    start: int
    stop: int
    new: bytes
    before: str
    after: str

    def apply(self, content: bytes) -> bytes:
        """The content of the file with the mistake in it."""
        return content[: self.start] + self.new + content[self.stop :]


def list_changes(content: bytes) -> list[Change]:
    """Every change of a module, each before and after once, in their order; a few leave no module."""
    changes, place = {}, _Places(content)
    for node in _walk(ast.parse(content)):
        for start, stop, new in _edits(node, place):
            first, last = content.rfind(b"\n", 0, start) + 1, content.find(b"\n", stop)
            changed = content[first:start] + new + content[stop:last]
            texts = (_squeeze(content[first:last]), _squeeze(changed))
            if texts[0] != texts[1]:
                changes.setdefault(texts, Change(start, stop, new, *texts))
    return sorted(changes.values(), key=lambda change: (change.start, change.stop))


def choose(content: bytes, count: int) -> list[Change]:
    """So many changes that leave a module, the same ones wherever their lines stand."""

    def hashed(change: Change) -> bytes:
        return sha256((change.before + change.after).encode()).digest()

    by_hash = sorted(list_changes(content), key=hashed)
    return list(islice((each for each in by_hash if _parses(each.apply(content))), count))


class _Places:
    """Offsets of nodes in the bytes of a file."""

    def __init__(self, content: bytes):
        self.content = content
        self.lines = [0]
        for line in content.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def of(self, node: ast.AST) -> tuple[int, int]:
        """(start, stop) of a node."""
        start = self.lines[node.lineno - 1] + node.col_offset
        return start, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.AST) -> bytes:
        """What stands there."""
        return self.content[slice(*self.of(node))]


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute: no docstring, annotation, decorator or import, and nothing of UNJUDGED."""
    if isinstance(node, ast.FunctionDef):
        if node.name in UNJUDGED:
            return
        children = [*node.args.defaults, *node.args.kw_defaults, *node.body]
    elif isinstance(node, ast.ClassDef):
        children = node.body
    elif isinstance(node, ast.AnnAssign):
        children = [node.value]
    elif isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.JoinedStr):
        return
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    elif isinstance(node, ast.Assign) and all(map(_is_text, getattr(node.value, "elts", [None]))):
        return  # names of arms or metrics, which are declared and not computed
    else:
        yield node
        children = ast.iter_child_nodes(node)
    for child in children:
        if child is not None:
            yield from _walk(child)


def _edits(node: ast.AST, place: _Places) -> Iterator[tuple[int, int, bytes]]:
    """(start, stop, new) of every mistake that can be made at a node."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield from _edit_operator(node, place)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        old, new = COMPARISONS[type(node.ops[0])]
        yield _between(node.left, node.comparators[0], old, new, place)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield *place.of(node), place.text(node.operand)
    elif isinstance(node, ast.IfExp | ast.If | ast.While):
        yield *place.of(node.test), b"not (" + place.text(node.test) + b")"
    elif isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield _between(*node.values[:2], old, new, place)
    elif isinstance(node, ast.Call):
        yield from _edit_call(node, place)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        start, stop = place.of(node)
        yield stop - len(node.attr), stop, NAMES[node.attr].encode()
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield *place.of(node), NAMES[node.id].encode()
    elif isinstance(node, ast.Constant):
        yield from _edit_constant(node, place)


def _edit_operator(node: ast.BinOp, place: _Places) -> Iterator[tuple[int, int, bytes]]:
    left, right = place.text(node.left), place.text(node.right)
    if any(isinstance(each, ast.JoinedStr) or _is_text(each) for each in (node.left, node.right)):
        return  # a path, or two texts
    yield _between(node.left, node.right, SYMBOLS[type(node.op)], OPERATORS[type(node.op)], place)
    if type(node.op) in OTHER_WAY:
        symbol = SYMBOLS[type(node.op)].encode()
        yield *place.of(node), b"(" + right + b") " + symbol + b" (" + left + b")"


def _edit_call(node: ast.Call, place: _Places) -> Iterator[tuple[int, int, bytes]]:
    """Arguments left out and exchanged; `replace(x, y=z)` loses what it is there for."""
    for keyword in node.keywords:
        if keyword.arg is not None:
            start, stop = place.of(keyword)
            after = place.content[stop : stop + 1] == b","
            yield start, stop + after, b""
    for first, second in zip(node.args, node.args[1:], strict=False):
        if type(first) is not type(second) or not isinstance(first, ast.Name | ast.Attribute):
            continue  # of two kinds, so that hardly any line would run
        start, stop = place.of(first)[0], place.of(second)[1]
        middle = place.content[place.of(first)[1] : place.of(second)[0]]
        yield start, stop, place.text(second) + middle + place.text(first)


def _edit_constant(node: ast.Constant, place: _Places) -> Iterator[tuple[int, int, bytes]]:
    if isinstance(node.value, bool):
        yield *place.of(node), str(not node.value).encode()
    elif isinstance(node.value, int):
        yield *place.of(node), str(node.value + 1).encode()
    elif isinstance(node.value, float):
        yield *place.of(node), str(2 * node.value + (node.value == 0)).encode()
    elif node.value in TEXTS:
        yield *place.of(node), f'"{TEXTS[node.value]}"'.encode()


def _between(left, right, old: str, new: str, place: _Places) -> tuple[int, int, bytes]:
    """The operator between two nodes exchanged for another one."""
    start, stop = place.of(left)[1], place.of(right)[0]
    return start, stop, place.content[start:stop].replace(old.encode(), new.encode(), 1)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _squeeze(lines: bytes) -> str:
    return " ".join(lines.decode().split())


def _parses(content: bytes) -> bool:
    try:
        ast.parse(content)
    except SyntaxError:
        return False
    return True
