"""What an experiment of this source can be told: the post's values, or our choice where it is
silent.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, Rate, Seed
from replicate.sources.warmerdam2020descent._arms import ARMS

DatasetName = Literal[
    "regression", "figure9", "figure10", "figure11", "figure12", "figure13", "figure13code",
    "minibatch", "overfit", "resnet18", "algebra",
]  # fmt: skip
TUNING = 1000  # added to a seed: the seed on which its rates are chosen


@dataclass(frozen=True, config=STRICT)
class Settings:
    """A task and what is run on it. Defaults: Figure 9. A gradient counts as three forward passes."""

    dataset: DatasetName = "figure9"
    rows: Count = 10_000  # Fig. 9
    columns: Count = 20  # Fig. 9; the regression has a constant besides
    width: Count = 10  # Fig. 9
    maps: Count = (
        7  # Fig. 9: n_layers = 5 and two more, as the printed function builds it; 1: one linear map
    )
    activation: Literal["linear", "relu"] = "linear"  # ReLU in Fig. 12, after all maps but the last
    noise: Annotated[float, Field(ge=0)] = 0.0  # standard deviation on y; the post adds nothing
    lr: Rate = 1e-3  # Fig. 9
    steps: Count = (
        1000  # outer steps of SGD and Adam, whose cost is the budget; iterations of Fig. 4
    )
    walk_gradients: Count = 100  # outer steps of the walks: the budget in gradients
    seeds: tuple[Seed, ...] = (0,)  # torch.manual_seed(0): data and weights
    # ours: to tune every arm on; so wide that no arm's best rate lies at an end of it
    grid: tuple[Rate, ...] = tuple(float(f"{digit}e{k}") for k in range(-6, 2) for digit in (1, 3))
    tuning_rows: Count = 10_000  # rows of the tuning runs
    arms: tuple[str, ...] = ("SGD", "ADAM")  # at the source's rate; names of ARMS
    tuned: tuple[str, ...] = ("SGD", "ADAM")  # at their tuned rates too
    neighbours: bool = True  # whether tuned arms run a step of the grid lower and higher, too
    sweep: tuple[Rate, ...] = (1e-3,)  # ours: rates of the sensitivity curves
    sweep_seeds: tuple[Seed, ...] = (0,)
    sweep_arms: tuple[str, ...] = ("SGD", "ADAM")
    repeats: Count = 25  # of a timing, whose median counts
    blocks: Count = 10  # of repeats: the units of rows on seconds
    fit_repeats: Count = 2  # of a solver's timing
    # jax's default precision, and NumPy's
    fit_precisions: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
    batches: tuple[Count, ...] = (64,)  # ours: rows of a mini-batch
    form_rows: Count = (
        2000  # ours: rows where the row form, in both precisions, is held against the moments
    )
    test_rows: Count = 10_000  # ours; the post has no test set

    @model_validator(mode="after")
    def _makes_sense(self):
        for name in (
            "seeds",
            "grid",
            "arms",
            "tuned",
            "sweep",
            "sweep_seeds",
            "batches",
        ):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} must name at least one value and none twice, got {values}"
                )
        if list(self.grid) != sorted(self.grid) or len(self.grid) < 2:
            raise ValueError(f"grid must be at least two rates in ascending order, got {self.grid}")
        for name in ("seeds", "sweep_seeds"):
            if (largest := max(getattr(self, name))) >= TUNING:
                raise ValueError(
                    f"{name} must be below {TUNING}, whence rates are tuned on, got {largest}"
                )
        if strange := set(self.tuned) - set(self.arms):
            raise ValueError(f"tuned must be among arms, got {sorted(strange)}")
        for name in ("arms", "sweep_arms"):
            if strange := set(getattr(self, name)) - set(ARMS):
                raise ValueError(f"{name} must be among {', '.join(ARMS)}, got {sorted(strange)}")
        if max(self.batches) > self.rows:
            raise ValueError(
                f"batches must be of at most {self.rows} rows, got {max(self.batches)}"
            )
        return self

    @property
    def dims(self) -> tuple[int, ...]:
        """Inputs, hidden widths and the one output of the net."""
        return (self.columns, *[self.width] * (self.maps - 1), 1)
