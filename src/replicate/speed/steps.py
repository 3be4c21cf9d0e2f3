"""A training step of ours beside what one writes first: goals G1 to G4, G9 and G12, and the device's ceilings."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from replicate import floors, models, runs, training
from replicate.datasets import Batches
from replicate.optim import SGD
from replicate.sources.protocol import Evidence, experiment
from replicate.speed import peers
from replicate.speed.goals import Row, table, turns
from replicate.speed.settings import Settings
from replicate.streams import rng
from replicate.training.schedules import constant


@experiment(evidence={"synthetic": Evidence(100, "what the device can do at best")})
def ceilings(settings: Settings) -> pd.DataFrame:
    """What the device can do at best: products of matrices, and copies in its memory."""
    device = runs.device()
    rates = {str(kind).removeprefix("torch."): floors.matrix_rate(device, settings.matrix, kind)
             for kind in (torch.bfloat16, torch.float32)}  # fmt: skip
    rows = [Row("ceiling", f"products of matrices, {name}", "operations/s", [rate]) for name, rate in rates.items()]
    return table(rows + [Row("ceiling", "copy", "bytes/s", [floors.copy_rate(device, settings.copied)])])


@experiment(evidence={"synthetic": Evidence(99, "G2, G3, G12")}, operations=lambda settings: step_operations(settings))
def training_step(settings: Settings) -> pd.DataFrame:
    """The model alone, eager and compiled, against ours with its input; share of the matrix rate; first steps.

    Columns: those of `goals.table`, and net, batch, compiled.
    """
    plans = (False, True) if settings.compiled else (False,)
    grid = [{"net": net, "batch": size, "compiled": how} for how in plans for net, size in settings.nets]
    return runs.each(step_of_a_net, settings, grid).table


def step_of_a_net(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """One network at one batch size."""
    name, size = point["net"], point["batch"]
    ready = itertools.repeat(_batch(size, device))
    if point["compiled"]:
        jobs = {"compiled bfloat16": peers.eager(torch.compile(_half(name).to(device)), ready, 0)}
    else:
        jobs = {
            "eager float32, loss read": peers.eager(peers.Plain(name).to(device), ready, 1),
            "eager bfloat16": peers.eager(_half(name).to(device), ready, 0),
        }
    jobs["ours"] = ours(name, settings, size, device)
    first = {what: _first(job, device) for what, job in jobs.items()}
    seconds = turns(jobs, settings.steps, settings.rounds, device)
    work = models.count_operations(peers.net(name, half=False), (3, peers.SIDE, peers.SIDE))[1] * size
    rate, label = floors.matrix_rate(device, settings.matrix), f"{name} b{size}"
    rows = [
        Row("G2", f"{label}: {what} over ours", "ratio", seconds[what] / seconds["ours"]) for what in list(jobs)[:-1]
    ]
    rows.append(Row("G3", f"{label}: share of the matrix rate", "fraction", work / (seconds["ours"] * rate)))
    rows.append(Row("step", f"{label}: images", "images/s", size / seconds["ours"]))
    return table(rows + [Row("G12", f"{label}: first step, {what}", "s", [taken]) for what, taken in first.items()])


@experiment(evidence={"synthetic": Evidence(98, "G1, G4")}, operations=lambda settings: script_operations(settings))
def scripts(settings: Settings) -> pd.DataFrame:
    """Whole scripts, input included: image by image with a loader's workers, and an epoch at a time on the device.

    Columns: those of `goals.table`, and batch.
    """
    return runs.each(script_of_a_batch, settings, [{"batch": size} for size in settings.script_batches]).table


def script_of_a_batch(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """One batch size; a round is an epoch of so many steps, so that what an epoch begins with is in it."""
    name, size = settings.large[0], point["batch"]
    x, y = random_images(min(settings.images, size * settings.epoch))
    loader = peers.loaded(x, y, size, settings.workers, device)
    jobs = {
        "image by image, float32": peers.eager(peers.Plain(name).to(device), loader, 2),
        "an epoch at a time, bfloat16": peers.eager(
            _half(name).to(device), peers.an_epoch_at_a_time(x, y, size, device), 0
        ),
        "ours": ours(name, settings, size, device, len(x)),
    }
    for job in jobs.values():
        job(1)
    seconds = turns(jobs, len(x) // size, settings.rounds, device, wall=True)
    goals = {"G1": "image by image, float32", "G4": "an epoch at a time, bfloat16"}
    return table([Row(goal, f"{name} b{size}: {what} over ours", "ratio", seconds[what] / seconds["ours"])
                  for goal, what in goals.items()])  # fmt: skip


def step_operations(settings: Settings) -> float:
    """Of `training_step`: every turn of every variant, and the turns that warm up."""
    variants = 3 + (2 if settings.compiled else 0)
    return sum(variants * _turn_operations(settings, net, size) for net, size in settings.nets)


def script_operations(settings: Settings) -> float:
    """Of `scripts`."""
    count = replace(settings, steps=settings.epoch)
    return sum(3 * _turn_operations(count, settings.large[0], size) for size in settings.script_batches)


def _turn_operations(settings: Settings, net: str, size: int) -> float:
    of_an_image = models.count_operations(peers.net(net, half=False), (3, peers.SIDE, peers.SIDE))[1]
    return 2 * settings.rounds * settings.steps * size * of_an_image


@experiment(evidence={"synthetic": Evidence(95, "G9")})
def host(settings: Settings) -> pd.DataFrame:
    """The host's share: time to send off a round of steps over the time they take, and reads inside an epoch."""
    device, (name, size) = runs.device(), settings.nets[0]
    job = ours(name, settings, size, device)
    _first(job, device)
    shares = []
    for _ in range(settings.rounds):
        start = time.perf_counter()
        job(settings.steps)
        sent = time.perf_counter() - start
        _wait(device)
        shares.append(sent / (time.perf_counter() - start))
    rows = [Row("host", f"{name} b{size}: host busy of a round", "fraction", shares)]
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")  # a step that makes the host wait raises
        try:
            job(settings.steps)
            rows.append(Row("G9", f"{name} b{size}: rounds in which the host waited", "count", [0]))
        except RuntimeError:
            rows.append(Row("G9", f"{name} b{size}: rounds in which the host waited", "count", [1]))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return table(rows)


