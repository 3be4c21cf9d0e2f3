"""How many multiplications and additions the runs on images are, from the settings: the floor of their seconds."""

from replicate import floors
from replicate.sources.fabi2021extrapolation.arms import ARMS
from replicate.sources.fabi2021extrapolation.comparison import network
from replicate.sources.fabi2021extrapolation.settings import Settings

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "tiny-imagenet-10": (3, 64, 64), "imagewoof": (3, 224, 224)}


def networks_operations(settings: Settings) -> float:
    """The runs of `networks`, each arm in each regime, at most: arms whose rates agree share a run. No evaluation."""
    own = sum(ARMS[arm].length for arm in settings.arms) * len(settings.regimes)
    return own * len(settings.seeds) * settings.steps * settings.batch * _of_an_image(settings)


def search_operations(settings: Settings) -> float:
    """The runs of `search` at the batch size of `networks` and at those that are compared."""
    images = len(settings.searched) * settings.batch + 2 * sum(settings.batches)
    return len(settings.tuning_seeds) * len(settings.rates) * settings.steps * images * _of_an_image(settings)


def _of_an_image(settings: Settings) -> float:
    """Forward and backward pass of one image."""
    return floors.operations(network(settings, 0, "cpu"), SHAPES[settings.dataset])[1]
