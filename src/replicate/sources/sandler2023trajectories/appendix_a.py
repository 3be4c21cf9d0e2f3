"""Appendix A: whitening, averages of a trajectory, two points, n points, and the proof of Lemma 2."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import streams
from replicate.averaging import swa, two_point
from replicate.problems import (
    average_covariance,
    overlap,
    random_rows,
    shrinkage,
    shrinkage_of_points,
    stationary_covariance,
)
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories._fits import find_edge, fit_power
from replicate.sources.sandler2023trajectories._kernels import (
    RATES_AND_CURVATURES,
    equation_21,
    geometric_sums,
    list_kernels,
    space,
)
from replicate.sources.sandler2023trajectories._whitened import Whitened
from replicate.sources.sandler2023trajectories.presets import ALGEBRA
from replicate.sources.sandler2023trajectories.settings import Settings

DISTANCES = (1, 2, 5, 10, 30, 100)  # Delta
STABLE_RANGE = np.linspace(0.01, 1.99, 100)  # the stable range of footnote 1
COUNTS = range(2, 11)  # n
SERIES = 0.95  # Gamma of TRAJ-56 and E-11
DELTA = 1 / 450  # section 5.1


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def appendix_a(settings: Settings) -> pd.DataFrame:
    """One row per check: columns claim, case, value, control (NaN where none)."""
    checks = (_symbols, _replacements, _whitening, _solutions, _filters, _finite, _stationary, _decays,
             _two_points, _edges, _points, _limits, _weights)  # fmt: skip
    rows = [row for check in checks for row in check()]
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def _symbols() -> Iterator[tuple]:
    """The identities of Appendix A in sympy, which is opened only here."""
    from replicate.sources.sandler2023trajectories import _equations

    yield "TRAJ-53", "symbols", *_equations.solve_recursion(5)
    yield "TRAJ-54", "symbols", *_equations.filter_noise(3, 3)
    left = sum(_equations.sum_geometric(n) for n in range(2, 9))
    yield "TRAJ-60.closed-form", "symbols", left, np.nan
    yield "TRAJ-62.weights", "symbols", *_equations.weigh_printed("swa", 6)
    yield "TRAJ-63.weights", "symbols", *_equations.weigh_printed("ema", 6)


def _replacements() -> Iterator[tuple]:
    """TRAJ-51: eq. 14 in place of eq. 5, A_x of m Gaussian rows."""
    for claim, m, rate in (("TRAJ-51.small", 64, 0.02), ("TRAJ-51.large", 4, 0.05)):
        simple = np.trace(stationary_covariance(np.eye(64), np.eye(64), rate))
        ratio = random_rows.settle_square(64, m, rate) / simple
        yield claim, f"d=64 m={m} lr={rate:g}", ratio, np.nan


def _whitening() -> Iterator[tuple]:
    """TRAJ-52, E-6 and TRAJ-57.coupled: coordinates in which the noise is white, A and C not commuting."""
    system = Whitened.draw(6, 0.2, 10)
    noise = streams.rng(0, "noise", 11).standard_normal((60, 6))
    u = system.walk(np.linalg.solve(system.root, np.ones(6)), noise)
    theta = np.ones(6)
    for each in noise:  # eq. 14 with b = -Q xi
        theta = theta - system.rate * (system.curvature @ theta - system.root @ each)
    yield "TRAJ-52.path", "", np.abs(system.root @ u[-1] - theta).max(), np.abs(u[-1] - theta).max()
    eigenvalues = [
        np.sort(np.linalg.eigvals(each).real) for each in (system.omega, system.curvature)
    ]
    of_noise = np.sort(np.linalg.eigvalsh(system.noise))
    apart = [np.abs(each - eigenvalues[1]).max() for each in (eigenvalues[0], of_noise)]
    yield "TRAJ-52.spectrum", "", *apart
    printed = system.equation_19(np.ones(1))
    apart = np.linalg.norm(printed - printed.T) / np.linalg.norm(printed)
    yield "E-6.asymmetry", "", apart, _commute().max()
    for name in ("swa k=10", "two-point k=10", "any weights"):
        mu = list_kernels()[name]
        printed = system.root @ system.equation_19(mu) @ system.root.T
        exact = average_covariance(system.curvature, system.noise, system.rate, mu)
        losses = [np.trace(system.curvature @ each) / 2 for each in (printed, exact)]
        raw = stationary_covariance(system.curvature, system.noise, system.rate)
        alone = np.trace(system.curvature @ raw) / 2 * overlap(mu)[0]
        yield "E-6.loss", name, losses[0] / losses[1], alone / losses[1]
        direct = _sum_directly(system, raw, mu)
        apart = [np.abs(each - direct).max() / np.abs(direct).max() for each in (exact, printed)]
        yield "TRAJ-57.coupled", name, *apart


def _commute() -> np.ndarray:
    """|F - F^T| where A and C share their eigenvectors."""
    system = Whitened(np.diag(np.linspace(0.2, 2.0, 6)), np.diag(np.linspace(1.0, 2.0, 6)), 0.2)
    printed = system.equation_19(np.ones(1))
    return np.abs(printed - printed.T)


def _sum_directly(system: Whitened, raw: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """sum_jk mu_j mu_k E theta_j theta_k^T, term by term."""
    gamma = np.eye(len(raw)) - system.rate * system.curvature
    powers = [np.linalg.matrix_power(gamma, t) for t in range(len(mu))]
    total = np.zeros_like(raw)
    for j, first in enumerate(mu):
        for k, second in enumerate(mu):
            late = powers[abs(j - k)]
            total += first * second * (late @ raw if j >= k else raw @ late)
    return total


def _solutions() -> Iterator[tuple]:
    """TRAJ-53, TRAJ-54, E-11: closed forms of the recursion against the recursion."""
    system, rng, steps = Whitened.draw(4, 0.3, 12), streams.rng(0, "noise", 13), 40
    noise, start = rng.standard_normal((steps + 1, 4)), rng.standard_normal(4)
    path, powers = system.walk(start, noise[:steps]), _powers(system.gamma, steps + 1)
    ends = [powers[steps] @ start + system.rate * sum(map(np.matmul, powers[steps - 1 :: -1], noise[first:]))
            for first in (0, 1)]  # fmt: skip
    right, printed = (np.abs(each - path[-1]).max() for each in ends)
    yield "TRAJ-53", "float64", right, printed
    yield "E-11.printed", "", printed, right
    mu, back = list_kernels()["any weights"], list_kernels()["any weights"][::-1]
    longer = system.walk(start, rng.standard_normal((100, 4)))
    moves = (longer[1:] - longer[:-1] @ system.gamma.T) / system.rate
    averages, filtered, turned = (_average(values, weights) for values, weights in
                                  ((longer, mu), (moves, mu), (moves, back)))  # fmt: skip
    apart = [np.abs(averages[:-1] @ system.gamma.T + system.rate * each - averages[1:]).max()
             for each in (filtered, turned)]  # fmt: skip
    yield "TRAJ-54", "float64", *apart


def _average(values: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Averages of every len(mu) neighbouring rows."""
    return np.array([mu @ values[t : t + len(mu)] for t in range(len(values) - len(mu) + 1)])


