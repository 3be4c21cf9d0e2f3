"""At which sizes speed is measured on a GPU; the goals are stated for those of preset gpu."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Settings:
    """What is measured. Images are random bytes: what they show changes nothing in the time."""

    dataset: Literal["synthetic"] = "synthetic"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    images: Count = 50_000  # an epoch, as of CIFAR-10
    nets: tuple[tuple[str, int], ...] = (  # network, batch
        ("resnet18", 128),
        ("resnet18", 512),
        ("resnet34", 512),
    )
    script_batches: tuple[int, ...] = (128, 1024)
    rounds: Count = 5  # all variants take turns, so that a clock that changes favours none
    steps: Count = 39  # of a variant in a round; a tenth of an epoch at batch 128
    epoch: Count = 13  # steps of a round that holds an epoch, augmentation included
    workers: Annotated[int, Field(ge=0)] = 2  # of the ordinary script's loader
    small: tuple[str, int] = ("resnet8", 16)  # nets side by side
    large: tuple[str, int] = ("resnet18", 4)
    averages: Count = 64
    matrix: Count = 8192  # rows of the matrices whose products give the rate
    copied: Count = 2**30  # bytes
    compiled: bool = True  # also what torch.compile takes and gives


FULL = Settings()
TINY = replace(
    FULL,
    images=64,
    nets=(("resnet8", 8),),
    script_batches=(8,),
    rounds=1,
    steps=2,
    epoch=2,
    workers=0,
    small=("resnet8", 2),
    large=("resnet8", 2),
    averages=3,
    matrix=128,
    copied=2**16,
    compiled=False,
)
PRESETS = {"smoke": {"synthetic": TINY}, "gpu": {"synthetic": FULL}}
