"""L = 1/2 sum_i a_i E w_i^2,    gradient noise of variance sigma^2 a_i / B

What noise makes of extrapolation on a quadratic with curvatures a_i, by batch size B, rate and s;
sigma^2: `SIGMA2`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.optim.stencils import step_coefficients
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment, keep_claims

CURVATURES = np.geomspace(0.01, 1.0, 12)
HORIZON = 100  # steps
SIGMA2 = 1.0  # variance of a single example's gradient over the curvature, where weights start at 1
BATCHES = 2 ** np.arange(10)
RATE_CHOICES = np.geomspace(0.01, 2.0, 32)
SMALL = 0.1  # a rate far below the largest stable one, 2
SHARES_OF_RISK = np.round(np.arange(-0.6, 2.01, 0.05), 10)  # below 0: Lookahead with k = 1


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def noise(settings: Settings) -> pd.DataFrame:
    """Expected loss after 100 steps on a noisy quadratic.

    Columns claim, case, value, control, what, arm, order, batch, s. what: "claim", a row to judge;
    "risk", by s at rate 0.1; "best", the best s of the third order: at that rate, at plain
    descent's best rate, or with the best rate for each s (column arm).
    """
    from scipy import stats

    risks = {
        order: np.array([_risks(s, order, RATE_CHOICES) for s in SHARES_OF_RISK])
        for order in (1, 3)
    }
    small = {
        order: np.array([_risks(s, order, np.array([SMALL]))[:, 0] for s in SHARES_OF_RISK])
        for order in (1, 3)
    }
    plain = risks[1][np.flatnonzero(SHARES_OF_RISK == 0)[0]].argmin(
        -1
    )  # of each batch size, the rate's place
    at_plain = np.take_along_axis(risks[3], plain[None, :, None], axis=2)[..., 0]
    best = {
        "rate 0.1": _choose_share(small[3]),
        "plain descent's best rate": _choose_share(at_plain),
        "a rate for each s": _choose_share(risks[3].min(-1)),
    }
    rows = [("", "", np.nan, np.nan, "best", arm, 3, int(batch), s) for arm, shares in best.items()
            for batch, s in zip(BATCHES, shares, strict=True)]  # fmt: skip
    rows += [("", "", float(value), np.nan, "risk", "rate 0.1", order, int(batch), s)
             for order, table in small.items() for s, of_batches in zip(SHARES_OF_RISK, table, strict=True)
             for batch, value in zip(BATCHES, of_batches, strict=True) if batch in (1, 16, 256)]  # fmt: skip
    ranks = [
        float(stats.spearmanr(BATCHES, shares).statistic)
        for shares in (best["rate 0.1"], _choose_share(small[1]))
    ]
    rows.append(("EXTRA-B1.batch", "", *ranks, "claim", "", 3, 0, np.nan))
    rows.append(
        (
            "EXTRA-B1.best",
            "",
            best["plain descent's best rate"].max(),
            np.nan,
            "claim",
            "",
            3,
            0,
            np.nan,
        )
    )
    rows.append(("EXTRA-B1.zero", "", _choose_share_and_rate(1), np.nan, "claim", "", 3, 1, np.nan))
    return pd.DataFrame(
        rows, columns=["claim", "case", "value", "control", "what", "arm", "order", "batch", "s"]
    )


def _choose_share(risks: np.ndarray) -> np.ndarray:
    """The best s of at least 0 for each batch size; risks: (shares, batches)."""
    positive = SHARES_OF_RISK >= 0
    return SHARES_OF_RISK[positive][risks[positive].argmin(0)]


def _risks(s: float, order: int, rates: np.ndarray) -> np.ndarray:
    """Expected loss, (batches, rates): what remains of the start, and the effect of noise over B."""
    bias, variance = _bias_and_variance(s, order, rates)
    return bias + variance / BATCHES[:, None]


def _bias_and_variance(s: float, order: int, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss at every rate without noise, and what noise adds at batch size 1: (rates,) each."""
    from replicate.problems import mean_squares

    c = step_coefficients(s, order)
    x = rates[:, None] * CURVATURES
    q = rates[:, None] ** 2 * SIGMA2 * CURVATURES
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [
            mean_squares(c, x, HORIZON, start, of)[-1]
            for start, of in ((1.0, np.zeros_like(q)), (0.0, q))
        ]
        return tuple(0.5 * np.nan_to_num(square @ CURVATURES, nan=np.inf) for square in squares)


def _choose_share_and_rate(batch: int) -> float:
    """The s in [0, 1] with the lowest expected loss, the rate being the best for each s."""
    from scipy.optimize import minimize_scalar

    shares = np.linspace(0, 1, 11)

    def loss(s: float) -> float:
        def of_rate(log_rate: float) -> float:
            bias, variance = _bias_and_variance(s, 3, np.exp([log_rate]))
            return float(np.log(bias + variance / batch)[0])

        return minimize_scalar(of_rate, bounds=(np.log(0.01), np.log(1.5)), method="bounded").fun

    return float(shares[np.argmin([loss(s) for s in shares])])
