"""The largest stable rate of gradient descent with extrapolation, by a matrix and by running it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate import optim
from replicate.optim.stencils import step_coefficients
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment, keep_claims

SHARES = np.linspace(0.02, 2.0, 23)  # s of the map
CHECKED = (0.05, 0.1, 0.3, 0.5, 1.0, 2.0)  # s at which the optimizer itself is run
AROUND = np.linspace(-0.02, 0.02, 21)  # relative distances from the predicted edge
LONG = 1000  # steps until growth is looked at, and as many again
METHODS = {
    "third order": lambda s: step_coefficients(s, 3),
    "second order": lambda s: step_coefficients(s, 2),
    "rate (1 + s) eta": lambda s: step_coefficients(s, 1),
    "third order, backward": lambda s: step_coefficients(s, 3, "backward"),
}


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def stability(settings: Settings) -> pd.DataFrame:
    """Edges of stability, predicted and met: claim, case, value, control, what, arm, s, x (x = eta
    a).

    what: "claim", a row to judge; "radius", the map (its radius in value); "edge"; "measured",
    where runs of the optimizer begin to diverge.
    """
    from replicate.problems import largest_stable, spectral_radius

    x = np.linspace(0.02, 2.04, 102)
    rows = [("", "", r, np.nan, "radius", "third order", s, at) for s in SHARES
            for at, r in zip(x, spectral_radius(step_coefficients(s, 3), x), strict=True)]  # fmt: skip
    for arm, coefficients in METHODS.items():
        rows += [
            ("", "", np.nan, np.nan, "edge", arm, s, largest_stable(coefficients(s)))
            for s in SHARES[::2]
        ]
    for s in CHECKED:
        third, second, first = (largest_stable(METHODS[arm](s)) for arm in list(METHODS)[:3])
        case = f"s={s:g}"
        met = _met(s, third)
        rows.append(("", "", np.nan, np.nan, "measured", "third order", s, met))
        rows.append(("EXTRA-B5", case, met / third, np.nan, "claim", "", s, np.nan))
        rows.append(("EXTRA-19.order", case, third / first, second / first, "claim", "", s, np.nan))
    return pd.DataFrame(
        rows, columns=["claim", "case", "value", "control", "what", "arm", "s", "x"]
    )


def _met(s: float, edge: float) -> float:
    """Half way between the largest x at which no run of the optimizer grows and the next one, at
    rate 1.
    """
    from replicate.problems import minimise

    x = edge * (1 + AROUND)
    path = minimise(
        lambda w: (0.5 * w**2 * w.new_tensor(x)).sum(-1),
        np.ones((1, len(x))),
        lambda theta: [optim.TaylorExtrapolation(optim.SGD(theta, lr=1.0), s)],
        2 * LONG,
    )[:, 0]
    # The largest of fifty steps, because the weights swing.
    early, late = (np.abs(path[end - 50 : end]).max(0) for end in (LONG, 2 * LONG))
    first = int(np.argmax(late > early))
    return float((x[first] + x[max(first - 1, 0)]) / 2)