def ours(name: str, settings: Settings, size: int, device: str, images: int | None = None) -> Callable[[int], None]:
    """A job of so many steps of the project's loop, batches included."""
    model = peers.net(name, half=runs.gains_by_bfloat16(device)).to(device)
    x, y = random_images(images or settings.images)
    data = Batches(x, y, size, peers.CLASSES, device, pad=peers.PAD, flip=True)
    optimizer = SGD(model.parameters(), fused=True, **peers.ABOUT)
    run = training.steps(model, data, optimizer, constant(peers.ABOUT["lr"]), 0, 0, 0, 10**9)
    return lambda steps: [None for _ in itertools.islice(run, steps)]


def _half(name: str):
    return peers.net(name, half=True)


def random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, side, side, 3) uint8 of random bytes, and labels."""
    draw = rng(0, "eval", 0)
    x = draw.integers(0, 256, (count, peers.SIDE, peers.SIDE, 3), dtype=np.uint8)
    return x, draw.integers(0, peers.CLASSES, count)


def _batch(size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    draw = rng(0, "eval", 1)
    images = draw.standard_normal((size, 3, peers.SIDE, peers.SIDE), dtype=np.float32)
    return torch.from_numpy(images).to(device), torch.from_numpy(draw.integers(0, peers.CLASSES, size)).to(device)


def _first(job: Callable[[int], None], device: str) -> float:
    """Seconds of the first step: compiling, capturing and looking for the fastest kernels."""
    start = time.perf_counter()
    job(1)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
