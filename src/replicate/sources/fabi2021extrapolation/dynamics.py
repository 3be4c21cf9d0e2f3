"""Gradient descent with extrapolation where all is known: how large a rate it bears, what noise makes of it."""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import minimize_scalar

from replicate.problems import minimise
from replicate.optim import SGD, TaylorExtrapolation
from replicate.optim.stencils import step_coefficients
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.problems import largest_stable, mean_squares, spectral_radius

SHARES = np.linspace(0.02, 2.0, 23)  # s of the map
CHECKED = (0.05, 0.1, 0.3, 0.5, 1.0, 2.0)  # s at which the optimizer itself is run
AROUND = np.linspace(-0.02, 0.02, 21)  # of the predicted edge, in parts of it
LONG = 1000  # steps until growth is looked at, and as many again
METHODS = {
    "third order": lambda s: step_coefficients(s, 3),
    "second order": lambda s: step_coefficients(s, 2),
    "rate (1 + s) eta": lambda s: step_coefficients(s, 1),
    "third order, backward": lambda s: step_coefficients(s, 3, "backward"),
}

CURVATURES = np.geomspace(0.01, 1.0, 12)
HORIZON = 100  # steps
SIGMA2 = 1.0  # variance of a single example's gradient over the curvature, where weights start at 1
BATCHES = 2 ** np.arange(10)
RATES = np.geomspace(0.01, 2.0, 32)
SMALL = 0.1  # a rate far below the largest stable one, 2
SHARES_OF_RISK = np.round(np.arange(-0.6, 2.01, 0.05), 10)  # below 0: Lookahead with k = 1


def stability(settings: Settings) -> pd.DataFrame:
    """Edges of stability, predicted and met: columns claim, case, value, control, what, arm, s, x (x = eta a).

    what: "claim", a row to judge; "radius", the map (its radius in value); "edge"; "measured", where runs of the
    optimizer begin to diverge.
    """
    x = np.linspace(0.02, 2.04, 102)
    rows = [("", "", r, np.nan, "radius", "third order", s, at) for s in SHARES
            for at, r in zip(x, spectral_radius(step_coefficients(s, 3), x), strict=True)]  # fmt: skip
    for arm, coefficients in METHODS.items():
        rows += [("", "", np.nan, np.nan, "edge", arm, s, largest_stable(coefficients(s))) for s in SHARES[::2]]
    for s in CHECKED:
        third, second, first = (largest_stable(METHODS[arm](s)) for arm in list(METHODS)[:3])
        case, met = f"s={s:g}", _met(s, third)
        rows.append(("", "", np.nan, np.nan, "measured", "third order", s, met))
        rows.append(("EXTRA-B5", case, met / third, np.nan, "claim", "", s, np.nan))
        rows.append(("EXTRA-19.order", case, third / first, second / first, "claim", "", s, np.nan))
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control", "what", "arm", "s", "x"])


def _met(s: float, edge: float) -> float:
    """Half way between the largest x at which no run of the optimizer grows and the next one, at rate 1."""
    x = edge * (1 + AROUND)
    path = minimise(
        lambda w: (0.5 * w**2 * w.new_tensor(x)).sum(-1),
        np.ones((1, len(x))),
        lambda theta: [TaylorExtrapolation(SGD(theta, lr=1.0), s)],
        2 * LONG,
    )[:, 0]
    # The largest of fifty steps, because the weights swing.
    early, late = (np.abs(path[end - 50 : end]).max(0) for end in (LONG, 2 * LONG))
    first = int(np.argmax(late > early))
    return float((x[first] + x[max(first - 1, 0)]) / 2)


def noise(settings: Settings) -> pd.DataFrame:
    """Expected loss after 100 steps on a noisy quadratic.

        L = 1/2 sum_i a_i E w_i^2,    gradient noise of variance sigma^2 a_i / B

    Columns claim, case, value, control, what, arm, order, batch, s. what: "claim", a row to judge; "risk", by s at rate
    0.1; "best", the best s of the third order: at that rate, at plain descent's best rate, or with a rate of its own
    for each s (column arm).
    """
    risks = {order: np.array([_risks(s, order, RATES) for s in SHARES_OF_RISK]) for order in (1, 3)}
    small = {order: np.array([_risks(s, order, np.array([SMALL]))[:, 0] for s in SHARES_OF_RISK]) for order in (1, 3)}
    plain = risks[1][np.flatnonzero(SHARES_OF_RISK == 0)[0]].argmin(-1)  # of each batch size, the rate's place
    at_plain = np.take_along_axis(risks[3], plain[None, :, None], axis=2)[..., 0]
    best = {
        "rate 0.1": _best(small[3]),
        "plain descent's best rate": _best(at_plain),
        "a rate for each s": _best(risks[3].min(-1)),
    }
    rows = [("", "", np.nan, np.nan, "best", arm, 3, int(batch), s) for arm, found in best.items()
            for batch, s in zip(BATCHES, found, strict=True)]  # fmt: skip
    rows += [("", "", float(value), np.nan, "risk", "rate 0.1", order, int(batch), s) for order, found in small.items()
             for s, of_batches in zip(SHARES_OF_RISK, found, strict=True)
             for batch, value in zip(BATCHES, of_batches, strict=True) if batch in (1, 16, 256)]  # fmt: skip
    ranks = [float(stats.spearmanr(BATCHES, found).statistic) for found in (best["rate 0.1"], _best(small[1]))]
    rows.append(("EXTRA-B1.batch", "", *ranks, "claim", "", 3, 0, np.nan))
    rows.append(("EXTRA-B1.best", "", best["plain descent's best rate"].max(), np.nan, "claim", "", 3, 0, np.nan))
    rows.append(("EXTRA-B1.zero", "", _best_with_its_rate(1), np.nan, "claim", "", 3, 1, np.nan))
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control", "what", "arm", "order", "batch", "s"])


def _best(risks: np.ndarray) -> np.ndarray:
    """The best s of at least 0 for each batch size; risks: (shares, batches)."""
    positive = SHARES_OF_RISK >= 0
    return SHARES_OF_RISK[positive][risks[positive].argmin(0)]


def _risks(s: float, order: int, rates: np.ndarray) -> np.ndarray:
    """Expected loss of every batch size and rate, (batches, rates): what is left of the start, and noise over B."""
    bias, variance = _parts(s, order, rates)
    return bias + variance / BATCHES[:, None]


def _parts(s: float, order: int, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss at every rate without noise, and what noise adds at batch size 1: (rates,) each."""
    c, x = step_coefficients(s, order), rates[:, None] * CURVATURES
    q = rates[:, None] ** 2 * SIGMA2 * CURVATURES
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [mean_squares(c, x, HORIZON, start, of)[-1] for start, of in ((1.0, np.zeros_like(q)), (0.0, q))]
        return tuple(0.5 * np.nan_to_num(one @ CURVATURES, nan=np.inf) for one in parts)


def _best_with_its_rate(batch: int) -> float:
    """The s in [0, 1] with the lowest expected loss, the rate being the best for each s."""
    shares = np.linspace(0, 1, 11)

    def loss(s: float) -> float:
        def of_rate(log_rate: float) -> float:
            bias, variance = _parts(s, 3, np.exp([log_rate]))
            return float(np.log(bias + variance / batch)[0])

        return minimize_scalar(of_rate, bounds=(np.log(0.01), np.log(1.5)), method="bounded").fun

    return float(shares[np.argmin([loss(s) for s in shares])])
