"""Goals G2, G3, G11 and G12: a training step of ours, beside what one writes first.

The model alone, eager and compiled, against ours with its input; the share of the matrix rate; the
first steps.
"""

from pathlib import Path

import pandas as pd
import torch

from benchmarks import goals, peers
from benchmarks.gpu._jobs import (
    build,
    clock_steps,
    count_step_operations,
    make_ours,
    repeat_batch,
    take,
)
from benchmarks.gpu.settings import FULL, Settings
from benchmarks.harness import Row, make_frame
from benchmarks.inputs import PIXELS
from replicate import models, runs
from replicate.app.stages import matrix_rate
from replicate.numerics import stopwatch
from replicate.sources.protocol import Evidence, experiment

FIRST = FULL.nets[0]  # the network and batch of goals G2 and G11
EAGER = {"eager float32, loss read": "G2 float32", "eager bfloat16": "G2 bfloat16"}
SHARES = {
    ("resnet18", 128): "G3 resnet18 b128",
    ("resnet18", 512): "G3 resnet18 b512",
    ("resnet34", 512): "G3 resnet34 b512",
}
COMPILED = "compiled bfloat16"
OURS = "ours"
COMPUTE = 25 * 60  # seconds of compute in half an hour of a GPU
RUN = 200 * 50_000  # images of a whole run


@experiment(
    evidence={"synthetic": Evidence(99, "G2, G3, G11, G12")}, operations=count_step_operations
)
def training_step(settings: Settings) -> pd.DataFrame:
    """Every network and batch. Columns: those of `harness.COLUMNS`, and net, batch, compiled."""
    plans = (False, True) if settings.compiled else (False,)
    grid = [
        {"net": net, "batch": size, "compiled": compiled}
        for compiled in plans
        for net, size in settings.nets
    ]
    return runs.each(measure_step, settings, grid).table


def measure_step(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One network at one batch size."""
    name = point["net"]
    size = point["batch"]
    label = f"{name} b{size}"
    jobs = make_jobs(settings, name, size, point["compiled"], device)
    first = []
    for what, job in jobs.items():
        key = goals.choose("G12", what == OURS and settings == FULL)
        seconds = time_first_step(job, device)
        first.append(Row(key, f"{label}: first step, {what}", "s", [seconds]))
    seconds = clock_steps(jobs, settings.steps, settings.rounds, device)
    ours = seconds[OURS]
    is_first = (name, size) == FIRST
    rows = []
    for what in list(jobs)[:-1]:
        key = goals.choose(EAGER[what], is_first) if what in EAGER else ""
        rows.append(Row(key, f"{label}: {what} over ours", "ratio", seconds[what] / ours))
    of_image = models.count_operations(build(name, half=False), (3, PIXELS, PIXELS))[1]
    share = of_image * size / (ours * matrix_rate(device, settings.matrix))
    key = SHARES.get((name, size), "")
    rows.append(Row(key, f"{label}: share of the matrix rate", "fraction", share))
    rows.append(Row("", f"{label}: images", "images/s", size / ours))
    runs_of_200 = COMPUTE * size / ours / RUN
    key = goals.choose("G11", is_first)
    rows.append(Row(key, f"{label}: runs in 25 minutes, by the rate", "runs", runs_of_200))
    return make_frame([*rows, *first])


def make_jobs(settings: Settings, name: str, size: int, compiled: bool, device: str) -> dict:
    """name -> job of so many steps; the last one is ours."""
    ready = repeat_batch(size, device)
    if compiled:
        model = torch.compile(build(name, half=True).to(device))
        jobs = {COMPILED: take(peers.train_eagerly(model, ready, 0))}
    else:
        plain = peers.Contiguous(name).to(device)
        half = build(name, half=True).to(device)
        jobs = {
            "eager float32, loss read": take(peers.train_eagerly(plain, ready, 1)),
            "eager bfloat16": take(peers.train_eagerly(half, ready, 0)),
        }
    return jobs | {OURS: make_ours(name, settings, size, device)}


def time_first_step(job, device: str) -> float:
    """Seconds of the first step: compiling, capturing and looking for the fastest kernels."""
    elapsed = stopwatch(device, wall=True)
    job(1)
    return elapsed()
