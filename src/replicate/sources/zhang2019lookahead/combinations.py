"""Related work on a network: what iterates of one run of SGD give when they are combined.

    mean          sum_i theta_i / n                           stochastic weight averaging
    ensemble      sum_i softmax f(x; theta_i) / n             an ensemble of functions
    accelerated   sum_i c_i theta_i, c as in `accelerate`     regularised nonlinear acceleration

The n iterates are the same: at equal distances in the tail of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, runs, training
from replicate.errors import Diverged
from replicate.numerics import modes_restored
from replicate.problems import accelerate
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead.settings import Settings

ARMS = ("last", "mean", "ensemble", "accelerated")
ITERATES = 10  # ours; as Scieur et al. 2016 combine on logistic regression
# lambda: every second decade of Scieur et al.'s grid and four more decades towards the plain mean,
# which a net needs where residuals are noise; chosen by the loss on held-out training images.
REGULARISATIONS = (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0)


def list_points(settings: Settings) -> list[dict]:
    """A run a seed and schedule."""
    return [
        {"seed": seed, "schedule": schedule}
        for seed in settings.seeds
        for schedule in settings.schedules
    ]


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs: looks at the last weights, the mean, every
    acceleration, and each iterate of the ensemble.
    """
    looks = 2 + len(REGULARISATIONS) + len(places(settings))
    one = _operations.count_steps(settings, settings.steps)
    return len(list_points(settings)) * (one + _operations.count_looks(settings, looks))


@experiment(
    fields={"schedule": lambda settings: settings.schedules, "arm": ARMS},
    metrics=_networks.END_METRICS,
    datasets=("digits", "cifar10-arms"),
    needs_data=True,
    operations=operations,
    night={"cifar10-arms": Evidence(71, "weights averaged, accelerated, or functions averaged")},
)
def combinations(settings: Settings) -> pd.DataFrame:
    """The ends of SGD at the settings' rate, and its iterates combined: columns seed, schedule, arm,
    regularisation (the chosen lambda of `accelerated`) and the metrics.
    """
    return runs.each(combine_run, settings, list_points(settings)).table


def combine_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one run; NaN for all of them where it diverges."""
    run = _networks.Run(settings, {"method": "sgd", "lr": settings.lr} | point, device)
    iterates = []
    try:
        for stop in places(settings):
            run.advance(stop)
            iterates.append(training.flat_weights(run.model))
    except Diverged:
        nothing = dict.fromkeys(("regularisation", *_networks.END_METRICS), math.nan)
        return pd.DataFrame([{"arm": arm} | nothing for arm in ARMS])
    return pd.DataFrame(_see_arms(run, iterates))


def places(settings: Settings) -> list[int]:
    """The steps after which iterates are taken, the last of the run among them: ITERATES, or every
    step where the tail has fewer.
    """
    begin = min(round(settings.tail * settings.steps), settings.steps - 2)
    return sorted({round(step) for step in np.linspace(begin, settings.steps, ITERATES + 1)[1:]})


def _see_arms(run: _networks.Run, iterates: list) -> Iterator[dict]:
    """A row an arm, BatchNorm re-estimated at each weight vector."""
    evaluate = run.evaluator()
    vectors = np.stack([theta.double().cpu().numpy() for theta in iterates])

    def see(vector: np.ndarray) -> dict[str, float]:
        return evaluate(iterates[0].new_tensor(vector))

    tried = {ridge: see(accelerate(vectors, ridge)) for ridge in REGULARISATIONS}
    best = min(
        tried,
        key=lambda ridge: (math.isnan(tried[ridge]["valid_loss"]), tried[ridge]["valid_loss"]),
    )
    ends = {
        "last": see(vectors[-1]),
        "mean": see(vectors.mean(axis=0)),
        "ensemble": _see_ensemble(run, iterates),
        "accelerated": tried[best],
    }
    for arm, columns in ends.items():
        chosen = best if arm == "accelerated" else math.nan
        yield {"arm": arm, "regularisation": chosen} | {
            name: columns[name] for name in _networks.END_METRICS
        }


def _see_ensemble(run: _networks.Run, iterates: list) -> dict[str, float]:
    """Losses and accuracies of the mean of the iterates' probabilities."""
    sums = {name: 0.0 for name in run.data.sets}
    with modes_restored(run.model):
        for theta in iterates:
            training.load_flat(run.model, theta)
            averaging.recompute_batch_norm(run.model, run.data.norm)
            run.model.eval()
            for name, (images, _) in run.data.sets.items():
                sums[name] = sums[name] + _predict(run.model, images)
    columns = {}
    for name, (_, labels) in run.data.sets.items():
        truth, p = labels.cpu().numpy(), sums[name] / len(iterates)
        loss = -np.log(np.maximum(p[np.arange(len(truth)), truth], np.finfo(float).tiny)).mean()
        right = (p.argmax(1) == truth).mean()
        columns |= {f"{name}_loss": float(loss), f"{name}_top1": float(right)}
    return columns | {"top1": columns["test_top1"]}


def _predict(model, images) -> np.ndarray:
    """Probabilities, (n, classes) float64."""
    parts = [model(part).detach().double().softmax(1) for part in images.split(500)]
    return np.concatenate([part.cpu().numpy() for part in parts])