def _powers(matrix: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.linalg.matrix_power(matrix, t) for t in range(count)]


def _filters() -> Iterator[tuple]:
    """TRAJ-55 and E-10.sign: the covariance of filtered noise, from the filter's matrix."""
    worst, turned, opposite = 0.0, 0.0, 0.0
    for mu in list_kernels().values():
        k = len(mu) - 1
        matrix = np.zeros((k + 1, 2 * k + 1))
        for t in range(k + 1):
            matrix[t, t : t + k + 1] = mu
        covariance = matrix @ matrix.T
        worst = max(worst, np.abs(covariance[0] - overlap(mu)).max())
        forwards, backwards = covariance[0, 1:], covariance[1:, 0]
        turned = max(turned, np.abs(backwards - forwards).max())
        opposite = max(opposite, np.abs(backwards + forwards).max())
    yield "TRAJ-55", "", worst, np.nan
    yield "E-10.sign", "", turned, opposite


def _finite() -> Iterator[tuple]:
    """TRAJ-56: eq. 18 over the double sum that it stands for; at T = 20 for a control."""
    ratios = []
    for steps in (200, 20):
        mu = np.full(50, 1 / 50)
        overlaps = np.zeros(steps + 1)
        overlaps[: min(50, steps + 1)] = overlap(mu)[: steps + 1]
        powers = SERIES ** np.arange(steps + 1)
        apart = np.abs(np.subtract.outer(np.arange(steps + 1), np.arange(steps + 1)))
        exact = powers @ overlaps[apart] @ powers
        printed = (powers**2).sum() * (overlaps[0] + 2 * overlaps[1:] @ powers[1:])
        ratios.append(printed / exact)
    yield "TRAJ-56", "", *ratios


