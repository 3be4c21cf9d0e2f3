"""From per-run numbers to estimates: one rule for every interval and every p.

The unit is the seed: what was measured at several branches of one seed is averaged. A mean gets
Student's t interval, a ratio of means Fieller's. The p of an estimate answers the claim's band
[a, b]:

    p_in  = max(p(mean > a), p(mean < b))     p_out = min(p(mean < a), p(mean > b))     p = min(p_in, p_out)

each a one-sided t test; for a ratio the test at an edge e is that of numerator - e denominator.
Units without any spread have no t: n of them on one side of an edge get the sign test's 2^-n.
"""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

LEVELS = {
    "equivalence": 0.90,
    "ordering": 0.95,
    "estimate": 0.95,
}  # 90 % is the interval of two one-sided tests
GATE = 0.01  # a ratio of gains means something only if the gain is above 0 at this p


@dataclass(frozen=True)
class Estimate:
    """A number with its interval. An exact one has low == value == high and neither level nor p."""

    value: float
    low: float
    high: float
    level: float = math.nan  # share of such intervals that hold the truth
    n: int = 1  # seeds
    p: float = math.nan
    skewness: float = math.nan  # of the units, see `skewness`
    reason: str = ""  # why no verdict can be drawn from it, if so
    hint: str = ""  # how many seeds would decide, where the interval does not

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """A number that algebra or arithmetic gives, without sampling."""
        return cls(value, value, value)


def units(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed: means over its branches, which share the seed's data, order and weights.

    table: columns seed, branch, and the numbers to be averaged. A NaN, of a run that diverged or
    never got there, makes its seed NaN.
    """
    seeds, places = np.unique(table["seed"].to_numpy(), return_inverse=True)
    counts = np.bincount(places)
    means = {
        name: np.bincount(places, weights=table[name].to_numpy(dtype=np.float64)) / counts
        for name in table
        if name not in ("seed", "branch")
    }
    return pd.DataFrame({"seed": seeds, **means})


def estimate(table: pd.DataFrame, kind: str, band: tuple[float, float]) -> Estimate:
    """The mean of column `value`, or the ratio of the means of `numerator` and `denominator`, with
    interval and p.

    table: one row per (seed, branch), columns seed, branch and value, or seed, branch, numerator and
    denominator. kind: a key of LEVELS. band: (at_least, at_most), infinite where open. Seeds without
    a number or too few of them give an estimate without bounds whose `reason` says so. Raises
    ValueError on an unknown kind or a missing column.
    """
    if kind not in LEVELS:
        raise ValueError(f"kind must be one of {', '.join(LEVELS)}, got {kind!r}")
    ratio = "numerator" in table
    numbers = ["numerator", "denominator"] if ratio else ["value"]
    if absent := {"seed", "branch", *numbers} - set(table):
        raise ValueError(
            f"table must have columns seed, branch and {' and '.join(numbers)}, lacks {sorted(absent)}"
        )
    if table["seed"].isna().any() or table["branch"].isna().any():
        raise ValueError("every row must have a seed and a branch, got NaN")
    rows = units(pd.DataFrame({name: table[name] for name in ("seed", "branch", *numbers)}))
    values = np.column_stack([rows[name] for name in numbers])
    described = {"n": len(values), "level": LEVELS[kind]}
    if reason := _why_open(values):
        value = math.nan
        if len(values) == 1 and np.isfinite(values).all():
            value = _quotient(*values[0]) if ratio else values[0, 0]
        return Estimate(value, -math.inf, math.inf, p=1.0, reason=reason, **described)
    if ratio:
        return _ratio(values[:, 0], values[:, 1], band, described)
    return _mean(values[:, 0], band, described)


def skewness(values: np.ndarray) -> float:
    """g = m3 / m2^(3/2) of the units, (n,); m2 and m3 their second and third central moments.

    NaN without spread.
    """
    away = values - values.mean()
    second = (away**2).mean()
    return float((away**3).mean() / second**1.5) if np.ptp(values) > 0 else math.nan


def is_skewed(skewness: float, n: int) -> bool:
    """Whether units are more skewed than all but one in twenty samples of n normal numbers.

    Their g has mean 0 and variance 6 (n - 2) / ((n + 1)(n + 3)). Student's interval of skewed units
    lies wrongly on one side more often than it says.
    """
    return n > 2 and abs(skewness) > 1.96 * math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))


def _why_open(values: np.ndarray) -> str:
    """Why these units, (n, columns), have no interval; "" if they have one."""
    lost = int((~np.isfinite(values).all(axis=1)).sum())
    if lost:
        return f"{lost} of {len(values)} seeds have no number"
    return {0: "no seeds", 1: "one seed has no interval"}.get(len(values), "")


def _mean(values: np.ndarray, band: tuple[float, float], described: dict) -> Estimate:
    low, high = _student(values, described["level"])
    p = _p(lambda edge: values - edge, band)
    return Estimate(values.mean(), low, high, p=p, skewness=skewness(values), **described)


def least(tables: Sequence[pd.DataFrame], band: tuple[float, float]) -> Estimate:
    """The least of several means, to be held against a band that is open above: all of them have to
    lie in it.

    tables: columns seed, branch and value of each, over the same rows. The interval's low end is
    the lowest of all low ends and its high end the lowest high end, so that it lies in the band
    only if each mean does, and outside as soon as one does. p: the largest of the p's that they lie
    in it, or the smallest that one lies outside times their number, whichever is less. Raises
    ValueError without tables, or if their rows differ.
    """
    if not tables:
        raise ValueError("tables must hold at least one table, got none")
    rows = [set(map(tuple, table[["seed", "branch"]].to_numpy())) for table in tables]
    if any(each != rows[0] for each in rows):
        raise ValueError("all tables must have the same rows (seed, branch)")
    estimates = [estimate(table, "ordering", band) for table in tables]
    for each in estimates:
        if each.reason:
            return each
    values = [units(table).value.to_numpy() - band[0] for table in tables]
    inside = max(_one_sided(value, above=True) for value in values)
    outside = min(_one_sided(value, above=False) for value in values)
    lowest = min(estimates, key=lambda each: each.value)
    low, high = min(each.low for each in estimates), min(each.high for each in estimates)
    p = min(inside, min(1.0, len(values) * outside))
    return replace(lowest, low=low, high=high, p=p)


def holm(p: Sequence[float]) -> np.ndarray:
    """p adjusted for their number, in their order: the r-th smallest of n times n - r + 1, never
    falling, at most 1. Holm 1979, by statsmodels.
    """
    if not len(p):
        return np.empty(0)
    from statsmodels.stats.multitest import multipletests  # here: a machine that runs needs none

    # multipletests collects garbage at each call, a quarter of a second where torch is loaded;
    # objects that are frozen meanwhile are not looked through.
    gc.freeze()
    try:
        return multipletests(p, method="holm")[1]
    finally:
        gc.unfreeze()


def seeds_needed(result: Estimate, band: tuple[float, float], most: int = 1_000_000) -> int:
    """The fewest units at which Student's interval would lie on one side of the band's nearest
    edge, at most `most`.

    Mean and standard deviation staying what they are in `result`, an estimate of a mean: t_{n-1} sd
    / sqrt(n) < |mean - edge|. Raises ValueError if `result` has no interval or the band no edge.
    """
    edges = [edge for edge in band if math.isfinite(edge)]
    if not edges or result.n < 2 or not math.isfinite(result.high - result.low):
        raise ValueError(
            f"result must have an interval and band an edge, got n = {result.n} and {band}"
        )
    sd = (result.high - result.low) / 2 / _quantile(result.level, result.n) * math.sqrt(result.n)
    away = min(abs(result.value - edge) for edge in edges)
    low, high = 2, most
    while low < high:  # t_{n-1} / sqrt(n) falls with n
        n = (low + high) // 2
        low, high = (
            (low, n) if _quantile(result.level, n) * sd < away * math.sqrt(n) else (n + 1, high)
        )
    return low


def fieller(numerator: np.ndarray, denominator: np.ndarray, level: float) -> tuple[float, float]:
    """The interval of mean(numerator) / mean(denominator): all e at which numerator - e denominator
    may have mean 0.

    Fieller 1954, for paired units, (n,) each. (-inf, inf) if the denominator's mean is not
    separated from 0 at this level, where the set of such e is unbounded.
    """
    n = len(numerator)
    t2 = _quantile(level, n) ** 2 / n
    x, y = numerator.mean(), denominator.mean()
    sxx, sxy, _, syy = np.cov(numerator, denominator).ravel()
    # The e with (x - e y)^2 <= t2 (sxx - 2 e sxy + e^2 syy): the inside of a parabola's roots if it
    # opens upwards.
    a, b, c = y * y - t2 * syy, x * y - t2 * sxy, x * x - t2 * sxx
    if a <= 0:
        return -math.inf, math.inf
    half = math.sqrt(max(0.0, b * b - a * c))
    return (b - half) / a, (b + half) / a


def _ratio(
    numerator: np.ndarray, denominator: np.ndarray, band: tuple[float, float], described: dict
) -> Estimate:
    value = _quotient(numerator.mean(), denominator.mean())
    low, high = fieller(numerator, denominator, described["level"])
    p = _p(lambda edge: numerator - edge * denominator, band)
    known = np.ptp(denominator) == 0 and denominator[0] > 0
    gate = 0.0 if known else _one_sided(denominator, above=True)
    if gate < GATE:
        g = skewness(numerator - value * denominator)
        return Estimate(value, low, high, p=p, skewness=g, **described)
    # No p of a ratio means anything where its denominator may be 0 or negative.
    reason = f"gain not above 0 at p < {GATE:g} (p = {gate:.2g})"
    return Estimate(value, low, high, p=1.0, reason=reason, **described)


def _quotient(numerator: float, denominator: float) -> float:
    """The quotient, NaN or infinite over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(numerator) / np.float64(denominator))


