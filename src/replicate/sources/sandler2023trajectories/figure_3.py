"""Figure 3: descents on one fixed mini-batch from two points of the main run, and what lies between.

    theta_{t+1} = theta_t - e grad L_b(theta_t)        t = 0 .. 8, from "late" and from "later"
    barrier = max_a [L((1 - a) p + a q) - (1 - a) L(p) - a L(q)]        p, q both ends after t steps

The same batch b and step size e everywhere; e is the batch's best first step from "late" (the paper
does not say which it takes). L: the batch's loss, or that of held-out batches.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import models, runs, training
from replicate.progress import pieces, progress
from replicate.sources import images as kit
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _fixed_batches
from replicate.sources.sandler2023trajectories._basins import ARMS, METRICS, summarise
from replicate.sources.sandler2023trajectories._batch_settings import BatchSettings
from replicate.sources.sandler2023trajectories._fixed_batches import NORMALISED, Bench
from replicate.streams import rng

DESCENT_STEPS = 9  # steps of a descent, Fig. 3
LOOKED_AT = (0, 1, 3, 6, 9)  # steps after which the line between both ends is walked; ours
POINTS_OF_LINE = 11  # points of a line; ours, the paper does not say
DESCENT_ENDS = ("late", "later")


def operations(settings: BatchSettings) -> float:
    """Multiplications and additions of descents and lines; stages are those of `figure_2`."""
    _, training_step = kit.operations_per_image(settings, settings.dataset)
    share = min(settings.estimated, settings.trips) / settings.trips
    lines = (len(LOOKED_AT) + 1) * POINTS_OF_LINE
    looks = lines * _fixed_batches.count_looks(settings, settings.batch, share)
    descents = 3 * DESCENT_STEPS * settings.batch * training_step
    return len(settings.seeds) * settings.trips * (looks + descents)


@experiment(
    fields={"arm": ARMS, "norm": NORMALISED},
    metrics=METRICS,
    datasets=("digits-batches", "cifar10-batches", "imagenet-batches"),
    needs_data=True,
    operations=operations,
    derive=summarise,
    unbounded=("loss", "held"),  # where the line leaves what can be computed
    evidence={"cifar10-batches": Evidence(77, "Figure 3, ResNet-18")},
    night={"cifar10-batches": Evidence(81, "Figure 3, ResNet-8")},
)
def figure_3(settings: BatchSettings) -> pd.DataFrame:
    """Lines between the ends of two descents on one batch, after some numbers of steps.

    Columns: seed, trip (which batch), norm, line ("descents": between both ends; "reordered units":
    to the second end with its hidden units in another order, the control; "other batches": the end
    of as many steps on different batches, a point; "start": the untrained net, a point), steps,
    place (a, 0 at the end from "late"), loss, held, and scatter (of held-out batches around their
    mean, each less its mean over the line).
    """
    stages = _fixed_batches.run_stages(settings)
    grid = [{"seed": seed} for seed in settings.seeds]
    return runs.each(descend, settings, grid, after=stages).table


def descend(
    settings: BatchSettings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed: every fixed batch."""
    bench = Bench.load(settings, point["seed"], parents[0], device)
    rows = runs.kept_rows(folder)
    done = len({row["trip"] for row in rows})
    trips = progress(range(done, settings.trips), "descents on fixed batches")
    for trip in pieces(trips, lambda: runs.keep_rows(folder, rows)):
        rows += [row | {"trip": trip} for row in _walk_lines(bench, trip)]
    return pd.DataFrame(rows)


def _walk_lines(bench: Bench, trip: int) -> list[dict]:
    """All lines and points of one batch, for each way that BatchNorm normalises."""
    settings = bench.settings
    batch = bench.images.batch(settings.batch, trip)
    surface = bench.surface(batch)
    _, step = bench.find_step(surface, bench.stages["late"])
    first, second = (
        _descend(bench.stages[end], [surface] * DESCENT_STEPS, step) for end in DESCENT_ENDS
    )
    others = [
        bench.surface(bench.images.batch(settings.batch, settings.trips + DESCENT_STEPS * trip + t))
        for t in range(DESCENT_STEPS)
    ]
    reordered = _reorder(bench, second[DESCENT_STEPS], trip)
    points = {"other batches": _descend(bench.stages["late"], others, step)[DESCENT_STEPS],
              "start": bench.stages["start"]}  # fmt: skip
    rows = []
    for norm in bench.norms(trip):
        walk = partial(_walk_line, bench.losses(norm, batch))
        lines = [walk("descents", t, first[t], second[t]) for t in LOOKED_AT]
        lines.append(walk("reordered units", DESCENT_STEPS, first[DESCENT_STEPS], reordered))
        lines += [
            walk(name, DESCENT_STEPS, point, point, places=1) for name, point in points.items()
        ]
        rows += [row | {"norm": norm} for line in lines for row in line]
    return rows


def _descend(weights, surfaces: list[training.Surface], step: float) -> list:
    """Weights before and after each plain step on the next of the surfaces."""
    path = [weights]
    for surface in surfaces:
        path.append(path[-1] - step * surface.gradient(path[-1]))
    return path


def _reorder(bench: Bench, weights, trip: int):
    """The same function at other weights."""
    model = bench.network
    training.load_flat(model, weights)
    models.reorder_units(model, rng(bench.main.seed, "eval", trip, _fixed_batches.FIXED_STREAM))
    return training.flat_weights(model)


def _walk_line(
    losses, line: str, steps: int, first, second, places: int = POINTS_OF_LINE
) -> list[dict]:
    """A row a place on the line between two weight vectors; a loss that is no number is infinite."""
    along = np.linspace(0, 1, places)
    looks = [losses(first + float(a) * (second - first)) for a in along]
    loss = np.nan_to_num(np.array([value for value, _ in looks]), nan=np.inf)
    held = np.nan_to_num(np.array([rest for _, rest in looks]), nan=np.inf)
    scatter = (held - held.mean(0)).std(1, ddof=1)
    return [
        {"line": line, "steps": steps, "place": a, "loss": y, "held": rest.mean(), "scatter": s}
        for a, y, rest, s in zip(along, loss, held, scatter, strict=True)
    ]
