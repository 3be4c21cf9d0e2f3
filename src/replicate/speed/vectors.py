"""What optimizers and averages add to a step, and what models side by side save: goals G5 to G8."""

import itertools
from collections.abc import Callable

import pandas as pd
import torch

from replicate import optim, runs, training
from replicate.averaging import KernelAverages, ema
from replicate.datasets import Batches
from replicate.optim import SGD, Lookahead
from replicate.sources.protocol import Evidence, experiment
from replicate.speed import peers
from replicate.speed.goals import Row, table, turns
from replicate.speed.settings import Settings
from replicate.speed.steps import ours, random_images

CYCLE = 5  # Lookahead's default k


@experiment(evidence={"synthetic": Evidence(97, "G5, G6, G7")})
def wrappers(settings: Settings) -> pd.DataFrame:
    """Lookahead, extrapolation and averages on a network's weights in one vector, as shares of its training step."""
    device, (name, size) = runs.device(), settings.nets[0]
    jobs = {
        "step": ours(name, settings, size, device),
        "SGD": _updates(name, device, lambda inner: inner),
        "Lookahead": _updates(name, device, Lookahead),
        "averages": _ring(name, settings, device),
        "averages, one by one": _one_by_one(name, settings, device),
    }
    if hasattr(optim, "TaylorExtrapolation"):
        jobs["extrapolation"] = _updates(name, device, lambda inner: optim.TaylorExtrapolation(inner, dt=1e-3, h=1.0))
    for job in jobs.values():
        job(KernelAverages.BLOCK)
    many = KernelAverages.BLOCK * CYCLE  # whole cycles, and whole blocks of the ring
    seconds = turns({n: job for n, job in jobs.items() if n != "step"}, many, settings.rounds, device)
    step = turns({"step": jobs["step"]}, settings.steps, settings.rounds, device)["step"]
    count, label = settings.averages, f"{name} b{size}"
    rows = [Row("G5", f"Lookahead of a step, {label}", "fraction", (seconds["Lookahead"] - seconds["SGD"]) / step)]
    if "extrapolation" in seconds:
        rows.append(
            Row(
                "G6",
                f"extrapolation of a step, {label}",
                "fraction",
                (seconds["extrapolation"] - seconds["SGD"]) / step,
            )
        )
    rows.append(Row("G7", f"{count} averages of a step, {label}", "fraction", seconds["averages"] / step))
    rows.append(
        Row(
            "G7",
            f"{count} averages: one by one over ours",
            "ratio",
            seconds["averages, one by one"] / seconds["averages"],
        )
    )
    return table(rows)


@experiment(evidence={"synthetic": Evidence(96, "G8")})
def side_by_side(settings: Settings) -> pd.DataFrame:
    """Several networks as branches of one graph, against one after the other."""
    device, rows = runs.device(), []
    for name, count in (settings.large, settings.small):
        size = settings.nets[0][1]
        jobs = {"one": ours(name, settings, size, device), "together": _together(name, count, settings, size, device)}
        for job in jobs.values():
            job(2)
        seconds = turns(jobs, max(1, settings.steps // 3), settings.rounds, device)
        rows.append(
            Row(
                "G8",
                f"{count} {name} b{size}: throughput over one",
                "ratio",
                count * seconds["one"] / seconds["together"],
            )
        )
    return table(rows)


def _weights(name: str, device: str) -> torch.nn.Parameter:
    made = torch.nn.Parameter(training.flat_weights(peers.net(name, half=False)).to(device))
    made.grad = torch.full_like(made, 1e-3)
    return made


def _updates(name: str, device: str, wrap: Callable) -> Callable[[int], None]:
    optimizer = wrap(SGD([_weights(name, device)], lr=1e-3, momentum=0.9, fused=True))
    return lambda steps: [None for _ in range(steps) if optimizer.step()]


def _ring(name: str, settings: Settings, device: str) -> Callable[[int], None]:
    live = _weights(name, device).detach()
    kernels = {str(i): ema(10**4, 1 / (2 + i)) for i in range(settings.averages)}
    averages = KernelAverages(kernels, live)
    return lambda steps: [averages.update(live) for _ in range(steps)]


def _one_by_one(name: str, settings: Settings, device: str) -> Callable[[int], None]:
    live = list(peers.net(name, half=False).to(device).parameters())
    averages = [[p.detach().clone() for p in live] for _ in range(settings.averages)]
    own = [p.detach() for p in live]

    def job(steps: int) -> None:
        for _ in range(steps):
            for i, average in enumerate(averages):
                torch._foreach_lerp_(average, own, 1 / (2 + i))

    return job


def _together(name: str, count: int, settings: Settings, size: int, device: str) -> Callable[[int], None]:
    models = [peers.net(name, half=runs.gains_by_bfloat16(device)).to(device) for _ in range(count)]
    x, y = random_images(settings.images)
    data = Batches(x, y, size, peers.CLASSES, device, pad=peers.PAD, flip=True)
    optimizers = [SGD(model.parameters(), fused=True, **peers.ABOUT) for model in models]
    capture = training.cuda_graph if device == "cuda" else lambda compute: compute
    gradients = training.GraphedGradients(models, data, capture)
    numbers = itertools.count()

    def job(steps: int) -> None:
        for step in itertools.islice(numbers, steps):
            gradients([(seed, 0) for seed in range(count)], step)
            for optimizer in optimizers:
                optimizer.step()

    return job
