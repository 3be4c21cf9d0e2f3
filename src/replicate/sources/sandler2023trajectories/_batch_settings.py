"""What the experiments of section 3 and appendix B.1 are told beside the main run's settings."""

from dataclasses import fields

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.sources.settings import STRICT, Count, Natural


@dataclass(frozen=True, config=STRICT)
class BatchSettings(Settings):
    """The main run of `Settings`, and what is measured on fixed mini-batches at stages of it.

    The main run is that of `figure_5` at the same settings, and is trained once for all.
    """

    early: tuple[Count, ...] = (1000, 10_000)  # Fig. 12 shows other stages and does not say which
    batch_sizes: tuple[Count, ...] = (32, 256, 512, 1024, 2048, 4096, 32_768)  # Fig. 13
    draws: Count = 20  # batches of each size; silent, the paper shows one
    draw_images: Count = 65_536  # ours: images over all draws of a size, down to one draw
    held_batches: Count = 10  # Fig. 2
    held_batch: Count = 512  # Fig. 2
    held_out: Count = 5120  # images that no batch holds
    even_steps: Count = 60  # step sizes up to twice the best one; silent
    small_steps: Count = 10  # halvings below these
    step_gradients: Count = 1000  # ours: gradients that the noise scale is estimated from
    products: Count = 20  # ours: directions of Hessian products
    curvature_batches: Count = 8  # ours: mini-batches whose Hessian these are of
    trips: Count = 20  # fixed batches of Figure 3; silent, the paper shows one
    estimated: Natural = 2  # draws and trips that are also seen with BatchNorm re-estimated
    estimate_batches: Count = 20  # mini-batches that it is re-estimated on

    @model_validator(mode="after")
    def _batches_fit(self):
        if self.branches < 2 or not self.early or max(self.early) >= self.first_branch:
            raise ValueError(
                f"early must name steps before the first of two branch points, {self.first_branch}, "
                f"got {self.early} and {self.branches}"
            )
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError(f"batch_sizes must rise, got {self.batch_sizes}")
        if self.held_out % self.held_batch:
            raise ValueError(
                f"held_batch must divide the {self.held_out} held-out images, got {self.held_batch}"
            )
        if self.even_steps % 2:
            raise ValueError(f"even_steps must be even, got {self.even_steps}")
        self._check_images()
        return self

    def _check_images(self) -> None:
        from replicate import datasets

        images = datasets.describe(self.dataset).train_images
        largest = max(*self.batch_sizes, self.batch)
        if largest + self.held_out > images:
            raise ValueError(
                f"batch_sizes: a batch of {largest} and {self.held_out} held-out images are more "
                f"than the {images} training images of {self.dataset}; take smaller ones"
            )

    @property
    def main_run(self) -> Settings:
        """The settings of the main run alone."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in the order of training; the last two are the points of Fig. 3."""
        return (*(f"step {step}" for step in self.early), "late", "later")

    def count_draws(self, size: int) -> int:
        """How many batches of a size are drawn."""
        return max(1, min(self.draws, self.draw_images // size))
