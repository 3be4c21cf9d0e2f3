"""Section 2: whether it matters that SWA averages every c-th step, or every one.

(L(mean of every c-th) - L(mean of all)) / (L(end) - L(mean of all)),    over one window
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, training
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("sparse", "every step", "last tenth", "raw")
STRIDES_TRIED = (10, 100)  # c; the claims file's
FEWEST_POINTS = 10  # ours; of a sparse average


def windows(settings: Settings) -> dict[int, list[int]]:
    """k -> strides c that leave enough points: SWA's windows of at most 1000 steps in Figure 5."""
    ks = sorted(k for k in settings.swa if k <= max(_trips.TRIP_LOOKS))
    strides = {k: [c for c in STRIDES_TRIED if k // c >= FEWEST_POINTS] for k in ks}
    return {k: chosen for k, chosen in strides.items() if chosen}


def operations(settings: Settings) -> float:
    """Multiplications and additions of the window once more and of what is evaluated."""
    ks = windows(settings)
    points = _branches.count_evaluation(settings, sum(3 + len(chosen) for chosen in ks.values()))
    steps = _branches.count_training(settings, max(ks, default=0))
    return _trips.count_seeds(settings) * (steps + points)


@experiment(
    fields={"arm": ARMS, "k": lambda settings: set(windows(settings)), "c": STRIDES_TRIED},
    metrics=("train_loss", "test_loss", "top1"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(30, "section 2: averaging every c-th step")},
)
def sparse_averages(settings: Settings) -> pd.DataFrame:
    """Averages over windows from the last branch point, of all their steps and of every c-th.

    Columns: seed, k (steps of the window), c, arm, train_loss and test_loss (nats), top1 (fraction).
    Arms: sparse (the mean of every c-th, the last one included), every step, last tenth (the mean of
    every step of the last tenth), raw (the window's end). Empty where no window is long enough.
    """
    if not windows(settings):
        return pd.DataFrame()
    return _trips.run_each(average_sparsely, settings, after=_trips.run_main(settings)).table


def average_sparsely(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed."""
    main, start, _ = _trips.load_last_branch(settings, point["seed"], parents, device)
    kernels = {}
    for k, strides in windows(settings).items():
        kernels |= {f"sparse {k} {c}": sparse(k, c) for c in strides}
        kernels[f"every step {k}"] = averaging.swa(k)
        kernels[f"last tenth {k}"] = np.concatenate([np.zeros(k - k // 10), averaging.swa(k // 10)])
        kernels[f"raw {k}"] = np.concatenate([np.zeros(k), np.ones(1)])
    averages = averaging.KernelAverages(kernels, training.flat_weights(start.model))
    training.branch(start, main.data, main.rate, main.seed, MAIN, start.step + max(windows(settings)),
                    averages=(averages,))  # fmt: skip
    metrics = main.evaluator()
    measured = {name: metrics(averages[name].to(device)) for name in kernels}
    rows = []
    for k, strides in windows(settings).items():
        for c in strides:
            rows.append({"k": k, "c": c, "arm": "sparse", **measured[f"sparse {k} {c}"]})
            rows += [{"k": k, "c": c, "arm": arm, **measured[f"{arm} {k}"]} for arm in ARMS[1:]]
    return pd.DataFrame(rows)


def sparse(k: int, c: int) -> np.ndarray:
    """The mean of every c-th of the last k iterates, the last one among them, (k + 1,)."""
    mu = np.zeros(k + 1)
    mu[k:0:-c] = 1.0
    return mu / mu.sum()
