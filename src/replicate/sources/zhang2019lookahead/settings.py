"""What an experiment of this source can be told: the slides say next to nothing, so values are the
paper's or, where said, recovered from its figures and from other people's replications.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, Fraction, ImageSettings, Rate, Seed

Momentum = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0)]
Schedule = Literal["constant", "decayed"]
Net = Literal["batch norm", "group norm"]


@dataclass(frozen=True, config=STRICT)
class Settings(ImageSettings):
    """Symbols of the source: alpha the slow weights' step, k the steps of a cycle."""

    dataset: Literal["cifar10", "cifar100", "digits", "quadratic"] = "cifar10"  # Table 1
    model: Literal["mlp", "resnet8", "resnet20", "resnet18"] = (
        "resnet18"  # Table 1; the Cutout repository's
    )
    stem: Literal["imagenet", "cifar", "stride2"] = "cifar"  # the Cutout repository's
    pad: Annotated[int, Field(ge=0)] = 4  # the Cutout repository's
    batch: Count = 128  # the Cutout repository's
    lr: Rate = 0.1  # a replication's report: Lookahead's inner rate on CIFAR
    momentum: Momentum = 0.9  # robustness figure; a replication's report
    weight_decay: Decay = 1e-3  # a replication's report
    alpha: Alpha = 0.8  # a replication's report, and the authors' code
    k: Count = 5  # a replication's report, and the authors' code
    steps: Count = 78_200  # 200 epochs, the Cutout repository's
    drops: tuple[Fraction, ...] = (0.3, 0.6, 0.8)  # shares of the run: epochs 60, 120, 160
    drop: Fraction = 0.2  # factor of the rate at each of them
    inner: Literal["sgd", "adamw"] = "sgd"  # Table 1; around which Lookahead is
    inner_state: Literal["maintain", "reset", "interpolate"] = "maintain"  # Algorithm 1
    # Table 1: every optimizer has the rates times these weight decays as trials.
    decays: tuple[Decay, ...] = (3e-4, 1e-3, 3e-3)  # a reader's recollection of appendix C
    # Robustness figures: rates at the first momentum, momenta at the first rate.
    robust_rates: tuple[Rate, ...] = (0.1, 0.2, 0.3)
    momenta: tuple[Momentum, ...] = (0.9, 0.95, 0.98)
    # Table 5: all pairs of them.
    alphas: tuple[Alpha, ...] = (0.5, 0.8)
    ks: tuple[Count, ...] = (5, 10)
    # Ours: where Lookahead is taken apart.
    schedules: tuple[Schedule, ...] = ("constant", "decayed")
    rates: tuple[Rate, ...] = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3)  # a replication's report: SGD's
    tail: Fraction = 0.75  # ours; where the tail average begins, Izmailov et al. 2018
    seeds: tuple[Seed, ...] = (0, 1, 2)  # silent; three by recollection of a reader
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2  # ours; to choose rates on
    norm_batches: Count = 20  # ours; batches of 256 that BatchNorm is re-estimated on
    curve_images: Count = 5000  # ours; images that losses and accuracies are taken on
    outer_rate: Alpha = 0.7  # Douillard et al. 2023, DiLoCo
    outer_momentum: Momentum = 0.9  # Douillard et al. 2023, DiLoCo
    # Ours: of the probe within cycles, in shares of the run, and cycles of one probe.
    probes: tuple[Fraction, ...] = (0.25, 0.325)  # before and after the first drop; epoch 65
    cycles: Count = 12  # figure of fast and slow weights
    nets: tuple[Net, ...] = ("batch norm",)  # ours; "group norm": nothing depends on other images
    # Accuracy surface: epoch 100 of 200, and ours: cycles that are cut, places a side of the plane.
    cut_at: Fraction = 0.5
    planes: Count = 10
    side: Count = 21

    @model_validator(mode="after")
    def _fits(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must name at least one seed and none twice, got {self.seeds}")
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise, got {self.rates}")
        if not self.drops or list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"drops must name a share and rise, got {self.drops}")
        if self.steps % self.k:
            raise ValueError(f"steps must be whole cycles of {self.k}, got {self.steps}")
        return self
