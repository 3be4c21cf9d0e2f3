"""The masks of step t are drawn from rng(seed, "dropout", t): every method sees the same, and no
generator's state is saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from replicate.streams import rng

LIMIT = 2**63  # of what torch takes for a seed


@contextmanager
def draw_masks(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators within the block, which are afterwards as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(rng(seed, "dropout", step).integers(LIMIT)))
        yield
