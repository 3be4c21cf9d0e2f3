"""What the toy functions say about the figures of the published post: (claim, case, value, control) of one function."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.problems import PROBLEMS
from replicate.sources.fabi2021extrapolation.presets import TOYS
from replicate.sources.fabi2021extrapolation.toys import REPOSITORY

# End values read off the post's figures, two digits: of Adam and of GD+.
READ = {"rosenbrock": (1.7e-5, 2.1e-6), "beale": (2.6e-3, 5.7e-6), "goldstein-price": (9e-7, None)}
NUMBER = {"rosenbrock": "EXTRA-22", "beale": "EXTRA-24", "goldstein-price": "EXTRA-25"}
MEANT = 8e-4  # the dt that Beale's figure was made with
EARLY = 100  # steps


def of_paths(part: pd.DataFrame) -> Iterator[tuple]:
    """Figures of one function, from `paths`."""
    (dataset,) = part.dataset.unique()
    dt, number = TOYS[dataset].dt, NUMBER[dataset]
    runs = {key: run.set_index("step") for key, run in part.groupby(["arm", "dt"])}
    adam, plus, control = runs["adam", 0.0], runs["GD+", dt], runs["gradient", dt]
    read_adam, read_plus = READ[dataset]
    yield f"{number}.adam", "", _end(adam) / read_adam, None
    yield "X-14.metric", "", abs(np.log10(adam.value.iloc[-1] / read_adam)), None
    if read_plus is not None:
        yield f"{number}.plus", f"dt={dt:g}", _end(plus) / read_plus, _end(control) / read_plus
        yield f"{number}.lower", f"dt={dt:g}", _end(plus) / _end(adam), _end(control) / _end(adam)
    yield from {"rosenbrock": _wiggles, "beale": _detours, "goldstein-price": _stuck}[dataset](adam, plus, control)
    if dataset == "beale":
        yield "X-15", "", _end(runs["GD+", MEANT]) / read_plus, None
    step, dt = REPOSITORY
    of_default = (1 - runs[arm, dt].distance[step] / adam.distance[step] for arm in ("GD+", "gradient"))
    yield "EXTRA-26", "", *of_default


def of_rates(part: pd.DataFrame) -> Iterator[tuple]:
    """The search of one function, from `rate_search`."""
    (dataset,) = part.dataset.unique()
    adam = part[part.arm == "adam"].set_index("lr")
    own = adam[adam.source].distance
    yield "EXTRA-21", "", adam.distance.idxmin() / TOYS[dataset].lr, None
    yield "X-14.edge", "", own.idxmin() / own.index.max(), None
    if "GD+" in set(part.arm):
        best = part.groupby("arm").distance.min()
        yield "EXTRA-22.tuned", "", *(float(np.log10(best[arm] / best["adam"])) for arm in ("GD+", "gradient"))


def of_basins(part: pd.DataFrame) -> Iterator[tuple]:
    """Where starts end, from `basins`: the seed is a set of starts."""
    wide = part.pivot(index=["seed", "branch"], columns="arm", values="share")
    (dt,) = part[part.arm == "GD+"].dt.unique()
    if set(part.dataset) == {"goldstein-price"}:
        yield (
            "EXTRA-B7",
            f"dt={dt:g}".replace("e-05", "e-5"),
            *((wide[arm] - wide["adam"]).rename("value").reset_index() for arm in ("GD+", "gradient")),
        )


def _wiggles(adam, plus, control) -> Iterator[tuple]:
    maxima = [_maxima(run.distance[:EARLY]) for run in (adam, plus, control)]
    yield "EXTRA-23.maxima", "", float(maxima[1] - maxima[0]), float(maxima[2] - maxima[0])
    variation = [np.abs(np.diff(np.sqrt(run.distance[:EARLY]))).sum() for run in (adam, plus, control)]
    yield "EXTRA-23.variation", "", variation[1] / variation[0], variation[2] / variation[0]


def _detours(adam, plus, control) -> Iterator[tuple]:
    ratios = [_length(run) / np.linalg.norm(_places(run)[-1] - _places(run)[0]) for run in (adam, plus, control)]
    yield "EXTRA-24.path", "", ratios[1] / ratios[0], ratios[2] / ratios[0]


def _stuck(adam, plus, control) -> Iterator[tuple]:
    early = [run.distance[EARLY] for run in (adam, plus, control)]
    yield "EXTRA-25.faster", "", early[1] / early[0], early[2] / early[0]
    local = np.array(PROBLEMS["goldstein-price"].minima[1])
    yield "EXTRA-25.stuck", "", *(float(np.linalg.norm(_places(run)[-1] - local)) for run in (plus, control))


def _end(run: pd.DataFrame) -> float:
    return float(run.distance.iloc[-1])


def _places(run: pd.DataFrame) -> np.ndarray:
    return run[["x", "y"]].to_numpy()


def _length(run: pd.DataFrame) -> float:
    """Length of the path through the places that are kept."""
    return float(np.linalg.norm(np.diff(_places(run), axis=0), axis=1).sum())


def _maxima(values: pd.Series) -> int:
    inner = values.to_numpy()
    return int(((inner[1:-1] > inner[:-2]) & (inner[1:-1] > inner[2:])).sum())
