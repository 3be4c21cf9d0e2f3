"""What is changed is put back, and the clock counts what a job takes and nothing else."""

import ast
import doctest
import gc
import weakref

import pytest
import torch
from torch import nn

from replicate import numerics, paths


class Work:
    """A clock that only work moves on, and the order in which work was done."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.order = []
        monkeypatch.setattr(numerics.time, "process_time", lambda: self.now)

    def job(self, name, costs):
        """A job whose n-th call takes costs[n] seconds."""
        costs = iter(costs)

        def work():
            self.now += next(costs)
            self.order.append(name)

        return work


def test_jobs_take_turns_and_the_rounds_that_warm_up_do_not_count(monkeypatch):
    work = Work(monkeypatch)
    jobs = {"a": work.job("a", [50, 40, 1, 2, 3]), "b": work.job("b", [60, 70, 4, 5, 6])}
    found = numerics.clock(jobs, rounds=3, warm=2)
    assert {name: seconds.tolist() for name, seconds in found.items()} == {
        "a": [1, 2, 3],
        "b": [4, 5, 6],
    }
    assert work.order == ["a", "b"] * 5


class Result:
    """What a job gives; freeing it takes a hundred seconds."""

    def __init__(self, work):
        self.work = work

    def __del__(self):
        self.work.now += 100


def test_a_result_is_freed_before_the_next_job_and_not_on_its_time(monkeypatch):
    work = Work(monkeypatch)
    alive = []

    def job():
        assert all(result() is None for result in alive)
        work.now += 1
        result = Result(work)
        alive.append(weakref.ref(result))
        return result

    found = numerics.clock({"a": job, "b": job}, rounds=2)
    assert found["a"].tolist() == found["b"].tolist() == [1, 1]


def test_waiting_for_a_result_is_part_of_the_job(monkeypatch):
    work = Work(monkeypatch)

    def wait(result):
        work.now += 9

    assert numerics.clock({"a": work.job("a", [1, 1])}, 1, wait=wait)["a"].tolist() == [10]


def test_no_garbage_is_collected_while_the_clock_runs_and_the_collector_is_as_it_was(monkeypatch):
    seen = []
    numerics.clock({"a": lambda: seen.append(gc.isenabled())}, 1)
    with pytest.raises(OSError):
        numerics.clock({"a": broken}, 1)
    assert seen == [False, False] and gc.isenabled()


def broken():
    raise OSError("job broke")


def test_a_job_shorter_than_the_clock_can_see_takes_a_nanosecond(monkeypatch):
    work = Work(monkeypatch)
    assert numerics.clock({"a": work.job("a", [0, 0])}, 1)["a"].tolist() == [1e-9]


def test_twice_the_work_takes_about_twice_the_time():
    matrix = torch.ones(400, 400)

    def products(count):
        return lambda: [matrix @ matrix for _ in range(count)]

    found = numerics.clock({"one": products(10), "two": products(20), "same": products(10)}, 9)
    ratio = sorted(found["two"] / found["one"])[4]
    level = sorted(found["same"] / found["one"])[4]
    assert 1.6 < ratio < 2.5 and 0.8 < level < 1.25


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"rounds": 1, "warm": -1}])
def test_rounds_that_are_none_are_refused(wrong):
    with pytest.raises(
        ValueError, match=r"(rounds must be at least 1, got 0|warm must be at least 0, got -1)"
    ):
        numerics.clock({"a": lambda: None}, **wrong)


def test_a_stopwatch_is_of_the_process_unless_the_wall_is_asked_for(monkeypatch):
    work = Work(monkeypatch)
    monkeypatch.setattr(numerics.time, "perf_counter", lambda: 100 * work.now)
    process = numerics.stopwatch()
    wall = numerics.stopwatch(wall=True)
    work.now = 2.0
    assert (process(), wall()) == (2.0, 200.0)


@pytest.mark.parametrize("flushed", [False, True])
def test_one_thread_and_no_denormals_inside_and_as_it_was_afterwards(flushed):
    threads = torch.get_num_threads()
    try:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(2)
        with pytest.raises(OSError), numerics.one_thread():
            inside = torch.get_num_threads(), numerics.flushes_denormals()
            broken()
        assert inside == (1, True)
        assert (torch.get_num_threads(), numerics.flushes_denormals()) == (2, flushed)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def test_full_precision_holds_inside_and_is_put_back_after_an_error():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with pytest.raises(OSError), numerics.full_precision():
            inside = torch.get_float32_matmul_precision()
            broken()
        assert (inside, torch.get_float32_matmul_precision()) == ("highest", "medium")
    finally:
        torch.set_float32_matmul_precision(before)


def test_every_layer_has_the_mode_it_had_after_an_error_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    model[1].eval()
    with pytest.raises(OSError), numerics.modes_restored(model):
        model.train()
        broken()
    assert [layer.training for layer in model.modules()] == [True, True, False, False, False]


CLOCKS = ("process_time", "perf_counter", "elapsed_time", "process_time_ns", "perf_counter_ns")
NOT_YET = {  # modules that still read a clock of their own; a change may only take one away
    "__main__.py",
    "descent/clock.py",
    "evidence.py",
    "sources/fabi2021extrapolation/comparison.py",
    "sources/warmerdam2020descent/regression.py",
    "speed/goals.py",
    "speed/steps.py",
}


def reads_a_clock(text: str) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in CLOCKS
        for node in ast.walk(ast.parse(text))
    )


def test_no_other_module_reads_a_clock_to_measure():
    package = paths.ROOT / "src" / "replicate"
    found = {
        str(p.relative_to(package)) for p in package.rglob("*.py") if reads_a_clock(p.read_text())
    }
    assert "numerics.py" in found and found <= NOT_YET | {"numerics.py"}


@pytest.mark.parametrize(
    "precision, device, amx, half",
    [
        ("float32", "cuda", True, False),
        ("bfloat16", "cuda", False, True),
        ("bfloat16", "cpu", True, True),
        ("bfloat16", "cpu", False, False),
    ],
)
def test_bfloat16_is_used_where_it_is_asked_for_and_gains(
    monkeypatch, precision, device, amx, half
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert numerics.computes_in_bfloat16(precision, device) is half


def test_the_example_of_the_clock_gives_what_it_says():
    found = doctest.testmod(numerics)
    assert found.attempted > 0 and found.failed == 0
