"""What an experiment of this source can be told: the source's values, or our choice where it is
silent.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, ImageSettings, Natural, Rate, Seed

Stride = Annotated[float, Field(gt=0, le=1)]

DatasetName = Literal[
    "imagewoof",
    "imagewoof-64",
    "tiny-imagenet-10",
    "cifar10",
    "digits",
    "rosenbrock",
    "beale",
    "goldstein-price",
    "quadratic",
]


@dataclass(frozen=True, config=STRICT)
class Settings(ImageSettings):
    """Symbols of the source: eta the rate `lr`, dt the time of an extrapolation, s = dt/h; h is
    eta.
    """

    dataset: DatasetName = "imagewoof"  # Experiments
    model: Literal["mlp", "resnet8", "resnet18"] = "resnet18"  # Experiments
    batch: Count = 64  # Experiments
    lr: Rate = 0.02  # Experiments; toy functions: the post's table
    dt: Stride = 1e-10  # Experiments; toy functions: the post's table
    steps: Count = (
        2820  # silent; 20 epochs of Imagewoof. Toy functions: read off the post's figures
    )
    # The first two arms: Experiments; the others are ours.
    arms: tuple[str, ...] = ("plain", "dt=1e-10", "s=0.5", "rate-1.5", "heavy-ball", "double")
    searched: tuple[str, ...] = (
        "plain",
        "s=0.5",
        "heavy-ball",
    )  # ours: arms with a rate of their own
    rates: tuple[Rate, ...] = ()  # the grid of that search; the source says only that there was one
    batches: tuple[Count, ...] = ()  # batch sizes at which plain SGD and s = 0.5 are compared
    seeds: tuple[Seed, ...] = (0, 1, 2, 3, 4)  # silent; one run per arm
    validation: Annotated[float, Field(gt=0, lt=1)] = (
        0.2  # share of the training images, to choose rates on
    )
    rows: Count = 10  # points of a curve
    curve_images: Count = (
        5000  # images of the training loss, and of the test set before the end of a run
    )
    norm_batches: Count = 20  # batches of 256 that BatchNorm is re-estimated on
    start: tuple[float, float] = (0.0, 0.0)  # toy functions: where a path begins
    strides: tuple[Stride, ...] = ()  # toy functions: every dt that is tried
    searched_strides: tuple[Stride, ...] = ()  # those that are tried at every rate
    basin_starts: Natural = 0  # toy functions: uniform starts per set; there are ten sets

    @model_validator(mode="after")
    def _fits(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must all differ, got {self.seeds}")
        if not self.seeds:
            raise ValueError("seeds must name at least one seed, got none")
        if self.arms and not {"plain", "adam"} & set(self.arms):
            raise ValueError(
                f"arms must hold 'plain' or 'adam', the ones to compare with, got {self.arms}"
            )
        if strange := set(self.searched) - set(self.arms):
            raise ValueError(f"searched must be among the arms, got {sorted(strange)}")
        if self.searched and self.rates and "plain" not in self.searched:
            raise ValueError(
                f"searched must hold 'plain', whose rate others take, got {self.searched}"
            )
        return self
