"""Tests that need CUDA are marked `gpu` by the reason with which they are skipped elsewhere; no
list names them.
"""

import pytest

from replicate import runs
from replicate.runs import machine

REASON = "no CUDA"


# Names of `runs` are looked up when first used, and then kept: a test that replaces `machine.commit`
# and is the first to use `runs.commit` would leave its own there for all tests after it.
assert runs.commit is machine.commit


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        reasons = [mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif")]
        if any(reason.startswith(REASON) for reason in reasons):
            item.add_marker(pytest.mark.gpu)
