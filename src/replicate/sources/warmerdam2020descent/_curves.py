"""Figures 9 to 13: every method from one start on the same rows, against gradients, forwards and
modelled seconds.

    log loss = log10(L / L at start), clipped to [FLOOR, CEILING]
    mean log loss = its mean over POINTS equal shares of a budget: lower is faster
    modelled seconds = counts of gradients, checks and updates times the price of each, `_arms`

A run that diverges counts as CEILING from there on. At a point counts the newest outer step that is
paid for. Each seed has its own prices, timed on its own rows, and its own tuning: an arm's rate is
chosen on seed TUNING + s, which is used for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs, training
from replicate.sources.warmerdam2020descent import _arms, _tasks
from replicate.sources.warmerdam2020descent.settings import TUNING, Settings

POINTS = 21  # of a budget
FLOOR = -10.0  # of the log loss
CEILING = 2.0
TARGETS = (-2, -4, -9)  # log losses to which costs are measured; the last is the bullseye's
STILL = -6.0  # rises of the log loss are counted above this
SECONDS = "modelled seconds"
AXES = ("gradients", "forward-equivalents", SECONDS)
STARTS = ("source", "orthogonal")  # the second without a plateau
NEIGHBOURS = ("tuned", "tuned lower", "tuned higher")  # the chosen rate, and one step of the grid
RATE_KINDS = ("source", *NEIGHBOURS, "enlarged")
LONGEST = [
    name for name, arm in _arms.ARMS.items() if arm.method == "Stepping" and arm.options[0] == 50
]
WITHOUT_PLATEAU = ("SGD", "ADAM", *LONGEST)  # arms that also run from orthogonal weights
ENLARGED = 10.0  # times the source's rate: SGD as the plainest step enlarger


@dataclass(frozen=True)
class Tuned:
    """The rate of a grid with the least mean log loss, of equally good ones the middle one; its
    neighbours; and whether it lies at an end of the grid, where the neighbour beyond is as far away
    as the one before.
    """

    best: float
    lower: float
    higher: float
    at_edge: bool

    def kinds(self) -> dict[str, float]:
        """The three rates by NEIGHBOURS."""
        return dict(zip(NEIGHBOURS, (self.best, self.lower, self.higher), strict=True))


def run_curves(settings: Settings) -> pd.DataFrame:
    """Log losses at equal shares of a budget, one row per (seed, arm, rate, start, axis, share).

    Columns: seed, arm, rate (one of RATE_KINDS), start (one of STARTS), lr, at_edge (1 where that
    is a tuned rate at an end of the grid), axis (one of AXES), budget, share (of the axis's
    budget), loss (the log loss), rises (sum of the rises of that), price and price again (modelled
    seconds of the whole run by two price lists that were timed in turn), and `to -2`, ... (cost to
    a target, in the axis's unit; NaN where it is not reached).
    """
    clocks = _price_lists(settings)
    grid = [{"seed": s} for s in settings.seeds]
    traces = runs.each(run_arms, settings, grid, after=run_tuning(settings, settings.tuned)).table
    keys = ["seed", "arm", "rate", "start", "lr", "at_edge"]
    rows = []
    for key, steps in traces.groupby(keys, sort=False):
        run = _arms.Trace(
            *(steps[name].to_numpy() for name in ("loss", "gradients", "checks", "updates"))
        )
        of_run = dict(zip(keys, key, strict=True))
        rows += [of_run | row for row in _rows_of(run, key[1], settings, clocks[key[0]])]
    return pd.DataFrame(rows)


def _price_lists(settings: Settings) -> dict[int, dict[str, float]]:
    """Seed -> seconds by the names of `full_batch.clock`."""
    timed = runs.each(time_parts, settings, [{"block": s} for s in settings.seeds]).table
    return timed.pivot(index="block", columns="part", values="seconds").to_dict("index")


def run_tuning(settings: Settings, arms: tuple[str, ...]) -> runs.Runs:
    """The tuning runs, for every seed, of those arms that have a rate."""
    rated = [name for name in arms if _arms.ARMS[name].rated]
    grid = [{"method": name, "seed": s} for s in settings.seeds for name in rated]
    return runs.each(tune, settings, grid)


def time_parts(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Parts of a training step in torch at full rows: columns part, seconds (median of repeats)."""
    x, y, model = _tasks.make_torch_task(settings, point["block"])
    x, y = training.full_batch.tensors(x, y, device)
    clock = training.full_batch.clock(model.to(device), x, y, settings.repeats)
    medians = {name: float(np.median(seconds)) for name, seconds in clock.items()}
    return pd.DataFrame([{"part": name, "seconds": seconds} for name, seconds in medians.items()])


def run_arms(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every arm on one seed: columns arm, rate, start, lr, at_edge, loss, and gradients, checks,
    updates before it.
    """
    seed = point["seed"]
    chosen = choose_rates(runs.tables_in(parents))
    task = _tasks.make_task(settings, seed)
    traces = [_run_arm(arm, "source", settings.lr, task, settings) for arm in settings.arms]
    for arm in settings.tuned:
        if arm not in chosen:  # it has no rate
            traces.append(_run_arm(arm, "tuned", settings.lr, task, settings))
            continue
        edge = int(chosen[arm].at_edge)
        traces += [
            _run_arm(arm, rate, lr, task, settings).assign(at_edge=edge)
            for rate, lr in chosen[arm].kinds().items()
            if settings.neighbours or rate == "tuned"
        ]
    if settings.activation == "linear":
        traces.append(_run_arm("SGD", "enlarged", ENLARGED * settings.lr, task, settings))
        flat = _arms.Task(task.loss, task.data, _tasks.orthogonal_start(settings, seed))
        without = [arm for arm in settings.arms if arm in WITHOUT_PLATEAU]
        traces += [
            _run_arm(arm, "source", settings.lr, flat, settings, "orthogonal") for arm in without
        ]
    return pd.concat(traces, ignore_index=True)


def tune(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """An arm on a seed's tuning seed at each rate of the grid: columns arm, lr, height (its mean
    log loss).
    """
    arm = point["method"]
    rows = min(settings.rows, settings.tuning_rows)
    task = _tasks.make_task(settings, TUNING + point["seed"], rows)
    heights = [run_to_mean_log_loss(arm, task, lr, settings) for lr in settings.grid]
    return pd.DataFrame({"arm": arm, "lr": settings.grid, "height": heights})


def choose_rates(tables: list[pd.DataFrame]) -> dict[str, Tuned]:
    """What was chosen for each arm, by the tuning runs of one seed."""
    if not tables:
        return {}
    heights = pd.concat(tables).pivot_table(index="arm", columns="lr", values="height")
    grid = heights.columns.to_numpy()
    return {arm: _choose(grid, row.to_numpy()) for arm, row in heights.iterrows()}


def _choose(grid: np.ndarray, heights: np.ndarray) -> Tuned:
    """grid: ascending."""
    least = np.flatnonzero(heights == heights.min())
    best = int(least[(len(least) - 1) // 2])
    beyond = np.concatenate([[grid[0] ** 2 / grid[1]], grid, [grid[-1] ** 2 / grid[-2]]])
    at_edge = best in (0, len(grid) - 1)
    return Tuned(*map(float, beyond[[best + 1, best, best + 2]]), at_edge)


def run_to_mean_log_loss(arm: str, task: _arms.Task, lr: float, settings: Settings) -> float:
    """The mean log loss of a run over the budget in forward-equivalents."""
    run = _arms.trace(arm, settings.maps, task, lr, settings.steps)
    budget = _arms.PASSES * settings.steps
    return float(
        mean_log_loss(sample(log_loss(run.losses), _arms.forward_equivalents(run), budget))
    )


def log_loss(losses: np.ndarray) -> np.ndarray:
    """log10 of losses over the first, in [FLOOR, CEILING]; CEILING from the first that is not
    finite on.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.log10(np.maximum(losses / losses[0], 0.0))
    bad = ~np.isfinite(losses)
    logs[np.cumsum(bad) > 0] = CEILING
    return np.clip(logs, FLOOR, CEILING)


def sample(logs: np.ndarray, cost: np.ndarray, budget: float) -> np.ndarray:
    """The newest log loss that is paid for at POINTS equal shares of the budget, 0 and 1 included."""
    return logs[
        np.searchsorted(cost, np.linspace(0, budget, POINTS) * (1 + 1e-12), side="right") - 1
    ]


def mean_log_loss(samples: np.ndarray) -> np.ndarray:
    """Mean over the budget of log losses at its POINTS shares, (..., POINTS): tuning and claims go
    by it.
    """
    return np.asarray(samples).mean(axis=-1)


def _run_arm(
    arm: str, rate: str, lr: float, task: _arms.Task, settings: Settings, start: str = "source"
) -> pd.DataFrame:
    run = _arms.trace(arm, settings.maps, task, lr, settings.steps, settings.walk_gradients)
    counts = {"gradients": run.gradients, "checks": run.checks, "updates": run.updates}
    return pd.DataFrame({"loss": run.losses, **counts}).assign(
        arm=arm, rate=rate, start=start, lr=lr, at_edge=0
    )


def _rows_of(run: _arms.Trace, arm: str, settings: Settings, clock: dict) -> Iterator[dict]:
    """The rows of one run on each axis."""
    logs = log_loss(run.losses)
    step = clock["forward"] + clock["backward"] + clock["adam"]
    again = {part: clock[part + training.full_batch.AGAIN] for part in training.full_batch.PARTS}
    modelled = _arms.seconds(arm, run, clock)
    axes = {
        "gradients": (run.gradients, settings.walk_gradients),
        "forward-equivalents": (_arms.forward_equivalents(run), _arms.PASSES * settings.steps),
        SECONDS: (modelled, step * settings.steps),
    }
    prices = {"price": modelled[-1], "price again": _arms.seconds(arm, run, again)[-1]}
    for axis, (cost, budget) in axes.items():
        row = {"axis": axis, "budget": float(budget), "rises": _rises(logs[cost <= budget])}
        row |= prices
        row |= {f"to {target}": _cost_to(target, logs, cost, budget) for target in TARGETS}
        for share, loss in zip(np.linspace(0, 1, POINTS), sample(logs, cost, budget), strict=True):
            yield {**row, "share": round(share, 2), "loss": loss}


def _rises(logs: np.ndarray) -> float:
    """Sum of the rises between outer steps, until the log loss is first at STILL."""
    below = np.flatnonzero(logs <= STILL)
    return float(np.maximum(np.diff(logs[: below[0] + 1] if len(below) else logs), 0).sum())


def _cost_to(target: float, logs: np.ndarray, cost: np.ndarray, budget: float) -> float:
    reached = np.flatnonzero((logs <= target) & (cost <= budget))
    return float(cost[reached[0]]) if len(reached) else np.nan
