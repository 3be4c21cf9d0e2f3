"""Section 4: the model, Lemma 1 and Lemma 2, each equation in float64, and in symbols where it is an
identity.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import streams
from replicate.averaging import kernel_weights
from replicate.problems import (
    average_covariance,
    find_axes,
    random_rows,
    second_moments,
    shrinkage_of_points,
    stationary_covariance,
)
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories._fits import (
    farthest_from_1,
    find_edge,
    fit_power,
)
from replicate.sources.sandler2023trajectories._samples import Samples, project_across
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

D = 64  # ours, as the claims file says; the paper gives no dimensions to its A_x
FEW_ROWS = 4  # m, the same
RATE_OF_LEMMA_1 = 0.05  # the same
SMALL_RATES = np.logspace(-5, -3, 9)
SPACINGS = (2, 3, 5, 10, 20, 50, 100)  # c of TRAJ-30.quad
TRIP = 2000  # steps of the trips in the paper's recap, k of E-16
EXACTLY = 1e-10


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def section_4(settings: Settings) -> pd.DataFrame:
    """One row per check: columns claim, case, value, control (NaN where none)."""
    checks = (
        _symbols,
        _losses,
        _steps,
        _norms,
        _terms_dropped,
        _ellipsoids,
        _radii,
        _averages,
        _paths,
    )
    rows = [row for check in checks for row in check()]
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def _symbols() -> Iterator[tuple]:
    """The identities of section 4 in sympy, which is opened only here."""
    from replicate.sources.sandler2023trajectories import _equations

    for claim, left, control in _equations.list_model():
        yield claim, "symbols", left, control
    yield "TRAJ-14", "symbols", *_equations.find_still_rate()
    yield "E-1", "symbols", _equations.find_loss_ratio(), np.nan
    yield "TRAJ-25.any-kernel", "symbols", *_equations.identify_any_kernel(5)


def _losses() -> Iterator[tuple]:
    """Eqs. 1 to 4: TRAJ-12, E-1, E-2."""
    samples = Samples.draw(200, 3, 6)
    theta = streams.rng(0, "noise", 1).standard_normal(6)
    steps = 1e-20j * np.eye(6)  # derivatives by a complex step have no cancellation
    slopes = np.array([samples.losses(theta + step).mean().imag / 1e-20 for step in steps])
    gradients = samples.gradients(theta)
    single = np.abs(gradients[0] - slopes).max()
    yield "TRAJ-12", "float64", np.abs(gradients.mean(0) - slopes).max(), single
    printed = theta @ samples.curvature @ theta + (samples.offsets**2).sum(1).mean()
    true = samples.losses(theta).mean()
    yield "E-1", "float64", printed / true, printed / 2 / true
    matrix, offset = samples.matrices[0], samples.offsets[0][:, None]
    pull = matrix.T @ matrix @ theta[:, None]
    is_step = np.allclose((pull + matrix.T @ offset).ravel(), gradients[0], rtol=0, atol=EXACTLY)
    is_row = (offset.T @ matrix).shape == (1, 6)
    yield "E-2", "", float(is_step and is_row), np.nan


def _steps() -> Iterator[tuple]:
    """Eqs. 5 to 7: TRAJ-13.split and TRAJ-13.sample."""
    samples, rate = Samples.draw(200, 3, 6), 0.1
    theta = streams.rng(0, "noise", 2).standard_normal(6)
    gamma, drift = samples.gamma(theta), samples.drift(theta)
    step = theta - rate * samples.gradients(theta)
    apart = [np.abs((1 - rate * each)[:, None] * theta - rate * drift - step).max()
             for each in (gamma, np.ones_like(gamma))]  # fmt: skip
    across = np.abs((drift - samples.biases) @ theta).max()
    yield "TRAJ-13.split", "float64", max(apart[0], across), apart[1]
    samples = Samples.draw(500, 16, D)
    thetas = streams.rng(0, "noise", 3).standard_normal((20, D)) * np.sqrt(RATE_OF_LEMMA_1 / 2)
    cosines = np.concatenate([_cosines(samples.drift(each), each) for each in thetas])
    whole = np.concatenate([_cosines(samples.gradients(each), each) for each in thetas])
    rms = [np.sqrt(D * np.mean(each**2)) for each in (cosines, whole)]
    yield "TRAJ-13.sample", f"d={D}", *rms


def _cosines(vectors: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return vectors @ theta / np.linalg.norm(vectors, axis=1) / np.linalg.norm(theta)


def _norms() -> Iterator[tuple]:
    """Eqs. 8 and 9: TRAJ-14 with the drift made orthogonal, and as it is for a control."""
    samples = Samples.draw(200, 3, 6)
    theta = streams.rng(0, "noise", 4).standard_normal(6)
    square, gamma = theta @ theta, samples.gamma(theta)
    changes = []
    for drift in (project_across(samples.drift(theta), theta), samples.drift(theta)):
        rate = 2 * gamma * square / ((drift**2).sum(1) + gamma**2 * square)
        after = (1 - rate * gamma)[:, None] * theta - rate[:, None] * drift
        change = (after**2).sum(1) / square - 1
        changes.append(change[np.abs(change).argmax()])
    yield "TRAJ-14", "float64", *changes


def _terms_dropped() -> Iterator[tuple]:
    """TRAJ-14.sample and TRAJ-14.mean: orders of what eq. 8 leaves out where b_x is not orthogonal."""
    samples = Samples.draw(200, 3, 6)
    theta = streams.rng(0, "noise", 5).standard_normal(6)
    square, gamma, drift = theta @ theta, samples.gamma(theta), samples.drift(theta)
    dropped = []
    for rate in SMALL_RATES:
        after = ((theta - rate * samples.gradients(theta)) ** 2).sum(1) - square
        equation_8 = -rate * gamma * (2 - rate * gamma) * square + rate**2 * (drift**2).sum(1)
        dropped.append(after - equation_8)
    slopes = [fit_power(SMALL_RATES, np.abs(each)) for each in np.transpose(dropped)]
    yield "TRAJ-14.sample", "", float(np.median(slopes)), np.nan
    of_mean = fit_power(SMALL_RATES, np.abs(np.mean(dropped, axis=1)))
    yield "TRAJ-14.mean", "", of_mean, np.nan


def _ellipsoids() -> Iterator[tuple]:
    """TRAJ-16.general and TRAJ-16.coupled: where a diagonal, and where any noise keeps the weights."""
    rng, rate = streams.rng(0, "noise", 6), 0.2
    curvatures, noise = rng.uniform(0.2, 2.0, 6), rng.uniform(0.5, 2.0, 6)
    rates = np.full(2000, rate)  # (1 - 0.2 * 0.2)^2000 is far below a rounding
    settled = np.sqrt(second_moments(curvatures, noise, rates, start=0.0)["theta"][-1])
    ratios = find_axes(curvatures, noise, rate) / settled
    sphere = np.sqrt((settled**2).mean()) / settled
    yield "TRAJ-16.general", "", farthest_from_1(ratios), farthest_from_1(sphere)
    curvature, coupled = _draw_symmetric(rng, curvatures), _draw_symmetric(rng, noise)
    gamma, iterated = np.eye(6) - rate * curvature, np.zeros((6, 6))
    for _ in rates:
        iterated = gamma @ iterated @ gamma + rate**2 * coupled
    exact = stationary_covariance(curvature, coupled, rate)
    printed = rate * np.linalg.inv(2 * curvature - rate * curvature @ curvature) @ coupled
    apart = [np.abs(each - iterated).max() / np.abs(iterated).max() for each in (exact, printed)]
    yield "TRAJ-16.coupled", "", *apart


def _draw_symmetric(rng: np.random.Generator, eigenvalues: np.ndarray) -> np.ndarray:
    vectors, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    matrix = vectors * eigenvalues @ vectors.T
    return (matrix + matrix.T) / 2


def _radii() -> Iterator[tuple]:
    """Lemma 1 and its errata: E-3.gamma, E-3.printed, E-3.constant, E-3.boundary."""
    d, m, rate = D, FEW_ROWS, RATE_OF_LEMMA_1
    samples = Samples.draw(200, 3, 6, whitened=True)
    theta = streams.rng(0, "noise", 7).standard_normal(6)
    yield "E-3.gamma", "", samples.gamma(theta).mean(), np.nan
    h2, noise = random_rows.second_order(d, m), random_rows.noise_square(d)
    settled = random_rows.settle_square(d, m, rate)
    printed, corrected = rate * noise / 2, rate * noise / (2 - rate * h2)
    yield "E-3.printed", f"d={d} m={m}", printed / settled, corrected / settled
    constant = np.sqrt(random_rows.offset_square(m) / noise)
    yield "E-3.constant", f"d={d} m={m}", constant, np.nan
    edge = find_edge(lambda each: random_rows.growth(d, m, each), 4.0 / h2)
    yield "E-3.boundary", f"d={d} m={m}", edge * h2, np.nan


def _averages() -> Iterator[tuple]:
    """What averages do to where the weights are: TRAJ-30.quad, E-16.norm, E-16.average."""
    unit = np.eye(1)
    raw = stationary_covariance(unit, unit, 0.05)
    far = np.zeros(501)
    far[[0, -1]] = 0.5  # 0.95^500 < 1e-8
    norm = np.sqrt(average_covariance(unit, unit, 0.05, far) / raw).item()
    near = np.sqrt(average_covariance(unit, unit, 0.05, np.full(2, 0.5)) / raw).item()
    yield "E-16.norm", "", norm, near
    x = 10 / TRIP
    yield "E-16.average", "x=10 k=2000", (1 + (1 - x) ** TRIP) / 2 - (1 - x / 2) ** TRIP, np.nan
    yield "TRAJ-30.quad", "", _worst_spacing(1.0), _worst_spacing(10.0)


def _worst_spacing(most: float) -> float:
    """The largest loss of gain by averaging every c-th step; c lr kappa below `most`."""
    worst = 0.0
    for c in SPACINGS:
        gamma = 1 - most / c * np.array([0.01, 0.03, 0.1, 0.3, 0.6, 0.99])
        gamma = gamma[gamma > -1]
        for n in (10, 30, 100):
            dense = shrinkage_of_points(gamma, c * n)
            apart = np.abs(shrinkage_of_points(gamma**c, n) - dense) / (1 - dense)
            worst = max(worst, float(apart.max()))
    return worst


def _paths() -> Iterator[tuple]:
    """Lemma 2: TRAJ-25.any-kernel on paths that are drawn, and E-15."""
    rng, k = streams.rng(0, "noise", 8), 50
    start, moves, rates = (
        rng.standard_normal(5),
        rng.standard_normal((k, 5)),
        rng.uniform(0.1, 1, k),
    )
    path = start - np.concatenate([np.zeros((1, 5)), np.cumsum(rates[:, None] * moves, axis=0)])
    mu = rng.standard_normal(k + 1)
    mu /= mu.sum()
    tails = kernel_weights(mu)
    ends = [start - (rates * w) @ moves for w in (tails, tails[::-1])]
    apart = [np.abs(end - mu @ path).max() / np.abs(path).max() for end in ends]
    yield "TRAJ-25.any-kernel", "float64", *apart
    # Printed: plus, and the step at t2 as well; of that step only its share of the others is known.
    minus, plus = start - rates @ moves, start + rates @ moves + rates[-1] * moves[-1]
    is_minus, is_plus = (np.abs(each - path[-1]).max() < EXACTLY for each in (minus, plus))
    yield "E-15", "", float(is_minus and not is_plus), np.nan
