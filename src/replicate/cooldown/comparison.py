"""What a comparison has measured: a row a branch point, and from these the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replicate.averaging.kernels import describe
from replicate.claims.measure import FEWEST_SEEDS

if TYPE_CHECKING:
    import pandas as pd

    from replicate.claims.statistics import Estimate

BAND = (0.8, 1.25)  # within which two gains count as the same: as for the source's own Table 1
LOSSES = ("raw", "average", "cool_down", "constant", "other_cool_down", "replay")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The rows of a comparison with kernel mu.

    table: one row a run and branch point. Losses of the ends, in the loss's unit: raw, average,
    cool_down, constant (the same steps at the full rate on other batches), other_cool_down, replay
    (the cool-down once more, at a run's first branch point). Distances: apart (average and
    cool-down), independent (the two cool-downs), travelled (average and raw), replayed_apart.
    predicted_average and predicted_cool_down: gains by curvature and noise, NaN where not asked for.
    """

    table: pd.DataFrame
    mu: np.ndarray

    @classmethod
    def of(cls, rows: list[dict], mu: np.ndarray) -> Comparison:
        """From one dict a branch point."""
        import pandas as pd

        table = pd.DataFrame(rows)
        columns = [*LOSSES, "apart", "independent", "travelled", "replayed_apart",
                   "predicted_average", "predicted_cool_down"]  # fmt: skip
        return cls(table.reindex(columns=["run", "branch", "start", *columns]), mu)

    @property
    def unit(self) -> str:
        """What an interval is of: runs, or branch points where there is one run."""
        return "branch point" if self.table.run.nunique() == 1 else "run"

    def ratio(self) -> Estimate:
        """Gain of the average over gain of the cool-down, with its 90 % interval (Fieller's)."""
        return self._estimate("equivalence", numerator=self._gain("average"),
                              denominator=self._gain("cool_down"))  # fmt: skip

    @property
    def word(self) -> str:
        """yes, no or undecided: whether averaging does what the cool-down does."""
        return "undecided" if self._why_open() else "yes" if self._lies_in_band() else "no"

    @property
    def answer(self) -> str:
        """The answer in a sentence."""
        ratio = self.ratio()
        k = len(self.mu) - 1
        numbers = f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"
        size = f"{ratio.n} {self.unit}{'s' if ratio.n > 1 else ''}"
        gain = (
            f"{describe(self.mu)} gains {numbers} of what a cool-down over {k} steps gains ({size})"
        )
        if reason := self._why_open():
            return f"Undecided: {gain}; {reason}."
        if self._lies_in_band():
            return f"Yes: {gain}."
        return f"No: {gain}; the same would be {BAND[0]} to {BAND[1]}."

    @property
    def summary(self) -> pd.DataFrame:
        """One row a measure: value, low and high (95 %, of a ratio of gains 90 %), n, reason."""
        import pandas as pd

        measures = {
            "gain of the average": self._mean(self._gain("average")),
            "gain of the cool-down": self._mean(self._gain("cool_down")),
            "gain at the constant rate": self._mean(self._gain("constant")),
            "gain of the cool-down, from the spectrum": self._mean(self.table.predicted_cool_down),
            "gain of the average, from the spectrum": self._mean(self.table.predicted_average),
            "ratio of gains": self.ratio(),
            "ratio of gains, from the spectrum": self._ratio_of_means(
                "predicted_average", "predicted_cool_down"
            ),
            "distance of average and cool-down": self._mean(self.table.apart),
            "distance of independent batches": self._mean(self.table.independent),
            "ratio of distances": self._ratio_of_means("apart", "independent"),
            "distance of a replay": self._mean(self.table.replayed_apart),
        }
        rows = [
            {"measure": name, **{word: getattr(each, word) for word in
                                 ("value", "low", "high", "n", "reason")}}
            for name, each in measures.items()
        ]  # fmt: skip
        rows.append({"measure": "noise floor of a loss", "value": self.noise_floor,
                     "n": len(self.table), "reason": ""})  # fmt: skip
        return pd.DataFrame(rows).set_index("measure")

    @property
    def noise_floor(self) -> float:
        """sqrt(mean (L(cool-down) - L(other cool-down))^2 / 2): by how much the batches alone change
        an end's loss.
        """
        away = self.table.cool_down - self.table.other_cool_down
        return float(np.sqrt((away**2).mean() / 2))

    def __str__(self) -> str:
        shown = self.summary.to_string(float_format=lambda value: f"{value:.4g}", na_rep="")
        return f"{self.answer}\n\n{shown}"

    def _why_open(self) -> str:
        """Why nothing is decided, "" if it is."""
        ratio = self.ratio()
        runs = self.table.run.nunique()
        if runs < FEWEST_SEEDS:
            return f"{runs} of the {FEWEST_SEEDS} runs that an answer takes"
        if ratio.reason:
            return ratio.reason
        crosses = any(ratio.low < edge < ratio.high for edge in BAND)
        return f"the interval crosses an edge of {BAND[0]} to {BAND[1]}" if crosses else ""

    def _lies_in_band(self) -> bool:
        ratio = self.ratio()
        return BAND[0] <= ratio.low and ratio.high <= BAND[1]

    def _gain(self, arm: str) -> pd.Series:
        return self.table.raw - self.table[arm]

    def _ratio_of_means(self, numerator: str, denominator: str) -> Estimate:
        return self._estimate("estimate", numerator=self.table[numerator],
                              denominator=self.table[denominator])  # fmt: skip

    def _mean(self, values: pd.Series) -> Estimate:
        return self._estimate("estimate", value=values)

    def _estimate(self, kind: str, **columns: pd.Series) -> Estimate:
        """Over runs, or over the branch points of a single one; rows without a number, as of what is
        measured at one branch point only, are left out.
        """
        from replicate.claims.statistics import Estimate, estimate

        seed = self.table.branch if self.unit == "branch point" else self.table.run
        rows = self.table[["branch"]].assign(seed=seed, **columns).dropna()
        if rows.empty:
            return Estimate(np.nan, np.nan, np.nan, n=0, reason="not measured")
        return estimate(rows, kind, BAND)
