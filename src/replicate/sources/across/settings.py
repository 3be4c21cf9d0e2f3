"""The methods' numbers: those that the sources use most, which a reader may change."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, Seed

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Symbols of the sources: beta of momentum, s = dt/h of extrapolation, k and alpha of Lookahead."""

    dataset: Literal["quadratic"] = "quadratic"
    beta: Share = 0.9  # Zhang et al., robustness figure; torch's usual one
    s: Annotated[float, Field(gt=0, le=1)] = 0.5  # as in the comparison of fabi2021extrapolation
    k: Annotated[int, Field(ge=2)] = 5  # Zhang et al., robustness figure
    alpha: Share = 0.5  # the same
    window: Count = 10  # steps of the averages' windows; Sandler et al., Figure 5, the shortest
    delta: Share = 0.1  # ours: the EMA whose filter is that of beta = 0.9
    seeds: tuple[Seed, ...] = (0,)  # nothing is drawn
