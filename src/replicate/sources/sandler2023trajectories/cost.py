"""How many multiplications and additions an experiment is, from its settings alone: the floor under its seconds."""

from replicate import floors
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.sources.sandler2023trajectories.trips import network, windows

SHAPES = {  # of one image, classes, test images
    "digits": ((1, 8, 8), 10, 360),
    "cifar10": ((3, 32, 32), 10, 10_000),
    "cifar100": ((3, 32, 32), 100, 10_000),
    "imagenet": ((3, 224, 224), 1000, 50_000),
}


def figure_5_operations(settings: Settings) -> float:
    """Main runs, side-trips and controls, and the evaluation of every weight vector."""
    own = windows(settings)
    controlled = [(name, k) for name, k in own if k in settings.controls]
    constant = max(settings.controls, default=0)
    marks = {1, *(k for _, k in own)}
    rows = 1 + len(marks) + (1 + len(own)) + len(own) + len(controlled) + len(settings.controls)
    steps = _trip_steps(own) + _trip_steps(controlled) + constant
    return len(settings.seeds) * (
        _trained(settings, settings.steps)
        + settings.branches * (_trained(settings, steps) + _evaluated(settings, rows))
    )


def last_steps_operations(settings: Settings) -> float:
    """Side-trips before the common end; the main runs are those of `figure_5`."""
    if not settings.last_windows:
        return 0.0
    rows = 2 + len(settings.last_windows)
    one = _trained(settings, sum(settings.last_windows)) + _evaluated(settings, rows)
    return len(settings.seeds) * settings.branches * one


def _trip_steps(own: list[tuple[str, int]]) -> int:
    """The windows of two points are prefixes of one trip; each of the others is a trip of its own."""
    return max((k for name, k in own if name == "two-point"), default=0) + sum(k for n, k in own if n != "two-point")


def _trained(settings: Settings, steps: int) -> float:
    return steps * settings.batch * _of_an_image(settings)[1]


def _evaluated(settings: Settings, rows: int) -> float:
    """BatchNorm's batches, and the images that the losses are measured on."""
    images = settings.norm_batches * settings.norm_batch + settings.train_images + SHAPES[settings.dataset][2]
    return rows * images * _of_an_image(settings)[0]


def _of_an_image(settings: Settings) -> tuple[float, float]:
    shape, classes, _ = SHAPES[settings.dataset]
    return floors.operations(network(settings, 0, shape, classes, "cpu"), shape)
