"""Every topic runs at its tiny size: ours and its peers give equal results, all is measured."""

import importlib

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.gpu.settings import PRESETS
from replicate import paths
from replicate.runs import backends

COMPILING = ("walks", "newton")  # in jax, seconds of compilation for milliseconds of work


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)


def check(frame) -> None:
    assert len(frame) and set(harness.COLUMNS) <= set(frame)
    assert np.isfinite(frame.value).all() and (frame.low <= frame.value).all()


@pytest.mark.parametrize("topic", [
    pytest.param(name, marks=pytest.mark.long if name in COMPILING else ())
    for name in harness.list_topics()
])  # fmt: skip
def test_a_topic_of_a_cpu_runs_and_results_are_equal(topic):
    module = importlib.import_module(f"benchmarks.{topic}")
    tables = list(module.measure(module.TINY))
    assert tables and all(table.title for table in tables)
    for table in tables:
        frame = harness.make_frame(table.rows)
        check(frame)
        assert not frame.goal.any(), "a goal is not stated for a tiny size"


@pytest.mark.parametrize("topic", harness.list_gpu_topics())
def test_a_topic_of_a_gpu_runs(topic, monkeypatch):
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    frame = harness.load_experiments()[topic](PRESETS["smoke"]["synthetic"])
    check(frame)
    assert not frame.goal.any(), "a goal is not stated for a tiny size"


@pytest.mark.parametrize("topic", harness.list_gpu_topics())
def test_a_topic_of_a_gpu_computes_in_torch_alone(topic):
    """Else its records would name the device of jax too."""
    assert backends.frameworks_of(harness.load_experiments()[topic]) == ["torch"]
