"""The source's settings and what each preset changes in them."""

from collections.abc import Mapping
from dataclasses import replace

from replicate.sources.zhang2019lookahead.settings import Settings

PAPER = Settings()

ALGEBRA = {"quadratic": replace(PAPER, dataset="quadratic", schedules=(), seeds=(0,))}

# A network with BatchNorm, because half of what the source sees within a cycle may be BatchNorm's.
DIGITS = replace(
    PAPER,
    dataset="digits",
    model="resnet8",
    width=4,
    stem="stride2",
    pad=0,
    flip=False,
    batch=64,
    alpha=0.5,
    steps=300,
    rates=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
    seeds=tuple(range(10)),
    norm_batches=4,
    curve_images=360,
)

PRESETS: dict[str, dict[str, Settings]] = {
    "smoke": {
        "digits": replace(
            DIGITS,
            steps=20,
            rates=(0.05, 0.1, 0.2),
            seeds=(0, 1),
            cycles=1,
            norm_batches=1,
            curve_images=120,
        ),
    },
    "cpu": {"digits": DIGITS},
    "gpu": {
        "cifar10": replace(
            PAPER, steps=11_730, precision="bfloat16", seeds=(0, 1, 2, 3, 4), rates=(0.03, 0.1, 0.3)
        )
    },
    "paper": {"cifar10": PAPER},
}

MODEL_NAMES = {"mlp": "a perceptron", "resnet8": "ResNet-8", "resnet18": "ResNet-18"}
OF_TABLE_1 = ("dataset", "model", "stem", "batch", "momentum", "weight_decay", "steps")


def tiny(settings: Settings) -> Settings:
    """The settings at a size at which every line runs once."""
    return replace(
        settings,
        model="resnet8",
        width=4,
        stem="stride2",
        batch=16,
        steps=20,
        rates=settings.rates[:2],
        seeds=(0, 1),
        cycles=1,
        norm_batches=1,
        curve_images=64,
    )


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.
    """
    same = all(settings[name] == getattr(PAPER, name) for name in OF_TABLE_1)
    if settings["dataset"] == "quadratic" or same:
        return "the source's"
    return f"stand-in: {MODEL_NAMES[settings['model']]} on {settings['dataset']}"
