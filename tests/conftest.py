"""Tests that need CUDA are marked `gpu` by the reason with which they are skipped elsewhere; no
list names them.
"""

import pytest

REASON = "no CUDA"


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        reasons = [mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif")]
        if any(reason.startswith(REASON) for reason in reasons):
            item.add_marker(pytest.mark.gpu)
