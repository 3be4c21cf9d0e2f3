"""Accuracy surface: test accuracy over the plane through the first, middle and last fast weights of a
cycle, with the slow weights before and after its pull, and where SGD and Lookahead go on to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs, training
from replicate.errors import Diverged
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead.settings import Settings

FAST = ("first", "middle", "last")  # fast weights that span the plane
CYCLE_PLACES = ("slow", *FAST, "pull", "mean of fast", "sgd continued", "lookahead continued")
NORMS_OF_PLACES = ("running", "re-estimated")
COLUMNS_OF_PLACES = {"test_loss": ("test", "loss"), "top1": ("test", "top1")}
ROOM = 0.5  # around the places, as a share of their extent
DRAWN_CYCLE = 0  # the cycle whose plane is drawn whole


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the cycles of a seed at each place; "fast" is the mean over the three fast ones."""
    named = table[table.place != ""]
    fast = named[named.place.isin(FAST)].assign(place="fast")
    unit = ["seed", "norm", "place"]
    return pd.concat([named, fast]).groupby(unit, as_index=False)[list(COLUMNS_OF_PLACES)].mean()


def operations(settings: Settings) -> float:
    """Multiplications and additions of all seeds: the run, what goes on beside each cycle, two looks
    at every place, and one at each place of the grid.
    """
    steps = round(settings.cut_at * settings.steps) + 4 * settings.k * settings.planes
    looks = settings.planes * len(CYCLE_PLACES)
    seen = _operations.count_looks(settings, looks + settings.side**2)
    seen += _operations.count_raw(settings, looks, ["test"])
    return len(settings.seeds) * (_operations.count_steps(settings, steps) + seen)


@experiment(
    fields={"norm": NORMS_OF_PLACES, "place": (*CYCLE_PLACES, "fast")},
    metrics=tuple(COLUMNS_OF_PLACES),
    datasets=("digits", "cifar100-cycles"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar100-cycles": Evidence(42, "the accuracy surface on CIFAR-100, ResNet-20")},
    night={"cifar100-cycles": Evidence(63, "the accuracy surface on CIFAR-100, ResNet-20")},
)
def surface(settings: Settings) -> pd.DataFrame:
    """Losses and accuracies on planes through fast weights: columns seed, cycle, norm, place, x, y
    and the metrics.

    place: its name, or "" for a place of the grid, which the first cycle of a seed alone has, with
    BatchNorm re-estimated. x, y: coordinates in the plane from the first fast weights, x towards
    the last, in units of their distance.
    """
    points = [{"seed": seed} for seed in settings.seeds]
    return runs.each(planes_run, settings, points).table


def planes_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """A seed: the cycles from the share `cut_at` on. Empty from where the run diverges."""
    about = {"method": "lookahead", "schedule": "decayed", "lr": settings.lr}
    run = _networks.Run(settings, point | about, device)
    rows = []
    try:
        run.advance(round(settings.cut_at * settings.steps / settings.k) * settings.k)
        for cycle in range(settings.planes):
            places = _walk(run, settings)
            rows += [{"cycle": cycle} | row for row in _see_places(run, places)]
            if cycle == DRAWN_CYCLE:
                grid = _see_grid(run, places, settings.side)
                rows += [{"cycle": cycle} | row for row in grid]
    except Diverged:
        pass
    return pd.DataFrame(rows)


def _walk(run: _networks.Run, settings: Settings) -> dict:
    """Place -> weights of a cycle, (parameters,) each; the run ends after it.

    What goes on without a pull does so on a copy, on the mini-batches of the next cycle.
    """
    k, slow = settings.k, training.flat_weights(run.model)
    other = copy.copy(run)
    # Together, for the optimizer holds the model's own parameters.
    other.model, other.optimizer = copy.deepcopy((run.model, run.optimizer.inner))
    path = [slow]
    for _ in range(2 * k):
        other.advance(other.step + 1)
        path.append(training.flat_weights(other.model))
    run.advance(run.step + k)
    places = {"slow": slow, "first": path[1], "middle": path[(k + 1) // 2], "last": path[k]}
    places |= {"pull": training.flat_weights(run.model), "sgd continued": path[2 * k]}
    places["mean of fast"] = sum(path[1 : k + 1]) / k
    ahead = copy.copy(run)
    ahead.model, ahead.optimizer = copy.deepcopy((run.model, run.optimizer))
    ahead.advance(ahead.step + k)
    return places | {"lookahead continued": training.flat_weights(ahead.model)}


def axes_of(places: dict) -> tuple:
    """(origin, x, y): orthogonal directions of the plane through the fast weights, of equal length.

    Each is a vector (parameters,) in float64; x is last - first, y what middle - first has beside
    it, 0 where the three lie on a line.
    """
    origin, middle, last = (places[name].double() for name in FAST)
    x = last - origin
    beside = (middle - origin) - ((middle - origin) @ x) / (x @ x) * x
    length = beside.norm()
    return origin, x, beside * (x.norm() / length) if length > 0 else beside


def project(places: dict) -> dict[str, tuple[float, float]]:
    """Place -> its coordinates in the plane, that nearest to it there."""
    origin, *directions = axes_of(places)
    return {
        name: tuple(
            float((weights.double() - origin) @ axis / (axis @ axis).clamp(min=1e-30))
            for axis in directions
        )
        for name, weights in places.items()
    }


def _see_places(run: _networks.Run, places: dict) -> Iterator[dict]:
    at = project(places)
    for name, weights in places.items():
        raw = run.raw_evaluator(COLUMNS_OF_PLACES)(weights)
        anew = run.evaluator()(weights)
        about = {"place": name, "x": at[name][0], "y": at[name][1]}
        yield about | {"norm": "running"} | raw
        yield about | {"norm": "re-estimated"} | {c: anew[c] for c in COLUMNS_OF_PLACES}


def _see_grid(run: _networks.Run, places: dict, side: int) -> Iterator[dict]:
    """The places of a square grid that holds all projections, BatchNorm re-estimated."""
    origin, x, y = axes_of(places)
    at = np.array(list(project(places).values()))
    margin = ROOM * np.ptp(at, axis=0).max()
    evaluate = run.evaluator()
    for u in np.linspace(at[:, 0].min() - margin, at[:, 0].max() + margin, side):
        for v in np.linspace(at[:, 1].min() - margin, at[:, 1].max() + margin, side):
            columns = evaluate((origin + u * x + v * y).float())
            about = {"place": "", "x": float(u), "y": float(v), "norm": "re-estimated"}
            yield about | {c: columns[c] for c in COLUMNS_OF_PLACES}
