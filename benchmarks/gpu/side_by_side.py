"""Goal G8: several networks as branches of one graph, against one after the other."""

import itertools

import pandas as pd

from benchmarks import goals
from benchmarks.gpu._jobs import Job, build, clock_steps, make_batches, make_ours
from benchmarks.gpu.settings import FULL, Settings
from benchmarks.harness import Row, make_frame
from benchmarks.peers import SGD_SETTINGS
from replicate import runs, training
from replicate.numerics import gains_by_bfloat16
from replicate.optim import SGD
from replicate.sources.protocol import Evidence, experiment

KEYS = {FULL.large: "G8 resnet18", FULL.small: "G8 resnet8"}


@experiment(evidence={"synthetic": Evidence(96, "G8")})
def side_by_side(settings: Settings) -> pd.DataFrame:
    """Throughput of the large and of the small networks. Columns: those of `harness.COLUMNS`."""
    device = runs.device()
    size = settings.nets[0][1]
    rows = []
    for name, count in (settings.large, settings.small):
        jobs = {
            "single": make_ours(name, settings, size, device),
            "together": step_together(name, count, settings, size, device),
        }
        for job in jobs.values():
            job(2)
        seconds = clock_steps(jobs, max(1, settings.steps // 3), settings.rounds, device)
        is_stated = size == FULL.nets[0][1] and (name, count) in KEYS
        key = goals.choose(KEYS[name, count], is_stated) if is_stated else ""
        gain = count * seconds["single"] / seconds["together"]
        rows.append(Row(key, f"{count} {name} b{size}: throughput over one", "ratio", gain))
    return make_frame(rows)


def step_together(name: str, count: int, settings: Settings, size: int, device: str) -> Job:
    """Steps of several networks, each on its batches."""
    half = gains_by_bfloat16(device)
    models = [build(name, half).to(device) for _ in range(count)]
    data = make_batches(settings.images, size, device)
    optimizers = [SGD(model.parameters(), fused=True, **SGD_SETTINGS) for model in models]
    capture = training.cuda_graph if device == "cuda" else lambda compute: compute
    gradients = training.GraphedGradients(models, data, capture)
    numbers = itertools.count()

    def job(steps: int) -> None:
        for step in itertools.islice(numbers, steps):
            gradients([(seed, 0) for seed in range(count)], step)
            for optimizer in optimizers:
                optimizer.step()

    return job