def _stationary() -> Iterator[tuple]:
    """TRAJ-57.exact, TRAJ-57.range, TRAJ-58: eq. 19 for one direction."""
    kernels = list_kernels()
    worst = [_worst_gap(mu, 1 - lr * kappa) for mu in kernels.values() for lr, kappa in RATES_AND_CURVATURES]  # fmt: skip
    yield (
        "TRAJ-57.exact",
        "",
        max(worst),
        _worst_gap(kernels["swa k=100"], 0.95, kernels["ema k=100"]),
    )
    yield "TRAJ-57.range", "", max(_worst_gap(mu, -0.5) for mu in kernels.values()), np.nan
    k = np.unique(np.round(np.logspace(0, 4, 60)).astype(int))  # x from 0.01 to 100
    factors = np.array([shrinkage_of_points(0.99, n) for n in k])
    yield "TRAJ-58.shape", "", float((np.diff(factors) < 0).all()), np.nan
    long, short = (shrinkage_of_points(1 - x / 2000, 2000) for x in (10, 0.01))
    yield "TRAJ-58.long", "x=10 k=2000", float(long), float(short)


def _worst_gap(mu: np.ndarray, gamma: float, other: np.ndarray | None = None) -> float:
    """|eq. 19 / the double sum over kernel and autocovariance - 1|; other: the kernel of eq. 19."""
    apart = np.abs(np.subtract.outer(np.arange(len(mu)), np.arange(len(mu))))
    return float(
        abs(shrinkage(gamma, mu if other is None else other) / (mu @ gamma**apart @ mu) - 1)
    )


def _decays() -> Iterator[tuple]:
    """E-7: how the start is forgotten, and after how long."""
    gamma, steps = np.diag([0.99, 0.5]), 1000
    fall = np.log(np.linalg.norm(np.linalg.matrix_power(gamma, steps), 2))
    yield "E-7.decay", "", fall / (steps * np.log(0.99)), fall / (-0.99 * steps)
    offsets = 0.99 ** np.arange(1000)
    time = np.interp(1.0, -np.log(offsets), np.arange(1000))  # in steps, between them too
    yield "E-7.time", "", time * 0.01, 0.01 / 0.99


def _two_points() -> Iterator[tuple]:
    """TRAJ-59, TRAJ-64.neighbours, TRAJ-64.any-rate, E-13.rate: eq. 20."""
    usual, edge = np.linspace(0.01, 0.99, 99), STABLE_RANGE
    for claim, x in (("TRAJ-59.variance", usual), ("TRAJ-64.any-rate", edge)):
        factors = ((shrinkage(1 - x, two_point(n)), (1 + (1 - x) ** n) / 2) for n in DISTANCES)
        yield (
            claim,
            "",
            max(np.abs(exact / printed - 1).max() for exact, printed in factors),
            np.nan,
        )
    for claim, x in (("TRAJ-59.rate", 0.05), ("E-13.rate", 0.5)):
        average = _settle(x) * shrinkage(1 - x, two_point(500))
        yield claim, f"lr kappa={x:g}", float(average / _settle(x / 2)), np.nan
    near, far = (float(shrinkage(0.99, two_point(delta))) for delta in (1, 500))
    yield "TRAJ-64.neighbours", "", near, far


