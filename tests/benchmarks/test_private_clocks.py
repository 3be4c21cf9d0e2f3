"""One clock: nothing in the package or the benchmarks measures seconds but `replicate.numerics`.

`time.time`, a date, is allowed: a deadline is one. So is when to save before it, in `progress`,
which opens no torch.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate import paths

CLOCKS = set("process_time perf_counter monotonic thread_time elapsed_time default_timer".split())
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
OF_TIME = {"time", "gmtime", "strftime", "sleep"}  # what else of the module may be used
ALLOWED = {"numerics.py": CLOCKS | {"a timed event"}, "progress.py": {"monotonic"}}
FILES = [*(paths.ROOT / "src").rglob("*.py"), *(paths.ROOT / "benchmarks").rglob("*.py")]


def clocks_in(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in CLOCKS:
            yield node.id
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from {alias.name for alias in node.names} - OF_TIME
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "")]
            yield from {"timeit"} & set(modules)
        elif isinstance(node, ast.keyword) and node.arg == "enable_timing":
            yield "a timed event"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(paths.ROOT)))
def test_seconds_are_those_of_numerics(path: Path):
    is_of_ground = path.parent == paths.ROOT / "src" / "replicate"
    allowed = ALLOWED.get(path.name, set()) if is_of_ground else set()
    assert set(clocks_in(path.read_text())) <= allowed


@pytest.mark.parametrize("text", [
    "import time\nt = time.perf_counter()", "from time import process_time", "import timeit",
    "e = torch.cuda.Event(enable_timing=True)", "from timeit import default_timer",
    "now = time.monotonic_ns", "from time import process_time as now",
])  # fmt: skip
def test_a_private_clock_is_noticed(text):
    assert list(clocks_in(text))
    assert not list(clocks_in("import time\nlate = time.time() > 5"))
