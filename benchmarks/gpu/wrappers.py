"""Goals G5, G6 and G7: what optimizers and averages add to a training step.

Lookahead, extrapolation and averages work on a network's weights in one vector.
"""

from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from benchmarks import goals, peers
from benchmarks.gpu._jobs import Job, build, clock_steps, make_ours, repeat
from benchmarks.gpu.settings import FULL, Settings
from benchmarks.harness import Row, make_frame
from replicate import runs, training
from replicate.averaging import KernelAverages, ema
from replicate.optim import SGD, Lookahead, TaylorExtrapolation
from replicate.sources.protocol import Evidence, experiment

CYCLE = 5  # Lookahead's default k
WINDOW = 10**4  # longer than all the steps that are made


@experiment(evidence={"synthetic": Evidence(97, "G5, G6, G7")})
def wrappers(settings: Settings) -> pd.DataFrame:
    """Shares of a training step. Columns: those of `harness.COLUMNS`."""
    device = runs.device()
    name, size = settings.nets[0]
    jobs = make_jobs(name, settings, device)
    step = make_ours(name, settings, size, device)
    for job in (*jobs.values(), step):
        job(KernelAverages.BLOCK)
    many = KernelAverages.BLOCK * CYCLE  # whole cycles, and whole blocks of the ring
    seconds = clock_steps(jobs, many, settings.rounds, device)
    whole = clock_steps({"step": step}, settings.steps, settings.rounds, device)["step"]
    is_stated = settings.nets[0] == FULL.nets[0] and settings.averages == FULL.averages
    label = f"of a step, {name} b{size}"
    averages = f"{settings.averages} averages"
    shares = {
        "G5": (f"Lookahead {label}", seconds["Lookahead"] - seconds["SGD"]),
        "G6": (f"extrapolation {label}", seconds["extrapolation"] - seconds["SGD"]),
        "G7 step": (f"{averages} {label}", seconds["averages"]),
    }
    rows = [
        Row(goals.choose(key, is_stated), what, "fraction", added / whole)
        for key, (what, added) in shares.items()
    ]
    key = goals.choose("G7 lerp", is_stated)
    ratio = seconds["averages, one by one"] / seconds["averages"]
    return make_frame([*rows, Row(key, f"{averages}: one by one over ours", "ratio", ratio)])


def make_jobs(name: str, settings: Settings, device: str) -> dict[str, Job]:
    """name -> job of so many updates of a network's weights."""
    return {
        "SGD": make_updates(name, device, lambda inner: inner),
        "Lookahead": make_updates(name, device, Lookahead),
        "extrapolation": make_updates(
            name, device, lambda inner: TaylorExtrapolation(inner, dt=1e-3, h=1.0)
        ),
        "averages": make_ring(name, settings, device),
        "averages, one by one": make_lerps(name, settings, device),
    }


def make_weights(name: str, device: str) -> nn.Parameter:
    """A network's weights in one vector, with a gradient."""
    weights = nn.Parameter(training.flat_weights(build(name, half=False)).to(device))
    weights.grad = torch.full_like(weights, 1e-3)
    return weights


def make_updates(name: str, device: str, wrap: Callable) -> Job:
    """Steps of an optimizer around fused SGD."""
    inner = SGD([make_weights(name, device)], lr=1e-3, momentum=0.9, fused=True)
    return repeat(wrap(inner).step)


def make_ring(name: str, settings: Settings, device: str) -> Job:
    """Updates of our averages."""
    live = make_weights(name, device).detach()
    kernels = {str(i): ema(WINDOW, delta) for i, delta in enumerate(list_deltas(settings))}
    averages = KernelAverages(kernels, live)
    return repeat(lambda: averages.update(live))


def make_lerps(name: str, settings: Settings, device: str) -> Job:
    """Updates of as many averages, one call of torch each."""
    model = build(name, half=False).to(device)
    return repeat(peers.LerpAverages(model, list_deltas(settings)).update)


def list_deltas(settings: Settings) -> list[float]:
    """What each average takes of a new iterate."""
    return [1 / (2 + i) for i in range(settings.averages)]
