"""One set of numbers for the filter view, the same at every preset, since what is computed is exact;
and one task to train on.
"""

from collections.abc import Mapping
from dataclasses import replace

from replicate.sources.across._task import Task
from replicate.sources.across.settings import Settings
from replicate.sources.protocol import THE_SOURCES

PAPER = Settings()
ALGEBRA = {"quadratic": PAPER}  # what is exact runs at every preset on this

DIGITS_TASK = Task()
CIFAR_TASK = Task(
    dataset="cifar10", model="resnet8", width=16, stem="stride2", precision="bfloat16", pad=4, flip=True,
    pixel_noise=0.0, label_noise=0.0, steps=1000, checks=10, seeds=tuple(range(6)), paces=(0.05, 0.1, 0.2, 0.4, 0.8),
)  # fmt: skip


def tiny(settings: Settings | Task) -> Settings | Task:
    """The filter view as it is, and the task at a size at which every line runs once."""
    if isinstance(settings, Settings):
        return settings
    sizes = {"width": 8, "batch": 32, "steps": 10, "checks": 4, "curve_images": 100}
    return replace(
        settings, **sizes, norm_batches=1, repeats=2, seeds=(0, 1), paces=settings.paces[:2]
    )


PRESETS: dict[str, dict[str, Settings | Task]] = {
    "smoke": {"digits": tiny(DIGITS_TASK)},
    "cpu": {"digits": DIGITS_TASK},
    "night": {"cifar10": CIFAR_TASK},
    "gpu": {},
    "paper": {},
}


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """Nothing stands in for anything: what is said of a quadratic and of the task is ours."""
    return THE_SOURCES
