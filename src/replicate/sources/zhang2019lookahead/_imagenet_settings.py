"""What the experiment on ImageNet is told where it runs on photographs.

The slides print nothing but the images. Values are those that a replication reports of the paper's
appendix, those of PyTorch's example, which the authors name as their base, or, where said, ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic.dataclasses import dataclass

from replicate.sources.protocol import THE_SOURCES
from replicate.sources.settings import STRICT, Count, Natural, Rate, Seed
from replicate.sources.zhang2019lookahead.settings import Alpha, Decay, Settings


@dataclass(frozen=True, config=STRICT)
class OnImageNet(Settings):
    """A recipe of sixty epochs, and one of ninety with as many steps an epoch."""

    dataset: Literal["imagenet", "imagewoof-64"] = "imagenet"  # the slide
    model: Literal["resnet8", "resnet20", "resnet18", "resnet50", "resnet152"] = (
        "resnet50"  # the slide
    )
    stem: Literal["imagenet", "cifar", "stride2"] = "imagenet"  # He et al. 2016, table 1
    pad: Natural = 28  # ours; PyTorch's example cuts out and enlarges a part of the photograph
    batch: Count = 256  # PyTorch's example
    lr: Rate = 0.1  # PyTorch's example
    weight_decay: Decay = 1e-4  # PyTorch's example
    alpha: Alpha = 0.5  # a replication's report
    steps: Count = 300_240  # 60 epochs
    curve_images: Count = 50_000  # the slide: all validation images
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # ours
    seeds: tuple[Seed, ...] = (0, 1, 2, 3, 4)  # ours; the source's are single runs


IMAGENET_RECIPE = OnImageNet()
IMAGEWOOF_RECIPE = replace(
    IMAGENET_RECIPE,
    dataset="imagewoof-64",
    model="resnet8",
    width=16,
    stem="stride2",
    pad=8,
    batch=128,
    steps=1140,  # what a CPU has time for: 20 epochs in the place of 60
    norm_batches=6,
    curve_images=3929,
    seeds=(0, 1, 2, 3, 4, 5),
)

IMAGENET: dict[str, dict[str, OnImageNet]] = {
    "night": {"imagewoof-64": IMAGEWOOF_RECIPE},
    "gpu": {
        "imagewoof-64": replace(IMAGEWOOF_RECIPE, model="resnet18", stem="imagenet", steps=3420)
    },
    "paper": {
        "imagenet": IMAGENET_RECIPE,
        "imagenet-deep": replace(IMAGENET_RECIPE, model="resnet152"),
    },
}


def name_photographs(settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.
    """
    if settings["dataset"] == IMAGENET_RECIPE.dataset:
        return THE_SOURCES
    return f"stand-in: {settings['model'].replace('resnet', 'ResNet-')} on {settings['dataset']}"