def _settle(x: float) -> float:
    """The stationary variance at curvature 1 and rate x."""
    return stationary_covariance(np.eye(1), np.eye(1), x).item()


def _edges() -> Iterator[tuple]:
    """TRAJ-64.boundary: where (1 - lambda kappa)^2, the growth of a variance in a step, passes 1."""
    kappa = 0.7
    edge = find_edge(lambda rate: (1 - rate * kappa) ** 2, 4.0 / kappa)
    yield "TRAJ-64.boundary", "", edge * kappa, np.nan


def _points() -> Iterator[tuple]:
    """TRAJ-60 and E-10.index: n points Delta steps apart."""
    gamma = np.concatenate([np.linspace(-0.9, 0.95, 38), [0.98]])
    worst = swapped = 0.0
    for n in range(2, 9):
        for delta in DISTANCES:
            g, k = gamma**delta, np.arange(1, n)[:, None]
            sums = (g**k).sum(0), (k * g**k).sum(0)
            closed = geometric_sums(g, n)
            worst = max(worst, *(np.abs(a - b).max() for a, b in zip(closed, sums, strict=True)))
            exact = shrinkage(gamma, space(n, delta))
            worst = max(worst, np.abs(equation_21(gamma, n, delta) - exact).max())
            swapped = max(swapped, np.abs(equation_21(gamma, 2, delta) - exact).max())
    yield "TRAJ-60.closed-form", "float64", worst, swapped
    gaps = [np.abs(overlap(space(n, 7))[::7] - (n - np.arange(n)) / n**2).max() for n in COUNTS]
    yield "TRAJ-60.overlap", "", max(gaps), np.nan
    mu = list_kernels()["any positive weights"]
    printed = np.array([mu[k] * mu[k:].sum() for k in range(len(mu))])
    equal = np.full(10, 0.1)
    hidden = np.array([equal[k] * equal[k:].sum() for k in range(10)])
    apart = [np.abs(printed - overlap(mu)).max(), np.abs(hidden - overlap(equal)).max()]
    yield "E-10.index", "", *apart


def _limits() -> Iterator[tuple]:
    """TRAJ-61: n F / S at Gamma^Delta = g against 1 + 2 (n - 1) g / n."""
    deviation, remainder = 0.0, 0.0
    for n in COUNTS:
        exact = n * shrinkage_of_points(1e-6, n)
        deviation = max(deviation, abs(exact - 1))
        remainder = max(remainder, abs(exact - 1 - 2 * (n - 1) / n * 1e-6) / 1e-6)
    yield "TRAJ-61.rate", "", float(deviation), np.nan
    yield "TRAJ-61.remainder", "", float(remainder), np.nan
    g = np.logspace(-5, -3, 9)
    yield (
        "TRAJ-61.order",
        "n=10",
        fit_power(g, 10 * shrinkage_of_points(g, 10) - 1 - 1.8 * g),
        np.nan,
    )
    yield "TRAJ-61.two", "n=2", float(np.abs(2 * shrinkage_of_points(g, 2) - 1 - g).max()), np.nan


def _weights() -> Iterator[tuple]:
    """TRAJ-62, TRAJ-63: frozen steps, one dimension each, so that an average shows their weights."""
    for k in (10, 1000):
        path = np.tril(np.ones((k + 1, k)), -1)  # theta_{t1 + j} = the first j steps
        left = np.arange(k, 0, -1.0)  # t2 - t
        apart = [np.abs(swa(k) @ path - each).max() for each in (left / k, (left - 1) / k)]
        yield "TRAJ-62.weights", f"k={k}", *apart
        delta = 5 / k
        mu = delta * (1 - delta) ** np.arange(k, -1, -1.0)  # eq. 26
        powers = (left, left - 1)
        apart = [np.abs(mu @ path - (1 - (1 - delta) ** each)).max() for each in powers]
        yield "TRAJ-63.weights", f"k={k}", *apart
    weights = [(DELTA * (1 - DELTA) ** np.arange(k + 1.0)).sum() for k in (3000, 450)]
    yield "TRAJ-63.start", "k=3000", *weights
