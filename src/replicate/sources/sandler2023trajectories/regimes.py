"""When an average and its side-trip leave the same: while the start is being forgotten (drag and
drift), and where noise alone decides.

    x = lambda kappa k        window over relaxation time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.problems import responses, stationary_moments, weigh_last
from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

WINDOW, LONG_WINDOW = 2000, 20_000  # k; the long one keeps lambda kappa small at x = 1000
WINDOWS_OVER_RELAXATION = np.logspace(-1, 3, 25)  # x
AVERAGES: dict[str, Callable[[int], np.ndarray]] = {"two-point": two_point, "swa": swa, "ema": ema}


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def regimes(settings: Settings) -> pd.DataFrame:
    """Columns claim, case, value, control, what, kernel, x, variance, offset, gains.

    what: "claim", a row to judge; "curve", side-trip against average by x and kernel: `variance`,
    side-trip's over average's from a stationary start; `average` and `trip`, the shares that both
    leave of an offset; `gains`, what the side-trip takes from the raw variance over what the
    average does.
    """
    claims = pd.DataFrame(_judge(), columns=["claim", "case", "value", "control"])
    return pd.concat([claims.assign(what="claim"), _curves().assign(what="curve")])


def compare(mu: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Variances (raw = 1) and shares of an offset of an average and its side-trip, each (len(x),).

    Curvatures are x / k at rate 1, without momentum, from a stationary start.
    """
    k = len(mu) - 1
    kappa, unit = np.asarray(x) / k, np.ones(len(x))
    moments = stationary_moments(kappa, unit, 1.0, 0.0)
    raw = moments[:, 0, 0]
    ends_at = {}
    ends = {"average": (np.ones(k), mu), "trip": (kernel_weights(mu), weigh_last(k))}
    for name, (rates, weights) in ends.items():
        response = responses(kappa, rates, 0.0, weights)
        ends_at[name] = response.second_moment(unit, moments) / raw
        ends_at[f"{name} offset"] = response.start
    return ends_at


def _judge() -> Iterator[tuple]:
    """TRAJ-28.early, TRAJ-28.two-point, TRAJ-28.swa, TRAJ-28.ema; controls at the other end of x."""
    worst = []
    for x in (0.1, 10.0):
        pairs = [compare(kernel(WINDOW), np.array([x])) for kernel in AVERAGES.values()]
        worst.append(max(abs(p[f"trip{part}"] / p[f"average{part}"] - 1).item()
                         for p in pairs for part in ("", " offset")))  # fmt: skip
    yield "TRAJ-28.early", "x=0.1 k=2000", *worst
    two, other = (_ratio(kernel, WINDOW, 10.0) for kernel in (two_point, swa))
    yield "TRAJ-28.two-point", "x=10 k=2000", two, other
    far = 1000.0
    for name, law in (("swa", np.sqrt(np.pi * far) / 4), ("ema", np.sqrt(np.pi * far / 5) / 2)):
        ratios = [_ratio(AVERAGES[kernel], LONG_WINDOW, far) for kernel in (name, "two-point")]
        yield f"TRAJ-28.{name}", "x=1000 k=20000", *(each / law for each in ratios)


def _ratio(kernel: Callable[[int], np.ndarray], k: int, x: float) -> float:
    """The side-trip's variance over the average's."""
    ends = compare(kernel(k), np.array([x]))
    return (ends["trip"] / ends["average"]).item()


def _curves() -> pd.DataFrame:
    """By kernel and x."""
    x = WINDOWS_OVER_RELAXATION
    tables = []
    for name, kernel in AVERAGES.items():
        ends = compare(kernel(WINDOW), x)
        columns = {"variance": ends["trip"] / ends["average"], "average": ends["average offset"],
                   "trip": ends["trip offset"], "gains": (1 - ends["trip"]) / (1 - ends["average"])}  # fmt: skip
        tables.append(pd.DataFrame({"kernel": name, "x": x, **columns}))
    return pd.concat(tables)
