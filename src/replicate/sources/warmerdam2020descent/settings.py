"""What an experiment of this source can be told: the post's values, or our choice where the post is silent."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=100)]
DATASETS = Literal[
    "regression", "figure9", "figure10", "figure11", "figure12", "figure13", "figure13code", "minibatch", "overfit",
    "resnet18", "algebra",
]  # fmt: skip


ARMS = (
    "SGD", "ADAM",
    *(f"{name} {v}" for name in ("KS_50_0", "KS_50_2", "KS_10_0", "KS_10_2", "KV_10", "KV_50")
      for v in ("published", "corrected")),
    "KS_50_2 rollback", "ARMIJO", "LBFGS", "EXACT",
)  # fmt: skip


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Settings:
    """A task and what is run on it. Defaults: Figure 9. A forward-equivalent is a forward pass; a gradient is three."""

    dataset: DATASETS = "figure9"
    rows: Count = 10_000  # Fig. 9
    columns: Count = 20  # Fig. 9; the regression has a constant besides
    width: Count = 10  # Fig. 9
    maps: Count = 7  # Fig. 9: n_layers = 5 and two more, as the printed function builds it; 1: one linear map
    activation: Literal["linear", "relu"] = "linear"  # ReLU in Fig. 12, after every map but the last (silent where)
    noise: Annotated[float, Field(ge=0)] = 0.0  # standard deviation of what is added to y; the post adds nothing
    lr: Rate = 1e-3  # Fig. 9
    steps: Count = 1000  # outer steps of SGD and Adam, whose cost is the budget; of the regression: iterations
    walk_gradients: Count = 100  # outer steps of the walks: the budget in gradients
    seeds: tuple[Seed, ...] = (0,)  # torch.manual_seed(0): data and weights
    tuning_seeds: tuple[Seed, ...] = (1000, 1001)  # ours; not used again
    grid: tuple[Rate, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # ours: rates that every arm is tuned on
    tuning_rows: Count = 10_000  # rows of the tuning runs
    arms: tuple[str, ...] = ("SGD", "ADAM")  # at the source's rate; see ARMS
    tuned: tuple[str, ...] = ("SGD", "ADAM")  # at their tuned rates too
    sweep: tuple[Rate, ...] = (1e-3,)  # ours: rates of the sensitivity curves
    sweep_seeds: tuple[Seed, ...] = (0,)
    sweep_arms: tuple[str, ...] = ("SGD", "ADAM")
    repeats: Count = 5  # of a timing, whose median counts
    blocks: Count = 10  # of repeats: the units of rows on seconds
    fits: Count = 5  # ours: data sets, the first seeds, of the timings of solvers
    fit_repeats: Count = 2  # of a solver's timing
    fit_precisions: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")  # jax's default, and NumPy's
    batches: tuple[Count, ...] = (64,)  # ours: rows of a mini-batch
    form_rows: Count = 2000  # ours: rows where the row form, in both precisions, is held against the moments
    test_rows: Count = 10_000  # ours; the post has no test set

    @model_validator(mode="after")
    def _makes_sense(self):
        for name in ("seeds", "tuning_seeds", "grid", "arms", "tuned", "sweep", "sweep_seeds", "batches"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must name at least one value and none twice, got {values}")
        if shared := set(self.tuning_seeds) & (set(self.seeds) | set(self.sweep_seeds)):
            raise ValueError(f"tuning_seeds must not be used again, got {sorted(shared)} in seeds or sweep_seeds too")
        if strange := set(self.tuned) - set(self.arms):
            raise ValueError(f"tuned must be among arms, got {sorted(strange)}")
        for name in ("arms", "sweep_arms"):
            if strange := set(getattr(self, name)) - set(ARMS):
                raise ValueError(f"{name} must be among {', '.join(ARMS)}, got {sorted(strange)}")
        if max(self.batches) > self.rows:
            raise ValueError(f"batches must be of at most {self.rows} rows, got {max(self.batches)}")
        return self

    @property
    def dims(self) -> tuple[int, ...]:
        """Inputs, hidden widths and the one output of the net."""
        return (self.columns, *[self.width] * (self.maps - 1), 1)
