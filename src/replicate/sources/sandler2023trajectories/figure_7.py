"""Figure 7: gradients of batches that stay the same, along a run at a constant rate and along one
whose rate falls linearly.

    cos(g_b(theta_t), g_b(theta_0)),   |g_b(theta_t)| / |g_b(theta_0)|,   L_b(theta_t)

b: FIXED_BATCHES mini-batches that nobody trains on, each with its noise and augmentation as drawn once.
It is what Lemma 2 takes for constant. BatchNorm normalises each batch by itself, as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN, OTHER
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

FIXED_BATCHES = 20  # ours; the paper shows one
FIXED, FRESH, REDRAWN = (DRAWS + i for i in (2, 3, 4))  # streams on which nobody trains
TRIPS_OF_TWO_RATES = ("constant", "decaying", "other constant", "other decaying")
ARMS = (*TRIPS_OF_TWO_RATES, "fresh batches", "same images")
LOWEST = 0.05  # share of batches below the cosine that is judged
HIGHEST = 0.8  # share of batches below the change of norm that is judged


def looks(settings: Settings) -> list[int]:
    """The steps of the trips at which gradients are taken, the start included."""
    return [0, *_trips.looks(settings, max(_trips.TRIP_LOOKS))]


def list_controlled(settings: Settings) -> list[int]:
    """The steps at which gradients are taken on trips with other mini-batches: the windows that
    have such controls in Figure 5.
    """
    return [k for k in looks(settings) if k in settings.controls]


def operations(settings: Settings) -> float:
    """Multiplications and additions of the trips and of all gradients."""
    stops, others = looks(settings), list_controlled(settings)
    gradients = FIXED_BATCHES * (2 * len(stops) + 2 * len(others) + len(stops) + 1)
    steps = 2 * max(stops) + 2 * max(others, default=0) + gradients
    return _trips.count_seeds(settings) * _branches.count_training(settings, steps)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged: of each seed, arm and look the mean over batches, the cosine that
    LOWEST of the batches fall below, and the change of norm that HIGHEST of them do not exceed.
    """
    change = (table.norm - 1).abs()
    table = table.assign(low_cosine=table.cosine, norm_change=change)
    kinds = dict.fromkeys(("cosine", "parallel", "between", "loss", "norm"), "mean")
    kinds |= {"low_cosine": _low, "norm_change": _high}
    cells = [name for name in table if name not in (*kinds, "batch")]
    return table.groupby(cells, as_index=False, sort=False, dropna=False).agg(kinds)


def _low(values: pd.Series) -> float:
    return values.quantile(LOWEST)


def _high(values: pd.Series) -> float:
    return values.quantile(HIGHEST)


@experiment(
    fields={"arm": ARMS, "k": looks},
    metrics=("cosine", "low_cosine", "parallel", "between", "norm", "norm_change", "loss"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(49, "Figure 7: the premise of Lemma 2, ResNet-8")},
)
def figure_7(settings: Settings) -> pd.DataFrame:
    """Gradients and losses of fixed batches along trips from the last branch point (Fig. 7).

    Columns: seed, arm, k (steps), batch, cosine (of its gradient with the one at the start), norm
    (over the one at the start), loss (nats), parallel (cosine with its gradient at the parallel
    point of the constant trip), between (cosine of the fixed batch's gradient with that of another
    batch at the same point of the constant trip). Arms: constant and decaying on the main run's
    mini-batches, the same two on others; fresh batches: another batch at each look; same images:
    the fixed batch with its noise and augmentation drawn anew. NaN where a column says nothing of an
    arm.
    """
    return _trips.run_each(follow_gradients, settings, after=_trips.run_main(settings)).table


def follow_gradients(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every trip of one seed."""
    main, start, _ = _trips.load_last_branch(settings, point["seed"], parents, device)
    model = kit.network(settings, 0, main.images, device)
    fixed = [main.data.batch(main.seed, FIXED, number) for number in range(FIXED_BATCHES)]
    surfaces = [training.Surface(model, [batch]) for batch in fixed]
    constant: dict[int, np.ndarray] = {}
    tables = []
    for arm, rate, stream, stops in _plan(main, start):
        for k, weights in _trips.walk(main, start, rate, stream, stops):
            gradients = _take_gradients(surfaces, weights)
            if arm == "constant":
                constant[k] = gradients
                tables += list(_compare_batches(main, model, weights, k, constant))
            columns = {
                "cosine": _cosines(gradients, constant[0]),
                "parallel": _cosines(gradients, constant[k]),
                "norm": _lengths(gradients) / _lengths(constant[0]),
                "loss": [surface.loss(weights) for surface in surfaces],
            }
            tables.append(
                pd.DataFrame({"arm": arm, "k": k, "batch": range(FIXED_BATCHES), **columns})
            )
    return pd.concat(tables, ignore_index=True)


def _plan(main: _branches.Main, start) -> Iterator[tuple[str, Callable, int, list[int]]]:
    """(arm, schedule, stream, looks) of each trip, the constant one first."""
    settings, stops = main.settings, looks(main.settings)
    others, kernel = list_controlled(settings), averaging.swa(max(stops))
    decaying = averaging.equivalent_schedule(main.rate, kernel, start.step)
    yield "constant", main.rate, MAIN, stops
    yield "decaying", decaying, MAIN, stops
    yield "other constant", main.rate, OTHER, others
    yield "other decaying", decaying, OTHER, others


def _compare_batches(
    main: _branches.Main, model, weights, k: int, fixed: dict[int, np.ndarray]
) -> Iterator[pd.DataFrame]:
    """Gradients of fresh batches, and at the last look of the same images anew, beside those of the
    fixed ones.
    """
    pairs = {"fresh batches": [main.data.batch(main.seed, FRESH, k * FIXED_BATCHES + number) for number in range(FIXED_BATCHES)]}  # fmt: skip
    if k == max(looks(main.settings)):
        pairs["same images"] = [_draw_again(main, number) for number in range(FIXED_BATCHES)]
    for arm, batches in pairs.items():
        surfaces = [training.Surface(model, [batch]) for batch in batches]
        gradients = _take_gradients(surfaces, weights)
        columns = {
            "between": _cosines(fixed[k], gradients),
            "norm": _lengths(gradients) / _lengths(fixed[0]),
            "loss": [surface.loss(weights) for surface in surfaces],
        }
        yield pd.DataFrame({"arm": arm, "k": k, "batch": range(FIXED_BATCHES), **columns})


def _draw_again(main: _branches.Main, number: int) -> tuple:
    """The images of a fixed batch with noise and augmentation of another stream."""
    epoch, index = divmod(number, main.data.per_epoch)
    rows = slice(index * main.data.size, (index + 1) * main.data.size)
    order = main.data.tables(main.seed, FIXED, epoch)["order"]
    tables = main.data.tables(main.seed, REDRAWN, epoch) | {"order": order}
    return main.data.gather({name: table[rows] for name, table in tables.items()})


def _take_gradients(surfaces: list[training.Surface], weights) -> np.ndarray:
    """The gradient of each batch, (batches, parameters) float32: those of every look stay."""
    return np.stack([surface.gradient(weights).float().cpu().numpy() for surface in surfaces])


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row."""
    products = np.array([x.astype(float) @ y.astype(float) for x, y in zip(a, b, strict=True)])
    return products / (_lengths(a) * _lengths(b))


def _lengths(a: np.ndarray) -> np.ndarray:
    """Of the rows, summed in float64."""
    return np.array([np.linalg.norm(row.astype(float)) for row in a])
