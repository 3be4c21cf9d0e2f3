"""Goal G9: the host's share of a round, and whether it waits for the device inside an epoch."""

import pandas as pd
import torch

from benchmarks import goals
from benchmarks.gpu._jobs import Job, make_ours
from benchmarks.gpu.settings import FULL, Settings
from benchmarks.harness import Row, make_frame
from replicate import runs
from replicate.numerics import stopwatch
from replicate.sources.protocol import Evidence, experiment


@experiment(evidence={"synthetic": Evidence(95, "G9")})
def host(settings: Settings) -> pd.DataFrame:
    """The share, and on CUDA the waits. Columns: those of `harness.COLUMNS`."""
    device = runs.device()
    name, size = settings.nets[0]
    job = make_ours(name, settings, size, device)
    job(1)
    shares = [measure_share(job, settings.steps, device) for _ in range(settings.rounds)]
    is_stated = settings.nets[0] == FULL.nets[0]
    key = goals.choose("G9 host", is_stated)
    rows = [Row(key, f"{name} b{size}: host busy, of a round", "fraction", shares)]
    if device == "cuda":
        key = goals.choose("G9 waits", is_stated)
        waits = [float(makes_host_wait(job, settings.steps))]
        rows.append(Row(key, f"{name} b{size}: rounds in which the host waited", "count", waits))
    return make_frame(rows)


def measure_share(job: Job, steps: int, device: str) -> float:
    """Time to send off a round of steps over the time they take."""
    elapsed = stopwatch(device, wall=True)
    busy = stopwatch(wall=True)
    job(steps)
    sent = busy()
    return sent / elapsed()


def makes_host_wait(job: Job, steps: int) -> bool:
    """Whether a step makes the host wait for the device, at which torch then raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        job(steps)
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False
