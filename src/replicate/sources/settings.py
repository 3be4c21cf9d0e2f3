"""Types of settings that several sources share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, le=100)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class ImageSettings:
    """The network and the mini-batches of an experiment on images."""

    model: Literal["mlp", "resnet8", "resnet18", "resnet34"] = "resnet18"
    width: Count = 64  # channels of the first stage, or of each hidden layer
    stem: Literal["imagenet", "cifar", "stride2"] = "imagenet"
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # bfloat16: autocast where the device gains by it
    )
    pad: Natural = 0  # pixels added on each side before a random crop
    flip: bool = True  # at random, left and right
    pixel_noise: Annotated[float, Field(ge=0)] = (
        0.0  # standard deviations of a pixel, drawn anew each step
    )
    label_noise: Fraction = 0.0  # share of labels drawn anew each step

    def found_by_folder(self) -> dict[str, str]:
        """Module -> checksum of its data, of the data set that the name chooses: part of the key of
        a run.
        """
        from replicate import datasets

        return (
            {datasets.module_of(self.dataset): datasets.checksum(self.dataset)}
            if self.dataset in datasets.NAMES
            else {}
        )
