"""A run that several processes make together, and what a script under torchrun needs to make it."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import distributed, nn
from torch.nn import functional

from replicate import averaging, training
from replicate.runs import ranks as together
from replicate.training import ranks

IMAGES, STEPS = 60, 40


class Halves:
    """Mini-batches in double precision, a pure function of (seed, stream, step)."""

    per_epoch = 8
    loss = staticmethod(functional.cross_entropy)

    def __init__(self, size: int = 7):
        self.size = size

    def batch(self, seed: int, stream: int, step: int):
        draw = np.random.default_rng([seed, stream, step])
        images = torch.from_numpy(draw.standard_normal((self.size, 2, 5, 5)))
        return images, (images.mean((1, 2, 3)) > 0).long()


def begin(flat: bool = False) -> training.State:
    """A small net with BatchNorm, its optimizer with momentum and weight decay, and an average."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3),
        nn.BatchNorm1d(3),
    ).double()  # fmt: skip
    model = training.Flat(model) if flat else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    averages = averaging.KernelAverages({"last 5": averaging.swa(5)}, model)
    return training.State(model, optimizer, (averages,))


def train(state: training.State, stop: int, size: int = 7) -> tuple[training.State, np.ndarray]:
    return training.advance(state, Halves(size), lambda step: 0.1 / (1 + step), 1, 0, stop)


def describe(state: training.State, losses: np.ndarray) -> dict[str, list[float]]:
    """All that has to be the same: losses, weights, BatchNorm's statistics, the average."""
    buffers = torch.cat([b.double().reshape(-1) for b in state.model.buffers()])
    average = state.averages[0]["last 5"]
    values = (losses, training.flat_weights(state.model), buffers, average)
    names = ("losses", "weights", "statistics", "average")
    return {n: np.asarray(v).tolist() for n, v in zip(names, values, strict=True)}


def work(number: int, count: int, meeting: str, job, results) -> None:
    """One rank: what `job()` gives goes to `results` under its number."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=number, world_size=count
    )
    try:
        results.put((number, job()))
    finally:
        distributed.destroy_process_group()


def run_of_grid(settings, point, folder, parents, device) -> pd.DataFrame:
    """The run as an experiment makes it: with checkpoints, from which it goes on after a kill."""
    checkpoints = training.Checkpoints(folder / "checkpoints", "run")
    state, stop = begin(), checkpoints.newest()
    losses = np.empty(0)
    if stop is not None:
        state, losses = checkpoints.load(stop, state), checkpoints.records(stop)["losses"]
    for stop in range(state.step + 5, STEPS + 1, 5):
        state, more = train(state, stop)
        losses = np.concatenate([losses, more])
        checkpoints.save(state, {"losses": losses})
        mark = Path(settings.killed)
        if stop == 20 and os.environ.get("RANK") == settings.victim and not mark.exists():
            mark.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
    return pd.DataFrame({"loss": losses, "average": state.averages[0]["last 5"].sum().item()})


def main(build: str, victim: str) -> None:
    """Under torchrun: make the run in `build` and leave its table there."""
    from dataclasses import make_dataclass

    from replicate import paths, runs

    paths.BUILD = Path(build)
    fields = [("dataset", str, "none"), ("killed", str, ""), ("victim", str, "")]
    settings = make_dataclass("Settings", fields, frozen=True)
    told = settings(killed=f"{build}/killed", victim=victim)
    with together.join("synchronised"), ranks.train_together():
        table = runs.each(run_of_grid, told, [{"seed": 1}]).table
        left = sorted(path.name for path in Path(build).rglob(".seed*"))
        if together.is_first():
            Path(build, "result.json").write_text(json.dumps([table.loss.tolist(), left]))


if __name__ == "__main__":
    main(*sys.argv[1:])
