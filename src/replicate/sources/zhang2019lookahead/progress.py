"""L = 1/2 sum_i a_i E theta_i^2 after T steps from theta = 1, everything tuned, no path drawn

The paper's figure of expected progress on the noisy quadratic, with what the slides lack: a rate
that falls to 0, an average of the weights that is only looked at, heavy ball, both noise models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from replicate.problems import SecondMoments, lookahead_mean_square, second_moments, slow_factor
from replicate.problems.noisy_quadratic import cycle
from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.zhang2019lookahead.presets import ALGEBRA
from replicate.sources.zhang2019lookahead.settings import Settings

SPECTRUM_SIZE = 100
SPECTRA = {"1/i": 1.0, "1/i^2": 2.0, "1/sqrt(i)": 0.5}  # exponent of a_i = i^-exponent
# Variance of a gradient's noise by curvature: noise inside the loss with sigma^2 = 1 and with 1/a,
# and the noise as the slides print it.
NOISES: dict[str, Callable] = {"a^2": np.square, "a": lambda a: a, "1": np.ones_like}
TIMES = (100, 1000)
# gamma, the largest curvature being 1: what falls to 0 may begin beyond 2, where SGD is unstable.
WIDE_GRID = np.geomspace(0.01, 10.0, 120)
COARSE = WIDE_GRID[::2]
FINE = np.geomspace(0.001, 2.2, 400)  # where nothing but constant rates is compared
PAIRS = ((0.5, 5), (0.8, 5), (0.5, 20))  # (alpha, k): the paper's figures; the best at first look
FORGETTING = np.array([0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998])  # of the running mean
AVERAGED_ALPHAS = (0.2, 0.5, 0.8)  # under a running mean; alpha = 1 is SGD
GAIN_COLUMNS = ["claim", "case", "value", "decayed", "averaged"]


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "decayed", "averaged"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def progress(settings: Settings) -> pd.DataFrame:
    """Expected loss at the best rate: claim, case, value, decayed, averaged, what, arm, noise, steps.

    what: "claim", a row to judge: 1 - loss / loss of SGD at a constant rate; decayed and averaged
    are the same of SGD whose rate falls linearly to 0 and of SGD's running mean. "loss": `value` is
    the loss of an arm. "edge": 1 where the best rate of an arm lies at an end of the grid.
    """
    rows = [_label(row, "claim") for row in _spectra()]
    for noise in NOISES:
        for steps in TIMES:
            losses = {arm: _find_best(table) for arm, table in _arms(noise, steps)}
            rows += [_label(row, "claim") for row in _claims(losses, noise, steps)]
            for arm, (loss, at_edge) in losses.items():
                numbers = {"loss": loss, "edge": float(at_edge)}
                rows += [
                    _label(("", "", number, np.nan, np.nan), what, arm, noise, steps)
                    for what, number in numbers.items()
                ]
    return pd.DataFrame(rows, columns=[*GAIN_COLUMNS, "what", "arm", "noise", "steps"])


def _label(row: tuple, what: str, arm: str = "", noise: str = "", steps: int = 0) -> tuple:
    return (*row, what, arm, noise, steps)


def _find_best(losses: np.ndarray) -> tuple[float, bool]:
    """The lowest loss over rates (first axis) and whatever else, and whether it is at the edge."""
    place = np.unravel_index(np.nanargmin(losses), losses.shape)
    return float(losses[place]), place[0] in (0, len(losses) - 1)


def _claims(losses: dict, noise: str, steps: int) -> Iterator[tuple]:
    sgd = losses["SGD"][0]
    gain = {arm: 1 - loss / sgd for arm, (loss, _) in losses.items()}
    decayed, averaged = gain["SGD, linear decay"], gain["SGD, mean"]
    case = f"noise {noise} T={steps}"
    ahead = gain["Lookahead 0.5, 5"]
    yield "LOOK-13", case, ahead, decayed, averaged
    yield "LOOK-B5", case, averaged - ahead, np.nan, np.nan
    with_decay = losses["Lookahead 0.5, 5, linear decay"][0] / losses["SGD, linear decay"][0]
    yield "LOOK-B5.decayed", case, 1 - with_decay, np.nan, np.nan
    with_mean = losses["Lookahead, mean"][0] / losses["SGD, mean"][0]
    yield "LOOK-B5.averaged", case, 1 - with_mean, np.nan, np.nan


def _spectra() -> Iterator[tuple]:
    """LOOK-B6: constant rates on three power laws; LOOK-B6.one: on a single curvature."""
    curvatures = {name: _curvatures(name) for name in SPECTRA} | {"one curvature": np.ones(1)}
    for name, a in curvatures.items():
        sgd, ahead = (
            _find_best(_constant(a, a**2, 1000, *pair, FINE))[0] for pair in ((1.0, 1), (0.5, 5))
        )
        claim = "LOOK-B6" if len(a) > 1 else "LOOK-B6.one"
        yield claim, name, 1 - ahead / sgd, np.nan, np.nan


def _curvatures(spectrum: str) -> np.ndarray:
    return np.arange(1, SPECTRUM_SIZE + 1) ** -SPECTRA[spectrum]


def _arms(noise: str, steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """(arm, losses by rate and by what else is tuned)."""
    a = _curvatures("1/i")
    variance = NOISES[noise](a)
    yield "SGD", _constant(a, variance, steps, 1.0, 1)
    for alpha, k in PAIRS:
        yield f"Lookahead {alpha:g}, {k}", _constant(a, variance, steps, alpha, k)
    linear = 1 - np.arange(steps) / steps
    for momentum in (0.5, 0.9):
        rates = np.ones(steps)[:, None, None] * (1 - momentum) * COARSE[:, None]
        yield f"heavy ball {momentum:g}", _follow(a, variance, rates, momentum=momentum)["theta"]
    rates = linear[:, None, None] * COARSE[:, None]
    yield "SGD, linear decay", _follow(a, variance, rates)["theta"]
    yield "Lookahead 0.5, 5, linear decay", _follow(a, variance, rates, alpha=0.5, k=5)["theta"]
    cosine = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    yield (
        "SGD, cosine decay",
        _follow(a, variance, cosine[:, None, None] * COARSE[:, None])["theta"],
    )
    # A cycle of Lookahead is one step of a recursion on the slow weights; SGD's is k = 1.
    yield "SGD, mean", _mean(a, variance, steps, 1.0, 1)
    means = [_mean(a, variance, steps // 5, alpha, 5) for alpha in AVERAGED_ALPHAS]
    yield "Lookahead, mean", np.concatenate(means, axis=1)


def _constant(a, variance, steps: int, alpha: float, k: int, rates=WIDE_GRID) -> np.ndarray:
    """Losses at constant rates, (rates,)."""
    gamma = rates[:, None]
    squares = lookahead_mean_square(gamma * a, alpha, k, steps // k, gamma**2 * variance)
    return 0.5 * squares @ a


def _follow(a: np.ndarray, variance: np.ndarray, rates: np.ndarray, **method) -> dict:
    """Losses at the end by variable, (rates,); rates: (steps, rates, 1)."""
    paths = second_moments(a, variance, rates, **method)
    return {name: 0.5 * path[-1] @ a for name, path in paths.items()}


def _mean(a: np.ndarray, variance: np.ndarray, cycles: int, alpha: float, k: int) -> np.ndarray:
    """Losses of the running mean of the slow weights, one a cycle, at constant rates: (rates, betas).

    beta: of a step, so that a mean over cycles of k steps forgets as one over steps does.
    """
    gamma = COARSE[:, None]
    x, of_step = gamma * a, gamma**2 * variance
    factor, added = slow_factor(x, alpha, k), alpha**2 * cycle(x, k, of_step)[1]
    weights = FORGETTING[None, :, None] ** k
    shape = (len(COARSE), len(FORGETTING), len(a))
    moments = SecondMoments(("phi", "mean"), shape)
    moments.shift(1.0, "phi", "mean")
    factor, added = factor[:, None], added[:, None]
    for _ in range(cycles):
        moments.combine("phi", noise=added, phi=factor)
        moments.combine("mean", mean=weights, phi=1 - weights)
    return 0.5 * moments["mean"] @ a
