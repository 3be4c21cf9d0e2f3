"""Table 1 and Lemma 2 where they are exact: gradients that are known and do not depend on where
they are taken.
"""

import numpy as np
import pandas as pd

from replicate.averaging import ema, inside_weights, kernel_weights, swa, two_point
from replicate.problems import heavy_ball
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

BEFORE = 200  # gradients before the window, whose share in the momentum buffer falls as 0.9^i
KERNEL_FUNCTIONS = {"two-point": two_point, "swa": swa, "ema": ema}


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def table_1(settings: Settings) -> pd.DataFrame:
    """Every exact statement about Table 1, one row per case: columns claim, case, value, control (NaN
    where none).

    The control keeps the rate constant, which must not lead to the average. Errors of an end point are relative:
    |side-trip - average| / |average - start|.
    """
    rows = []
    for name, windows in (
        ("two-point", settings.two_point),
        ("swa", settings.swa),
        ("ema", settings.ema),
    ):
        for k in windows:
            rows += _frozen(name, KERNEL_FUNCTIONS[name](k), k, settings)
    rows += [(*row, np.nan) for row in (*_weights_of_swa(10), *_weights_of_ema(10, 0.5))]
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def _frozen(
    name: str, mu: np.ndarray, k: int, settings: Settings
) -> list[tuple[str, str, float, float]]:
    """Lemma 2 without momentum, and under both momentum conventions."""
    case, w = f"quadratic {name} k={k}", kernel_weights(mu)
    beta, lr, flat = settings.momentum, settings.lr, np.ones(k)
    inside, factor = inside_weights(w, beta)
    rows = [
        (
            "TRAJ-25.frozen",
            case,
            _error(mu, w, 0.0, lr, "outside"),
            _error(mu, flat, 0.0, lr, "outside"),
        ),
        (
            "TRAJ-29.outside",
            case,
            _error(mu, w, beta, lr, "outside"),
            _error(mu, flat, beta, lr, "outside"),
        ),
        (
            "TRAJ-29.inside",
            case,
            _error(mu, w, beta, lr, "inside"),
            _error(mu, flat, beta, lr, "inside"),
        ),
        ("TRAJ-29.corrected", case, _error(mu, inside, beta, lr, "inside", factor), np.nan),
    ]
    if k == 10:
        rows.append(
            ("TRAJ-29.reset", case, _error(mu, w, beta, lr, "outside", inherited=0.0), np.nan)
        )
    return rows


def _error(
    mu: np.ndarray, w: np.ndarray, beta: float, lr: float, convention: str, inherited: float = 1.0
) -> float:
    """RMS error of the side-trip's end over that of the way to the average, where gradients are white
    noise; `inherited`: the factor on the momentum buffer that the side-trip inherits.

    Ends are linear in the gradients, so that a run on unit impulses, one dimension a gradient, gives
    every coefficient at once, and the root of the sum of their squares is the RMS.
    """
    k = len(w)
    impulses = np.eye(BEFORE + k)
    before, start = impulses[:BEFORE], np.zeros(BEFORE + k)
    buffer = _buffer(before, beta) * (1.0 if convention == "outside" else -lr)
    main = heavy_ball(impulses[BEFORE:], np.full(k, lr), beta, start, buffer, convention=convention)
    trip = heavy_ball(
        impulses[BEFORE:], lr * w, beta, start, inherited * buffer, convention=convention
    )
    average = mu @ main
    return float(np.linalg.norm(trip[-1] - average) / np.linalg.norm(average - start))


def _buffer(gradients: np.ndarray, beta: float) -> np.ndarray:
    """The momentum buffer, in gradients, after a long run over `gradients`, (steps, d)."""
    return beta ** np.arange(len(gradients) - 1, -1, -1.0) @ gradients


def _weights_of_swa(k: int) -> list[tuple[str, str, float]]:
    """Erratum E-8: eq. 22 sums k + 1 iterates and divides by k; three ways to average, each with
    its schedule.
    """
    i = np.arange(1, k + 1)
    printed = np.full(k + 1, 1 / k)
    everything = np.full(k + 1, 1 / (k + 1))
    first = np.concatenate([np.full(k, 1 / k), [0.0]])
    case = f"quadratic swa k={k}"
    return [
        ("E-8.printed", case, float(printed.sum())),
        ("E-8.last", case, _gap(swa(k), (k + 1 - i) / k)),
        ("E-8.all", case, _gap(everything, (k + 1 - i) / (k + 1))),
        ("E-8.first", case, _gap(first, (k - i) / k)),
    ]


def _weights_of_ema(k: int, delta: float) -> list[tuple[str, str, float]]:
    """Erratum E-9: 1 - (1 - delta)^(k-i) is right for i = 0..k-1 only, and eq. 25's weights do not
    sum to 1.
    """
    mu, case = ema(k, delta), f"quadratic ema k={k}"
    from_zero = 1 - (1 - delta) ** (k - np.arange(k))
    from_one = 1 - (1 - delta) ** (k - np.arange(1, k + 1))
    printed = delta * (1 - delta) ** np.arange(k, -1, -1.0)
    return [
        ("E-9.zero", case, _gap(mu, from_zero)),
        ("E-9.one", case, _gap(mu, from_one)),
        ("E-9.start", case, float(printed.sum() - (1 - (1 - delta) ** (k + 1)))),
    ]


def _gap(mu: np.ndarray, weights: np.ndarray) -> float:
    """Largest difference between a kernel's tail sums and a schedule's factors."""
    return float(np.abs(kernel_weights(mu) - weights).max())
