"""The share of float32 weights that an extrapolation changes, and its length beside the step
before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import optim, runs, training
from replicate.optim.stencils import step_coefficients
from replicate.sources import images as kit
from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment

AFTER = 50  # steps into a run
TRIED_DTS = (1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 2e-2)
BATCH_OF = {"noise": 16, "quiet": 256}  # images per batch
STATES_DRAWN = 6  # states of one weight, for a picture of what is extrapolated
TENTHS = 10  # parts of a run, of which the first and the last are compared


def operations(settings: Settings) -> float:
    """Of plain SGD's runs: two short ones and a whole one, and where both sizes are compared one at
    each.
    """
    images = settings.batch * (2 * AFTER + 1 + settings.steps)
    if set(BATCH_OF.values()) <= set(settings.batches):
        images += settings.steps * sum(BATCH_OF.values())
    return len(settings.seeds) * images * _networks.operations_per_step(settings)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The runs at a batch size as they are, and of the printed dt the largest of the seeds."""
    largest = (
        table[table.what == "printed"].groupby("what", as_index=False)[["changed", "length"]].max()
    )
    return pd.concat(
        [table[table.what.isin(["volatility", *BATCH_OF])], largest.assign(seed=0, branch=0)],
        ignore_index=True,
    )


@experiment(
    fields={"what": ("printed", "volatility", *BATCH_OF)},
    metrics=("changed", "length", "extrapolation", "predicted", "first", "last"),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    operations=operations,
    derive=derive,
    night={"imagewoof-64": Evidence(73, "whether the way bends more at its beginning")},
    whole=True,
)
def resolution(settings: Settings) -> pd.DataFrame:
    """Columns seed, branch, what, dt, s, changed, length, extrapolation, predicted, first, last,
    step, weight (NaN if not applicable).

    what "dt": 50 steps into a run, `changed` the share of the weights that an extrapolation by dt
    changes, `length` its length over that of the step before it; "printed" is the source's dt. what
    "noise" and "quiet": over the last quarter of a run at batch 16 and 256 the mean squared length
    of an extrapolation at s = 1, and what independent steps would make of it, sum_j c_j^2 times
    their mean squared length; only where both sizes are compared. what "volatility": the share of
    a step that does not go on in the direction of the step before it, its mean over the `first` and
    the `last` tenth of plain SGD's run. what "weight": the last states until step 50, and the next
    one, of the weight that bends most there.
    """
    return runs.each(resolution_run, settings, [{"seed": seed} for seed in settings.seeds]).table


def resolution_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed; the extrapolations are measured and undone."""
    rows = [*_lengths(settings, point["seed"], device), _turns(settings, point["seed"], device)]
    rows += _states(settings, point["seed"], device)
    if set(BATCH_OF.values()) <= set(settings.batches):
        rows += [
            _gain(settings, point["seed"], device, name, batch) for name, batch in BATCH_OF.items()
        ]
    return pd.DataFrame(rows).assign(branch=0)


def _lengths(settings: Settings, seed: int, device: str) -> Iterator[dict]:
    data = _networks.Data.load(settings, settings.batch, device)
    model = kit.network(settings, seed, data.images, device)
    inner = optim.SGD(model.parameters(), lr=settings.lr, fused=True)
    optimizer = optim.TaylorExtrapolation(inner, settings.dt, every=None)
    run = _displacements(settings, model, optimizer, data.batches, seed, AFTER)
    displacements = deque(run, maxlen=1).pop()
    for dt in sorted({settings.dt, *TRIED_DTS}):
        optimizer.dt = dt
        before = training.flat_weights(model)
        with optimizer.extrapolated():
            changed = (training.flat_weights(model) != before).double().mean()
        long = np.linalg.norm(_combine(displacements, dt / settings.lr)) / np.linalg.norm(
            displacements[0]
        )
        name = "printed" if dt == settings.dt else "dt"
        yield {
            "what": name,
            "dt": dt,
            "s": dt / settings.lr,
            "changed": float(changed),
            "length": float(long),
        }


def _turns(settings: Settings, seed: int, device: str) -> dict:
    data = _networks.Data.load(settings, settings.batch, device)
    model = kit.network(settings, seed, data.images, device)
    optimizer = optim.SGD(model.parameters(), lr=settings.lr, fused=True)
    run = _displacements(settings, model, optimizer, data.batches, seed, settings.steps)
    turns = [sine(now, before) for now, before, _ in run]
    tenth = max(1, settings.steps // TENTHS)
    first, last = np.mean(turns[:tenth]), np.mean(turns[-tenth:])
    return {"what": "volatility", "first": first, "last": last}


def _states(settings: Settings, seed: int, device: str) -> list[dict]:
    data = _networks.Data.load(settings, settings.batch, device)
    model = kit.network(settings, seed, data.images, device)
    optimizer = optim.SGD(model.parameters(), lr=settings.lr, fused=True)
    states = deque([_weights(model)], maxlen=STATES_DRAWN + 1)
    for _ in training.steps(
        model, data.batches, optimizer, lambda step: settings.lr, seed, MAIN, 0, AFTER + 1
    ):
        states.append(_weights(model))
    place = np.abs(np.diff(np.array(states)[-5:-1], n=3, axis=0)[0]).argmax()
    first = AFTER + 2 - len(states)
    return [
        {"what": "weight", "step": first + i, "weight": state[place]}
        for i, state in enumerate(states)
    ]


def sine(now: np.ndarray, before: np.ndarray) -> float:
    """|now less its part along `before`| / |now|: 0 for a straight way on, 1 for a right angle."""
    cosine = (now @ before) / (np.linalg.norm(now) * np.linalg.norm(before))
    return float(np.sqrt(max(0.0, 1 - cosine**2)))


def _gain(settings: Settings, seed: int, device: str, name: str, batch: int) -> dict:
    data = _networks.Data.load(settings, batch, device)
    model = kit.network(settings, seed, data.images, device)
    optimizer = optim.SGD(model.parameters(), lr=settings.lr, fused=True)
    squares = [
        (np.sum(_combine(displacements, 1.0) ** 2), np.sum(displacements[0] ** 2))
        for displacements in _displacements(
            settings, model, optimizer, data.batches, seed, settings.steps
        )
    ]
    extrapolation, step = np.mean(squares[-settings.steps // 4 :], axis=0)
    gain = sum(c**2 for c in step_coefficients(1.0, 3))
    return {"what": name, "s": 1.0, "extrapolation": extrapolation, "predicted": gain * step}


def _displacements(settings, model, optimizer, data, seed: int, steps: int) -> Iterator[list]:
    """After each step from the third on: the last three displacements, newest first, float64."""
    before = _weights(model)
    displacements: list = []
    for _ in training.steps(model, data, optimizer, lambda step: settings.lr, seed, MAIN, 0, steps):
        now = _weights(model)
        displacements = [now - before, *displacements[:2]]
        before = now
        if len(displacements) == 3:
            yield displacements


def _combine(displacements: list[np.ndarray], s: float) -> np.ndarray:
    """sum_j c_j(s) d_j of the third order."""
    return sum(c * d for c, d in zip(step_coefficients(s, 3), displacements, strict=True))


def _weights(model) -> np.ndarray:
    return training.flat_weights(model).double().cpu().numpy()
