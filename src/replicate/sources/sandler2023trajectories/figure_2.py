"""Figures 2, 12 and 13: loss by the size of one step along a mini-batch's gradient.

    y(e) = L(theta - e grad L_b(theta))        L_b the batch that gave the gradient, or a held-out one

One plain step, without momentum or weight decay, from weights of the main run at several stages,
for batches of many sizes. Beside the paper: what gradient noise and Hessian products, measured on
yet other mini-batches, predict of the same (`curvature.SingleStep`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import curvature, runs, training
from replicate.progress import pieces, progress
from replicate.sources import images as kit
from replicate.sources.images import DRAWS
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _fixed_batches, _step_curves
from replicate.sources.sandler2023trajectories._batch_settings import BatchSettings
from replicate.sources.sandler2023trajectories._fixed_batches import NORMALISED, Bench
from replicate.sources.sandler2023trajectories._single_steps import ARMS, METRICS, summarise

NOISE = DRAWS + 1  # stream of the mini-batches that give noise and curvature; nobody trains on it
PARABOLA = 2  # degree; "can be accurately modeled by a quadratic function" (abstract)
LOW_DEGREE = 4  # ours, for "a low-degree polynomial" (section 3)
OF_CURVES = ("step", "loss", "held", "spread", "lowest", "highest")
WORK_OF_PRODUCT = 8  # gradients' work in a Hessian product, about
SEARCH_LOOKS = 6  # losses that the search for the best step takes, about


def operations(settings: BatchSettings) -> float:
    """Multiplications and additions of stages, curves, noise and Hessian products."""
    image, training_step = kit.operations_per_image(settings, settings.dataset)
    points = 1 + settings.small_steps + settings.even_steps + len(_step_curves.FAR)
    looks = 0.0
    for size in settings.batch_sizes:
        draws = settings.count_draws(size)
        share = min(settings.estimated, draws) / draws if size == settings.batch else 0
        look = _fixed_batches.count_looks(settings, size, share)
        forward = size * (SEARCH_LOOKS * image + training_step)
        looks += draws * (points * look + forward)
    noise = settings.step_gradients
    noise += WORK_OF_PRODUCT * (settings.products + 1) * settings.curvature_batches
    noise *= settings.batch * training_step
    stages = len(settings.stages) - 1
    per_seed = _fixed_batches.count_stages(settings) + stages * (looks + noise)
    return len(settings.seeds) * per_seed


@experiment(
    fields={
        "arm": ARMS,
        "stage": lambda settings: {*settings.stages, "too early"},
        "bs": lambda settings: settings.batch_sizes,
        "norm": NORMALISED,
        "above_cooled": float,
    },
    metrics=METRICS,
    datasets=("digits-batches", "cifar10-batches", "imagenet-batches"),
    needs_data=True,
    operations=operations,
    derive=summarise,
    evidence={"cifar10-batches": Evidence(79, "Figures 2, 12 and 13, ResNet-18")},
    night={"cifar10-batches": Evidence(83, "Figures 2, 12 and 13, ResNet-8")},
)
def figure_2(settings: BatchSettings) -> pd.DataFrame:
    """One step from every stage along gradients of batches of every size.

    Columns: seed, stage, what, and of what = "draw" (a batch): norm, bs, draw, minimiser (its own
    best step size), cooled (held-out loss of the cooled-down run), rise (of held-out loss at
    the best step), and of the batch's curve, then after "held_" of the held-out one: start, least, critical (the largest step that does not raise it), fit (R2 of a
    polynomial up to twice the minimiser), convex (share of second differences there). Of what =
    "curve" (the first draw's): step (over the minimiser), loss, held, and over held-out batches
    spread, lowest, highest. Of what = "noise": the moments of `curvature.SingleStep`.
    """
    stages = _fixed_batches.run_stages(settings)
    names = settings.stages[:-1]
    grid = [{"seed": seed, "stage": stage} for seed in settings.seeds for stage in names]
    return runs.each(measure_stage, settings, grid, after=stages).table


def measure_stage(
    settings: BatchSettings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed at one stage: the noise there, then every draw of every size."""
    bench = Bench.load(settings, point["seed"], parents[0], device)
    weights = bench.stages[point["stage"]]
    plan = [partial(_measure_noise, bench, weights)]
    for size in settings.batch_sizes:
        draws = range(settings.count_draws(size))
        plan += [partial(_walk, bench, weights, size, draw) for draw in draws]
    rows = runs.kept_rows(folder)
    done = len({(row["what"], row["bs"], row["draw"]) for row in rows if row["what"] != "curve"})
    label = f"steps from {point['stage']}"
    for piece in pieces(progress(plan[done:], label), lambda: runs.keep_rows(folder, rows)):
        rows += piece()
    return pd.DataFrame(rows)


def _measure_noise(bench: Bench, weights) -> list[dict]:
    """The moments of gradient and curvature, on mini-batches that no step sees."""
    settings, main = bench.settings, bench.main
    total = weights.new_zeros(len(weights)).double()

    def gradients():
        for step in range(settings.step_gradients):
            gradient = bench.surface(main.data.batch(main.seed, NOISE, step)).gradient(weights)
            total.add_(gradient)
            yield gradient

    noise = curvature.measure_noise(gradients(), weights.new_zeros((0, len(weights))))
    first = settings.step_gradients
    curved = [
        main.data.batch(main.seed, NOISE, first + j) for j in range(settings.curvature_batches)
    ]
    surface = training.Surface(bench.network, curved)
    directions = [(total / noise.count).float()]
    for j in range(settings.products):
        step = first + settings.curvature_batches + j
        directions.append(bench.surface(main.data.batch(main.seed, NOISE, step)).gradient(weights))
    along = [float(g.double() @ surface.product(weights, g).double()) for g in directions]
    moments = curvature.SingleStep.of(noise, settings.batch, along[0], float(np.mean(along[1:])))
    return [{"what": "noise", "bs": np.nan, "draw": np.nan, **vars(moments)}]


def _walk(bench: Bench, weights, size: int, draw: int) -> list[dict]:
    """Steps along one batch's gradient: a row of what they tell for each way that BatchNorm
    normalises, and of the first draw the curve itself.
    """
    settings = bench.settings
    batch = bench.images.batch(size, draw)
    gradient, minimiser = bench.find_step(bench.surface(batch), weights)
    steps = _step_curves.place_steps(minimiser, settings.even_steps, settings.small_steps)
    rows = []
    for norm in bench.norms(draw) if size == settings.batch else NORMALISED[:1]:
        losses = bench.losses(norm, batch)
        cell = {"norm": norm, "bs": size, "draw": draw}
        looks = [losses(weights - e * gradient) for e in steps]
        loss = np.array([first for first, _ in looks])
        held = np.array([rest for _, rest in looks])
        cooled = losses(bench.stages["cooled"])[1].mean()
        told = _describe(settings, steps, loss, held.mean(1))
        rows.append(cell | {"what": "draw", "minimiser": minimiser, "cooled": cooled, **told})
        if draw == 0:
            rows += _draw_curve(cell, steps / minimiser, loss, held)
    return rows


def _describe(
    settings: BatchSettings, steps: np.ndarray, loss: np.ndarray, held: np.ndarray
) -> dict:
    """What both curves tell, (steps,) each; names of the held-out one begin with "held_"."""
    even = _step_curves.place_even(settings.even_steps, settings.small_steps)
    best, _ = _step_curves.find_lowest(steps, loss)
    numbers = {"rise": float(np.interp(best, steps, held)) - held[0]}
    curves = (("", loss, PARABOLA), ("held_", held, LOW_DEGREE))
    for name, y, degree in curves:
        numbers |= {
            f"{name}start": y[0],
            f"{name}least": _step_curves.find_lowest(steps, y)[1],
            f"{name}critical": _step_curves.find_critical(steps, y),
            f"{name}fit": _step_curves.fit_polynomial(steps[even], y[even], degree),
            f"{name}convex": _step_curves.count_convex(y[even]),
        }
    return numbers


def _draw_curve(cell: dict, steps: np.ndarray, loss: np.ndarray, held: np.ndarray) -> list[dict]:
    """A row a step size: both losses, and over held-out batches deviation and range."""
    columns = zip(steps, loss, held.mean(1), held.std(1), held.min(1), held.max(1), strict=True)
    return [cell | {"what": "curve"} | dict(zip(OF_CURVES, row, strict=True)) for row in columns]
