"""What the experiment on a reader's images can be told. The post names no data set, so every default
is ours.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, ImageSettings, Rate, Seed

TUNING_SEEDS = 1000  # added to a seed: the seed on which its rates are chosen, as in the figures
ARMS_OFFERED = (
    "SGD", "ADAM", "KS_50_2 corrected", "KV_50 corrected", "KS_50_2 published", "KV_50 published",
)  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class ImageTask(ImageSettings):
    """Images, a network, and what is run on them. A gradient counts as three forward passes."""

    dataset: Literal["digits", "cifar10"] = "digits"
    model: Literal["mlp", "resnet8", "resnet18"] = "mlp"
    width: Count = 96  # the other sources' perceptron on digits
    flip: bool = False
    batch: Count = 64
    steps: Count = 400  # of SGD, whose passes and seconds are two budgets
    walk_gradients: Count = 100  # the third, which costs a walk about as much as the others
    seeds: tuple[Seed, ...] = tuple(range(10))
    arms: tuple[str, ...] = ARMS_OFFERED
    # SGD's rates; every arm has as many, times a factor of its own that says where they lie.
    grid: tuple[Rate, ...] = (0.03, 0.1, 0.3, 1.0)
    neighbours: bool = True  # whether arms run a step of their grid lower and higher, too
    shares: Count = 4  # points of a budget at which a run is looked at
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the training images, held out
    curve_images: Count = 500  # of those trained on and of those held out, at every look
    test_images: Count = 10_000  # at most all; the first ones
    norm_batches: Count = 4  # of 256 images, on which BatchNorm is re-estimated at every look

    @model_validator(mode="after")
    def _makes_sense(self):
        for name in ("seeds", "arms", "grid"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} must name at least one value and none twice, got {values}"
                )
        if max(self.seeds) >= TUNING_SEEDS:
            raise ValueError(
                f"seeds must be below {TUNING_SEEDS}, whence rates are tuned on, got {max(self.seeds)}"
            )
        if list(self.grid) != sorted(self.grid) or len(self.grid) < 2:
            raise ValueError(f"grid must be at least two rates in ascending order, got {self.grid}")
        if strange := set(self.arms) - set(ARMS_OFFERED):
            raise ValueError(f"arms must be among {', '.join(ARMS_OFFERED)}, got {sorted(strange)}")
        if "SGD" not in self.arms:
            raise ValueError(f"arms must hold 'SGD', whose steps are the budget, got {self.arms}")
        if self.walk_gradients > self.steps:
            raise ValueError(
                f"walk_gradients must be at most steps, {self.steps}, got {self.walk_gradients}"
            )
        return self
