"""Fabi (2021). Weight Extrapolation. Draft of a post; the published version of 5 September 2021 has other experiments.

Extrapolating the weights between steps by a Taylor series whose derivatives come from past gradients: the derivations
line by line, the published post's figures on toy functions, the draft's comparison on networks, and the controls that
neither has: a plain gradient step of the same length, a larger rate, heavy ball, and rates chosen for every arm.
"""

from replicate.sources.fabi2021extrapolation.comparison import batch_sizes, networks, rate_curves, search
from replicate.sources.fabi2021extrapolation.cost import networks_operations, search_operations
from replicate.sources.fabi2021extrapolation.derivations import derivations, lines
from replicate.sources.fabi2021extrapolation.dynamics import noise, stability
from replicate.sources.fabi2021extrapolation.float32 import resolution
from replicate.sources.fabi2021extrapolation.orders import orders
from replicate.sources.fabi2021extrapolation.outside import behaviour
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA, DRAWN, PAPER, PRESETS, TOYS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.fabi2021extrapolation.toys import basins, landscapes, paths, rate_search
from replicate.sources.fabi2021extrapolation.verdicts import BUILT, measure

TITLE = "Weight extrapolation with Taylor series and finite differences (Fabi 2021)"
EXPERIMENTS = (
    derivations,
    orders,
    behaviour,
    stability,
    noise,
    paths,
    rate_search,
    basins,
    search,
    networks,
    rate_curves,
    batch_sizes,
    resolution,
)
COST = """Imagewoof is only found, never fetched; no experiment here reads it yet. Estimated from floors, not measured:
20 epochs of its 9025 images on ResNet-18 at 224 px are 2e15 floating-point operations a run, minutes of one GPU, and
the arms, the grid of rates and five seeds some 60 such runs."""
OPERATIONS = {networks: networks_operations, search: search_operations}
WITHOUT_DATA = (derivations, orders, behaviour, stability, noise)  # run once, on ALGEBRA, at every preset
SYNTHETIC = tuple(TOYS)
RUNS_ON = {
    **dict.fromkeys((paths, rate_search), SYNTHETIC),
    basins: ("goldstein-price",),
    **dict.fromkeys(
        (search, networks, rate_curves, batch_sizes, resolution), ("digits", "cifar10", "tiny-imagenet-10", "imagewoof")
    ),
}

__all__ = [
    "ALGEBRA",
    "BUILT",
    "COST",
    "DRAWN",
    "EXPERIMENTS",
    "OPERATIONS",
    "PAPER",
    "PRESETS",
    "RUNS_ON",
    "SYNTHETIC",
    "TITLE",
    "TOYS",
    "WITHOUT_DATA",
    "Settings",
    "basins",
    "batch_sizes",
    "behaviour",
    "derivations",
    "landscapes",
    "lines",
    "measure",
    "networks",
    "noise",
    "orders",
    "paths",
    "rate_curves",
    "rate_search",
    "resolution",
    "search",
    "stability",
]
