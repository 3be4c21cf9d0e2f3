"""Figure 4: a step as drag and drift, and where the midpoint of two distant points lies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import streams
from replicate.problems import average_covariance, random_rows, stationary_covariance
from replicate.sources.protocol import experiment, keep_claims
from replicate.sources.sandler2023trajectories._fits import fit_power
from replicate.sources.sandler2023trajectories._samples import Samples
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

DIMENSIONS, ROWS_A_SAMPLE = 64, 64  # silent; m = infinity is A_x^T A_x = I
RATES_OF_DRAG = np.logspace(-3, -2, 9)
DRAWN_RATES = (0.01, 0.02, 0.05)  # of the runs that are drawn
RUNS = 200
APART = 100  # steps between the two points of Fig. 4b, at lr kappa = 0.05


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
)
def figure_4(settings: Settings) -> pd.DataFrame:
    """Columns claim, case, value, control, what, arm, rate, size.

    what: "claim", a row to judge; "expected" and "drawn", the RMS of drag and drift by rate, exact
    and of runs; "norm", |theta| of iterates and of midpoints of runs at the rate 0.05.
    """
    claims = [*_powers(), *_balance(), *_midpoint()]
    tables = [
        pd.DataFrame(claims, columns=["claim", "case", "value", "control"]).assign(what="claim")
    ]
    curve = [("expected", arm, rate, size) for rate in np.logspace(-3, np.log10(0.06), 20)
             for arm, size in measure_parts(rate, ROWS_A_SAMPLE).items()]  # fmt: skip
    drawn = [row for number, rate in enumerate(DRAWN_RATES) for row in _draw(rate, number)]
    return pd.concat(
        [*tables, pd.DataFrame(curve + drawn, columns=["what", "arm", "rate", "size"])]
    )


def measure_parts(rate: float, m: float) -> dict[str, float]:
    """The RMS of the parts of a step where the weights have settled, E gamma^2 and E|xi|^2 exact.

    m: rows of A_x; infinity for A_x^T A_x = I.
    """
    d = DIMENSIONS
    h2, gamma2 = (1.0, 1.0) if m == np.inf else (random_rows.second_order(d, m), 1 + 2 / m)
    square = rate * d / (2 - rate * h2)
    drag, drift = np.sqrt(gamma2 * square), np.sqrt((h2 - gamma2) * square + d)
    return {
        "drag of the gradient": drag,
        "drag of the step": rate * drag,
        "drift of the step": rate * drift,
    }


def _powers() -> Iterator[tuple]:
    """TRAJ-17.drag, TRAJ-17.drift, E-4: log-log slopes on the rate."""
    for m, case in ((np.inf, "A_x^T A_x = I"), (ROWS_A_SAMPLE, f"m={ROWS_A_SAMPLE}")):
        parts = pd.DataFrame([measure_parts(rate, m) for rate in RATES_OF_DRAG])
        slopes = {arm: fit_power(RATES_OF_DRAG, sizes) for arm, sizes in parts.items()}
        gradient, drag, drift = slopes.values()
        yield "TRAJ-17.drag", case, gradient, drag
        yield "TRAJ-17.drift", case, drift, drag
        yield "E-4", case, drag, gradient


def _balance() -> Iterator[tuple]:
    """TRAJ-17.bias and TRAJ-17.balance: what drift and drag do to the mean loss in a step."""
    samples = Samples.draw(400, 8, 6, whitened=True)
    theta = streams.rng(0, "noise", 14).standard_normal(6)
    drift, drag = samples.drift(theta), samples.gamma(theta)[:, None] * theta
    added = [samples.step_loss(theta, -rate * drift) for rate in RATES_OF_DRAG]
    taken = [-samples.step_loss(theta, -rate * drag) for rate in RATES_OF_DRAG]
    slopes = [fit_power(RATES_OF_DRAG, np.array(each)) for each in (added, taken)]
    yield "TRAJ-17.bias", "", *slopes
    # Where the weights have settled, both are equal: E|theta|^2 by the recursion, not by eq. 12.
    d, m, rate = DIMENSIONS, 4, 0.05
    gamma2, h2 = random_rows.gamma_square(m), random_rows.second_order(d, m)
    ratios = []
    for square in (random_rows.settle_square(d, m, rate), rate * d / 2):
        gain = rate * (2 - rate * gamma2) * square
        ratios.append(rate**2 * ((h2 - gamma2) * square + random_rows.noise_square(d)) / gain)
    yield "TRAJ-17.balance", f"d={d} m={m} lr={rate:g}", *ratios


def _midpoint() -> Iterator[tuple]:
    """TRAJ-19.quad: E|average|^2 / E|theta|^2 of two points far apart; of neighbours for a control."""
    unit = np.eye(1)
    raw = stationary_covariance(unit, unit, 0.05).item()
    squares = []
    for apart in (APART, 1):
        mu = np.zeros(apart + 1)
        mu[[0, -1]] = 0.5
        squares.append(average_covariance(unit, unit, 0.05, mu).item() / raw)
    yield "TRAJ-19.quad", "", *squares


def _draw(rate: float, number: int) -> Iterator[tuple]:
    """Parts of a step, and norms, of runs that are drawn: (what, arm, rate, size)."""
    rng = streams.rng(0, "noise", number, stream=2)
    settled = round(4 / rate)
    first = random_rows.descend(rng, np.zeros((RUNS, DIMENSIONS)), ROWS_A_SAMPLE, rate, settled)
    matrices = rng.standard_normal((RUNS, ROWS_A_SAMPLE, DIMENSIONS)) / np.sqrt(ROWS_A_SAMPLE)
    pull = np.einsum("nij,nik,nk->nj", matrices, matrices, first, optimize=True)
    bias = np.einsum("nij,ni->nj", matrices, rng.standard_normal((RUNS, ROWS_A_SAMPLE)))
    along = first / np.linalg.norm(first, axis=1, keepdims=True)
    towards = (pull * along).sum(1)
    across = np.linalg.norm(pull - towards[:, None] * along + bias, axis=1)
    drag, drift = (np.sqrt(np.mean(each**2)) for each in (towards, across))
    yield from (
        ("drawn", "drag of the gradient", rate, drag),
        ("drawn", "drag of the step", rate, rate * drag),
    )
    yield "drawn", "drift of the step", rate, rate * drift
    if rate == DRAWN_RATES[-1]:
        second = random_rows.descend(rng, first, ROWS_A_SAMPLE, rate, APART)
        for arm, points in (("iterate", first), ("midpoint", (first + second) / 2)):
            yield from (("norm", arm, rate, size) for size in np.linalg.norm(points, axis=1))
