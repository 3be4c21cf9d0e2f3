"""The published post's figures: Adam on three functions of two numbers, its raw gradients extrapolated, and controls.

    d = |x - x*|^2        x* the global minimum; the post's figures call it loss

Arms: "adam"; after each of its steps "GD+", the published class, or "gradient", a plain gradient step of size dt, or
"weights", the corrected class, which extrapolates what Adam moved; "rate", Adam at its rate plus dt.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import runs
from replicate.problems import minimise
from replicate.optim import SGD, Adam, TaylorExtrapolation
from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.streams import rng

GRID = 10  # rates of the source's search, from a hundredth of its upper edge (the lower one is unsaid)
WIDEST = 3.0  # where the wider grid ends
SETS, BOX = 10, (-2.0, 2.0)  # sets of starts, and the box they are drawn from: where the function is usually shown
NEAR = 0.05  # distance at which a run has reached a minimum
KEPT = 10  # every how many steps of a path are kept after the first 200
REPOSITORY = (40, 1e-5)  # steps and dt of its default run
FROM = 3  # the published class extrapolates from its fourth call on, and so does the control beside it


def optimizers(arm: str, lanes: Sequence[tuple[float, float]]) -> tuple[Callable, list[int]]:
    """What moves one parameter a lane (rate, dt), and the step from which each of it does, for `minimise`."""

    def made(theta):
        rates = [rate + dt * (arm == "rate") for rate, dt in lanes]
        groups = [{"params": [p], "lr": rate} for p, rate in zip(theta, rates, strict=True)]
        if arm in ("adam", "rate"):
            return [Adam(groups, fused=True)]
        if arm == "gradient":
            plain = [{"params": [p], "lr": dt} for p, (_, dt) in zip(theta, lanes, strict=True)]
            return [Adam(groups, fused=True), SGD(plain, lr=1.0, fused=True)]
        # The post puts its class beside Adam; around it, it sees the same gradients and rates.
        variant = "published" if arm == "GD+" else "corrected"
        dts = [dt for _, dt in lanes]
        return [
            TaylorExtrapolation(Adam([g], fused=True), dt, variant=variant) for g, dt in zip(groups, dts, strict=True)
        ]

    count = {"adam": 1, "rate": 1, "gradient": 2}.get(arm, len(lanes))
    return made, [0, FROM] if arm == "gradient" else [0] * count


def paths(settings: Settings) -> pd.DataFrame:
    """The figures: columns arm, dt, step, x, y, distance (squared), value (of the function).

    Every step of the first 200, then every tenth. dt: that of the table, the strides, and that of the repository's run.
    """
    return runs.each(path_run, settings, [{"arm": arm} for arm in settings.arms]).table


def path_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """All paths of one arm from the figure's start, side by side."""
    problem, arm = PROBLEMS[settings.dataset], point["arm"]
    dts = [0.0] if arm == "adam" else sorted({settings.dt, *settings.strides, REPOSITORY[1]})
    path = _run(settings, arm, [(settings.lr, dt) for dt in dts], np.tile(settings.start, (len(dts), 1)))
    kept = [t for t in range(settings.steps + 1) if t <= 200 or t % KEPT == 0]
    parts = []
    for lane, dt in enumerate(dts):
        own = path[kept, lane]
        table = {"dt": dt, "step": kept, "x": own[:, 0], "y": own[:, 1], "distance": _squared(own, problem)}
        with np.errstate(over="ignore", invalid="ignore"):  # a path that diverges is drawn as far as it goes
            parts.append(pd.DataFrame(table | {"value": problem.f(own)}))
    return pd.concat(parts, ignore_index=True)


def rate_search(settings: Settings) -> pd.DataFrame:
    """Where every arm ends at every rate of the source's grid and of its continuation to 3.

    Columns: arm, dt, lr, source (whether the rate lies on the source's grid), distance (squared; inf where it
    diverged).
    """
    others = [{"arm": arm, "dt": dt} for arm in ("GD+", "gradient") for dt in settings.searched_strides]
    grid = [{"arm": "adam", "dt": 0.0}, *others]
    return runs.each(search_run, settings, grid).table


def search_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """All rates of one arm side by side."""
    problem, rates = PROBLEMS[settings.dataset], _rates(settings.lr)
    lanes = [(float(rate), point["dt"]) for rate in rates]
    end = _run(settings, point["arm"], lanes, np.tile(settings.start, (len(rates), 1)), settings.steps)[-1]
    distance = np.nan_to_num(_squared(end, problem), nan=np.inf)
    return pd.DataFrame({"lr": rates, "source": np.arange(len(rates)) < GRID, "distance": distance})


def basins(settings: Settings) -> pd.DataFrame:
    """Share of uniform starts that end at the global minimum and at another one: columns seed, branch, arm, dt, share,
    elsewhere (at a known local minimum), lost (not finite).

    Empty where the settings ask for no starts.
    """
    if not settings.basin_starts:
        return pd.DataFrame()
    grid = [{"arm": "adam", "dt": 0.0}, *({"arm": arm, "dt": settings.dt} for arm in ("GD+", "gradient"))]
    return runs.each(basin_run, settings, grid).table


def basin_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """All sets of starts of one arm side by side."""
    problem = PROBLEMS[settings.dataset]
    starts = np.stack([rng(seed, "init", 0).uniform(*BOX, (settings.basin_starts, 2)) for seed in range(SETS)])
    ends = _run(settings, point["arm"], [(settings.lr, point["dt"])], starts[None], settings.steps)[-1, 0]
    rows = []
    for seed, end in enumerate(ends):
        near = [np.linalg.norm(end - np.array(one), axis=-1) < NEAR for one in problem.minima]
        lost = ~np.isfinite(end).all(-1)
        elsewhere = np.any(near[1:], axis=0).mean() if near[1:] else 0.0
        rows.append((seed, 0, near[0].mean(), elsewhere, lost.mean()))
    return pd.DataFrame(rows, columns=["seed", "branch", "share", "elsewhere", "lost"])


def landscapes(table: pd.DataFrame, points: int = 90) -> pd.DataFrame:
    """The functions that the paths of `table` move on, around them: columns dataset, x, y, value."""
    parts = []
    for dataset, part in table.groupby("dataset", sort=False):
        problem = PROBLEMS[dataset]
        places = np.vstack([part[part.arm == "adam"][["x", "y"]].to_numpy(), [problem.minimum]])
        room = 0.2 * np.ptp(places, axis=0) + 0.2
        sides = [np.linspace(*one, points) for one in zip(places.min(0) - room, places.max(0) + room, strict=True)]
        x, y = (one.ravel() for one in np.meshgrid(*sides))
        parts.append(pd.DataFrame({"dataset": dataset, "x": x, "y": y, "value": problem.f(np.stack([x, y], axis=-1))}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _run(settings: Settings, arm: str, lanes: list, starts: np.ndarray, every: int = 1) -> np.ndarray:
    made, begins = optimizers(arm, lanes)
    with np.errstate(over="ignore", invalid="ignore"):
        return minimise(PROBLEMS[settings.dataset].f, starts, made, settings.steps, every, begins=begins)


def _rates(edge: float) -> np.ndarray:
    """The source's grid, ten rates up to `edge`, and its continuation in the same ratio to 3."""
    own = np.geomspace(edge / 100, edge, GRID)
    ratio = own[1] / own[0]
    beyond = edge * ratio ** np.arange(1, 1 + int(np.ceil(np.log(WIDEST / edge) / np.log(ratio))))
    return np.concatenate([own, beyond])


def _squared(path: np.ndarray, problem) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return ((path - np.array(problem.minimum)) ** 2).sum(-1)