def _student(values: np.ndarray, level: float) -> tuple[float, float]:
    half = _quantile(level, len(values)) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def _quantile(level: float, n: int) -> float:
    """Half the width of Student's interval of n values, in standard errors."""
    from scipy import special  # here, so that a machine that only runs needs none of it

    return float(special.stdtrit(n - 1, (1 + level) / 2))


def _p(beyond, band: tuple[float, float]) -> float:
    """p = min(p_in, p_above, p_below); beyond(edge): per-unit numbers, positive on average if the truth
    lies above the edge.

    p_above and p_below are sums over both edges: a truth at one edge is called outside beyond either,
    which matters where the band is narrower than a standard error.
    """
    edges = [beyond(edge) for edge in band if math.isfinite(edge)]
    if not edges:
        raise ValueError(f"band must have at least one finite edge, got {band}")
    above, below = ([_one_sided(each, above=side) for each in edges] for side in (True, False))
    if not math.isfinite(band[0]):
        return min(*below, *above)
    if not math.isfinite(band[1]):
        return min(*above, *below)
    return min(max(above[0], below[1]), sum(above), sum(below))


def _one_sided(values: np.ndarray, above: bool) -> float:
    """p of the t test whose alternative is mean > 0 (or < 0); without spread, of the sign test."""
    if np.ptp(values) == 0:
        on_that_side = values[0] > 0 if above else values[0] < 0
        return 0.5 ** len(values) if on_that_side else 1.0
    from scipy import special

    t = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(special.stdtr(len(values) - 1, -t if above else t))
