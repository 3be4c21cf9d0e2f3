"""P(firm word) = P(the whole interval lies in the band) + P(all of it lies outside)

at n seeds, if mean and spread of the seeds are those that a pilot has shown. m +- t s / sqrt(n) lies
above an edge e with the probability that a noncentral t with n - 1 degrees of freedom and
noncentrality (mean - e) sqrt(n) / spread exceeds t, the quantile of the kind's level; below it by
symmetry. Inside a band with two edges both have to hold, for which the bound P + P - 1 is taken.
Holm's correction is not in it, which lowers what a family of many rows can decide.
"""

import math
from collections.abc import Mapping

from replicate.claims.measure import FEWEST_SEEDS
from replicate.claims.statistics import LEVELS


def power(mean: float, spread: float, n: int, kind: str, band: tuple[float, float]) -> float:
    """The probability of a firm word. spread: standard deviation of the seeds, above 0; kind: a key
    of LEVELS; band: (at_least, at_most), infinite where open. 0 for fewer than FEWEST_SEEDS.
    """
    if n < FEWEST_SEEDS:
        return 0.0
    from scipy import stats

    t = stats.t.ppf((1 + LEVELS[kind]) / 2, n - 1)

    def above(edge: float) -> float:
        if math.isinf(edge):
            return float(edge < 0)
        return float(stats.nct.sf(t, n - 1, (mean - edge) * math.sqrt(n) / spread))

    def below(edge: float) -> float:
        if math.isinf(edge):
            return float(edge > 0)
        return float(stats.nct.sf(t, n - 1, (edge - mean) * math.sqrt(n) / spread))

    at_least, at_most = band
    inside = max(0.0, above(at_least) + below(at_most) - 1)
    return min(1.0, inside + below(at_least) + above(at_most))


def spread_of(row: Mapping) -> float:
    """The standard deviation of the seeds behind a row of verdicts, from half its interval; NaN
    where it has none. Of a ratio the interval is taken as if it were symmetric.
    """
    half, n = (row["high"] - row["low"]) / 2, row["n"]
    if not (n >= 2 and math.isfinite(half) and half > 0):
        return math.nan
    from scipy import stats

    return float(half * math.sqrt(n) / stats.t.ppf((1 + row["level"]) / 2, n - 1))
