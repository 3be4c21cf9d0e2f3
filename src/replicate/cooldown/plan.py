"""start_b = (b + 1) steps // branches - window        b = 0 .. branches - 1

How long a comparison goes and where it leaves the main run: the run is cut into equal stretches, and
each ends with a window.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np

from replicate.averaging import kernel_weights
from replicate.errors import BadParameter

STREAMS_OF_A_RUN = 2  # streams of mini-batches: its own, and others from a branch point on
FIRST_RUN = 4  # streams before are those of batches that nobody trains on


LEAST_VALUES = {"window": 1, "steps": 1, "branches": 1, "runs": 1, "directions": 0, "norm_batches": 1,
         "seed": 0}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Numbers of a comparison. Raises BadParameter where they do not fit each other."""

    window: int
    kernel: Callable[[int], np.ndarray] = field(repr=False)  # its weights are named instead
    steps: int
    branches: int
    runs: int = field(repr=False)  # more of them join those that are there
    directions: int
    norm_batches: int
    seed: int
    weights: tuple[float, ...] = field(init=False)

    def __post_init__(self):
        for name, least in LEAST_VALUES.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise BadParameter(f"{name} must be a whole number from {least} on, got {value!r}")
        if self.window * self.branches > self.steps:
            raise BadParameter(
                f"window must fit {self.branches} times into the run of {self.steps} steps, one window "
                f"a branch point, got {self.window}; name more steps or fewer branches"
            )
        object.__setattr__(self, "weights", tuple(self._read_kernel().tolist()))

    def _read_kernel(self) -> np.ndarray:
        if not callable(self.kernel):
            raise BadParameter(
                f"kernel must be a function of the window, such as averaging.swa, got {self.kernel!r}"
            )
        try:
            mu = np.asarray(self.kernel(self.window), dtype=np.float64)
            kernel_weights(mu)
        except ValueError as error:
            raise BadParameter(f"kernel: {error}") from None
        if len(mu) != self.window + 1:
            raise BadParameter(
                f"kernel must give {self.window + 1} weights for a window of {self.window} steps, "
                f"got {len(mu)}"
            )
        return mu

    @property
    def mu(self) -> np.ndarray:
        """The kernel's weights, (window + 1,)."""
        return np.array(self.weights)

    @property
    def starts(self) -> tuple[int, ...]:
        """The step of each branch point."""
        return tuple(
            (branch + 1) * self.steps // self.branches - self.window
            for branch in range(self.branches)
        )

    def streams(self, run: int) -> tuple[int, int]:
        """A run's mini-batches, and those of trips that see others."""
        first = FIRST_RUN + STREAMS_OF_A_RUN * run
        return first, first + 1

    def count_steps(self, branch: int) -> int:
        """Steps of a run's stretch and of the trips from its branch point: three, at the first one
        a fourth that is a replay.
        """
        before = self.starts[branch - 1] + self.window if branch else 0
        trips = 3 if branch else 4
        return self.starts[branch] - before + (1 + trips) * self.window

    @property
    def total(self) -> int:
        """Steps of all runs and trips."""
        return self.runs * sum(map(self.count_steps, range(self.branches)))
