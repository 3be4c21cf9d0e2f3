"""Every random number is a function of (seed, use, index, stream); no generator state is ever
saved.

    rng(seed, use, index, stream) = Philox(key = (seed + 2^32 stream, number of use), counter = (0,
    0, 0, index))

The tables of an epoch are `rng(seed, use, epoch, stream)`. Stream 0 is the main run's mini-batches;
another stream is another draw of mini-batches from the same seed. The numbers are NumPy's, so they
are the same on every device.
"""

import numpy as np

from replicate.errors import unknown

USES = (
    "init",
    "order",
    "augment",
    "noise",
    "dropout",
    "eval",
    "bootstrap",
)  # appended to, never reordered
SEED_LIMIT = 2**32  # torch's CPU generator and jax's keys both keep only 32 bits of a seed


def rng(seed: int, use: str, index: int, stream: int = 0) -> np.random.Generator:
    """The generator of one purpose at one index.

    Raises ValueError if `use` is not one of `USES`, a seed or stream lies outside [0, 2^32) or an
    index is negative.
    """
    if use not in USES:
        raise unknown("use of randomness", use, USES)
    for name, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value < SEED_LIMIT:
            raise ValueError(f"{name} must be in [0, 2^32), got {value}")
    if index < 0:
        raise ValueError(f"index must be at least 0, got {index}")
    key = np.array([seed + SEED_LIMIT * stream, USES.index(use)], dtype=np.uint64)
    return np.random.Generator(
        np.random.Philox(key=key, counter=np.array([0, 0, 0, index], dtype=np.uint64))
    )
