"""What the comparison on one task can be told: images, a network, and what every method is given.

The comparison is ours, and so is every value that no other place is named for.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.across.settings import Settings, Share
from replicate.sources.settings import STRICT, Count, Fraction, ImageSettings, Rate, Seed

FILTERED = Settings()  # the methods' numbers in the filter view


@dataclass(frozen=True, config=STRICT)
class Task(ImageSettings):
    """The perceptron on digits that sandler2023trajectories has, whose noise puts a floor under the
    loss.
    """

    dataset: Literal["digits", "cifar10"] = "digits"
    model: Literal["mlp", "resnet8"] = "mlp"
    width: Count = 96
    flip: bool = False
    pixel_noise: Annotated[float, Field(ge=0)] = 0.25
    label_noise: Fraction = 0.1
    batch: Count = 64
    steps: Count = 400  # gradients of every method; the other budgets are what SGD spends on them
    beta: Share = FILTERED.beta
    s: Annotated[float, Field(gt=0, le=1)] = FILTERED.s
    k: Annotated[int, Field(ge=2)] = FILTERED.k
    alpha: Share = FILTERED.alpha
    tail: Share = 0.25  # of a run that is averaged; Izmailov et al. 2018
    checks: Count = 50  # at most, of a walk's gradient; the post's KS_50_2 and KV_50
    impatience: Annotated[float, Field(ge=0)] = 2.0  # the post's KS_50_2
    # Rates of SGD. Every method has as many trials, at the rates that give it SGD's pace. The grid
    # lies around the lowest held-out losses at seed 100, which is judged nowhere, and goes on to
    # where walks with few gradients end lowest.
    paces: tuple[Rate, ...] = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
    seeds: tuple[Seed, ...] = tuple(range(8))
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the training images, held out
    curve_images: Count = 2000  # at most, of each set that weights are judged on
    norm_batches: Count = 4  # of 256 images, on which BatchNorm is re-estimated
    repeats: Count = 15  # of everything that has a price

    @model_validator(mode="after")
    def _makes_sense(self):
        for name in ("seeds", "paces"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be at least two values that rise, got {values}")
        if round(self.tail * self.steps) < 1:
            raise ValueError(f"tail must hold a step, got {self.tail} of {self.steps} steps")
        return self
