"""What an experiment of this source can be told: the paper's values, or our choice where the paper
is silent.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, ImageSettings, Natural, Rate, Seed


@dataclass(frozen=True, config=STRICT)
class Settings(ImageSettings):
    """Symbols as in section 4: lambda the rate `lr`, k a window, delta an EMA's decay. Steps are
    optimizer updates.
    """

    dataset: Literal["imagenet", "cifar10", "cifar100", "digits", "quadratic"] = (
        "imagenet"  # section 3
    )
    model: Literal["mlp", "resnet8", "resnet18", "resnet34"] = "resnet34"  # section 3
    batch: Count = 512  # Fig. 2; silent elsewhere
    lr: Rate = 0.05  # Figs. 6 and 7
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # section 3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = (
        1e-4  # silent; torchvision's ImageNet reference
    )
    warmup: Natural = 12_500  # silent; 5 epochs
    seeds: tuple[Seed, ...] = (0, 1, 2)  # silent; the paper reports no repeats
    first_branch: Count = 40_000  # silent
    branches: Count = 8  # silent; Fig. 5 shows several
    branch_every: Count = 5_000  # silent
    two_point: tuple[Count, ...] = (
        10,
        100,
        1000,
    )  # Fig. 5; its k = 1 is measured without a side-trip
    swa: tuple[Count, ...] = (10, 100, 1000)  # Fig. 5
    ema: tuple[Count, ...] = (3000,)  # Fig. 5; delta = 5/k
    controls: tuple[Count, ...] = ()  # ours: windows that also get side-trips on other mini-batches
    last_delta: Annotated[float, Field(gt=0, le=1)] = 0.01  # Table 1's caption, k >> 1/delta
    last_windows: tuple[
        Count, ...
    ] = ()  # steps before the common end at which the EMA's schedule sets in
    train_images: Count = 50_000  # images of the training loss
    noisy_draws: bool = (
        False  # training loss on fixed draws of the noisy distribution, not on plain images
    )
    norm_batches: Count = 100  # batches that BatchNorm is re-estimated on
    norm_batch: Count = 512

    directions: Natural = 0  # ours: of the Hessian, by Lanczos; 0 measures no spectrum
    hessian_images: Count = 4096  # ours: draws that the Hessian is of
    noise_gradients: Count = 1000  # ours: mini-batches whose gradients give the noise

    @model_validator(mode="after")
    def _windows_fit(self):
        if not (self.seeds and self.two_point and self.swa and self.ema):
            raise ValueError("seeds, two_point, swa and ema must each name at least one value")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ from each other, got {self.seeds}")
        if self.branch_every < self.longest:
            raise ValueError(
                f"branch_every must be at least the longest window, {self.longest}, got {self.branch_every}"
            )
        if self.last_windows and max(self.last_windows) > self.longest:
            raise ValueError(
                f"last_windows must be at most {self.longest}, got {max(self.last_windows)}"
            )
        if strange := set(self.controls) - (set(self.two_point) & set(self.swa) & set(self.ema)):
            raise ValueError(
                f"controls must be windows of all three kernels, got {sorted(strange)}"
            )
        return self

    @property
    def longest(self) -> int:
        """The longest window, in steps."""
        return max(self.two_point + self.swa + self.ema)

    @property
    def starts(self) -> tuple[int, ...]:
        """The step of each branch point."""
        return tuple(self.first_branch + b * self.branch_every for b in range(self.branches))

    @property
    def steps(self) -> int:
        """The length of the main run."""
        return self.starts[-1] + self.longest
