"""What of torch's state a computation may change and puts back, and the one clock that times it.

    seconds of a job = its own time on the processor, or on the CUDA device from an idle queue on

A job is timed warm, with no other job's graph alive, in turn with those it is compared with.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

SHORTEST = 1e-9  # seconds: what a job takes that is over within the clock's resolution
DENORMAL = 1e-40  # a float32 below the smallest normal number, 2^-126


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 in float32: neither TF32 nor bfloat16, whatever the code around it asks.

    Autocast is no matter: it leaves operations in place alone.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread and no denormals, so that a run's bits do not depend on who else computes.

    Two threads round differently from one. The momentum of a dead unit decays into denormals, on
    which a CPU is slow: a quarter of an MLP's step. Where the processor cannot flush them they
    stay.
    """
    threads = torch.get_num_threads()
    flushed = flushes_denormals()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def flushes_denormals() -> bool:
    """Whether torch takes denormal numbers for zero in this thread."""
    return float(torch.tensor([DENORMAL], device="cpu") * 1.0) == 0.0


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Every layer's training mode as it was before, that of a frozen layer too."""
    modes = [(layer, layer.training) for layer in model.modules()]
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def gains_by_bfloat16(device: str) -> bool:
    """Whether bfloat16 is faster than float32: on CUDA, and on CPUs with AMX tiles (2.5x on a
    ResNet-8).
    """
    if device == "cuda":
        return True
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False))


def computes_in_bfloat16(precision: str, device: str) -> bool:
    """Whether settings of this precision, "float32" or "bfloat16", mean bfloat16 on this device."""
    return precision == "bfloat16" and gains_by_bfloat16(device)


def stopwatch(device: str | torch.device = "cpu", wall: bool = False) -> Callable[[], float]:
    """A function that gives the seconds since this call.

    On a CPU they are those of the process, so that a busy machine lengthens nothing; on CUDA those
    that passed until the device had done what it was sent. wall: those that passed, on a CPU too.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        begin = time.perf_counter()
        return lambda: _synchronise() - begin
    now = time.perf_counter if wall else time.process_time
    begin = now()
    return lambda: now() - begin


def clock(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str | torch.device = "cpu",
    warm: int = 1,
    wait: Callable[[object], object] | None = None,
) -> dict[str, np.ndarray]:
    """Seconds of every job in every round, (rounds,) each: the jobs take turns, in their order.

    A machine that gets slower slows all of them alike. `warm` rounds are made first and not
    counted; 1 is enough for caches, 3 for what CUDA looks for. What a job gives, such as a loss
    with its graph, is dropped before the next one begins, and outside the time that is taken; the
    garbage collector rests. Seconds are those of the process on a CPU, and on CUDA those between
    two events of the device in the stream at hand, the first of them in an empty queue. wait: what
    makes a result be there where it is computed behind the caller's back, such as
    jax.block_until_ready; it belongs to the job.

    Raises ValueError if rounds is below 1 or warm below 0.

    >>> matrix = torch.ones(300, 300)
    >>> seconds = clock({"product": lambda: matrix @ matrix, "sum": lambda: matrix + matrix}, 5)
    >>> {name: taken.shape for name, taken in seconds.items()}
    {'product': (5,), 'sum': (5,)}
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if warm < 0:
        raise ValueError(f"warm must be at least 0, got {warm}")
    timed = _time_on_cuda if torch.device(device).type == "cuda" else _time_on_cpu
    seconds = {name: np.empty(warm + rounds) for name in jobs}
    with _no_collection():
        for turn in range(warm + rounds):
            for name, job in jobs.items():
                seconds[name][turn] = max(timed(_wait_for(job, wait)), SHORTEST)
    return {name: taken[warm:] for name, taken in seconds.items()}


def _wait_for(job: Callable[[], object], wait: Callable[[object], object] | None) -> Callable:
    return job if wait is None else lambda: wait(job())


def _time_on_cpu(job: Callable[[], object]) -> float:
    begin = time.process_time()
    result = job()
    taken = time.process_time() - begin
    del result  # only now: to free a graph is not the job
    return taken


def _time_on_cuda(job: Callable[[], object]) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    result = job()
    end.record()
    torch.cuda.synchronize()
    del result
    return start.elapsed_time(end) / 1e3  # milliseconds


def _synchronise() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage of before is collected, and none while the clock runs, as `timeit` does it."""
    before = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
