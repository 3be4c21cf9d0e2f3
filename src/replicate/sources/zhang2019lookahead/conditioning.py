"""Without noise: heavy ball with and without Lookahead over condition numbers, the best alpha of a
cycle, and a game.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.problems import cycle_rate, find_alpha, game_matrix, heavy_ball_matrix
from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.zhang2019lookahead.presets import ALGEBRA
from replicate.sources.zhang2019lookahead.settings import Settings
from replicate.streams import rng

ALPHA_OF_FIGURE = 0.5  # the figure's, by recollection of readers
K = 20  # the same
CONDITIONS = (10, 30, 100, 300, 1000, 3000, 10_000)
MOMENTA_TRIED = (0.9, 0.95, 0.99, 0.995, 0.999)
DENSE = 100  # of the dense spectrum, evenly spaced in the logarithm from 1/kappa to 1
RATES_TRIED = np.geomspace(1e-3, 4.0, 200)  # gamma, the largest curvature being 1
TIE = 1e-3  # of a gain; what is closer is neither faster nor slower
GAME_RATES = (0.01, 0.1, 0.3)


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def conditioning(settings: Settings) -> pd.DataFrame:
    """Convergence on deterministic quadratics: claim, case, value, control, what, arm, kappa, beta.

    what: "claim", a row to judge; "rate", the figure: 1 - rho, the share of the way that a step goes
    in the long run, of heavy ball and of Lookahead around it, each at its own best rate (`case`
    names the spectrum).
    """
    figure = pd.DataFrame(_rates(), columns=["case", "arm", "kappa", "beta", "value"])
    figure = figure.assign(claim="", what="rate", control=np.nan)
    claims = [*_orderings(figure), *_alphas(), *_games()]
    rows = pd.DataFrame(claims, columns=["claim", "case", "value", "control"])
    rows = rows.assign(what="claim", arm="", kappa=np.nan, beta=np.nan)
    return pd.concat([rows, figure], ignore_index=True)


def is_underdamped(beta: float, kappa: float) -> bool:
    """Whether all curvatures from 1/kappa to 1 swing at the rate that suits both ends best.

    beta > ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^2, Polyak's choice.
    """
    root = np.sqrt(kappa)
    return beta > ((root - 1) / (root + 1)) ** 2


def _rates() -> Iterator[tuple]:
    """(spectrum, arm, kappa, beta, 1 - rho), of the worst curvature."""
    for kappa in CONDITIONS:
        spectra = {
            "two curvatures": np.array([1 / kappa, 1.0]),
            "dense": np.geomspace(1 / kappa, 1.0, DENSE),
        }
        for spectrum, curvatures in spectra.items():
            for beta in MOMENTA_TRIED:
                steps = heavy_ball_matrix(RATES_TRIED[:, None] * curvatures, beta)
                plain = cycle_rate(steps, 1.0, 1).max(-1)
                ahead = cycle_rate(steps, ALPHA_OF_FIGURE, K, slow=1).max(-1)
                first = int(np.argmin(np.abs(RATES_TRIED - 1)))
                yield spectrum, "heavy ball", kappa, beta, 1 - plain.min()
                yield spectrum, "Lookahead", kappa, beta, 1 - ahead.min()
                yield spectrum, "heavy ball at 1/L", kappa, beta, 1 - plain[first]
                yield spectrum, "Lookahead at 1/L", kappa, beta, 1 - ahead[first]


def _orderings(figure: pd.DataFrame) -> Iterator[tuple]:
    """LOOK-12: share of the cells of the figure in which Lookahead is faster, or slower.

    control of LOOK-12.under: the same against heavy ball at its best beta of MOMENTA_TRIED as well.
    """
    wide = figure.pivot(
        index=["case", "kappa", "beta"], columns="arm", values="value"
    ).reset_index()
    swings = np.array([is_underdamped(*cell) for cell in zip(wide.beta, wide.kappa, strict=True)])
    best = wide.groupby(["case", "kappa"])["heavy ball"].transform("max")
    for spectrum in ("two curvatures", "dense"):
        for rule, end in (("best rate", ""), ("rate 1/L", " at 1/L")):
            ahead, plain = wide[f"Lookahead{end}"], wide[f"heavy ball{end}"]
            under = (wide.case == spectrum) & swings
            over = (wide.case == spectrum) & ~swings
            faster = ahead > plain * (1 + TIE)
            beats_best = (ahead > best * (1 + TIE))[under].mean()
            case = f"{spectrum}, {rule}"
            yield "LOOK-12.under", case, faster[under].mean(), beats_best
            yield "LOOK-12.over", case, (ahead < plain)[over].mean(), np.nan


def _alphas() -> Iterator[tuple]:
    """LOOK-11 and LOOK-B7: Proposition 1 against a search along the line; how often it is above 1."""
    curvatures = np.geomspace(0.01, 1.0, 20)
    above = []
    for index in range(100):
        draw = rng(0, "eval", index)
        start = draw.standard_normal(len(curvatures))
        rate = draw.uniform(0.1, 1.9)
        end = start * (1 - rate * curvatures) ** 5
        alpha = find_alpha(curvatures, start, end)
        above.append(alpha > 1)
        if index < 3:
            yield "LOOK-11", f"draw {index}", alpha - _search(curvatures, start, end), np.nan
    yield "LOOK-B7", "k=5", float(np.mean(above)), np.nan


def _search(curvatures: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """The alpha with the lowest loss, found without a formula."""
    from scipy.optimize import minimize_scalar

    def loss(alpha: float) -> float:
        return float((curvatures * (start + alpha * (end - start)) ** 2).sum())

    return float(minimize_scalar(loss, bracket=(0, 1), options={"xtol": 1e-12}).x)


def _games() -> Iterator[tuple]:
    """LOOK-B8: min over x, max over y of x y; control: descent and ascent at alpha times the rate."""
    for rate in GAME_RATES:
        ahead = cycle_rate(game_matrix(rate), ALPHA_OF_FIGURE, 5)
        yield (
            "LOOK-B8",
            f"rate {rate:g}",
            float(ahead),
            float(cycle_rate(game_matrix(ALPHA_OF_FIGURE * rate), 1.0, 1)),
        )
