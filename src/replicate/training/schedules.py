"""A learning-rate schedule is a function of the absolute step: step -> rate of the update that
leaves that step.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """The same rate at every step. Raises ValueError unless lr is positive and finite."""
    _positive("lr", lr)
    return lambda step: lr


def warmup(base: Schedule, steps: int) -> Schedule:
    """lambda(i) = base(i) (i + 1) / steps for i < steps, then base(i).

    Linear warm-up of Goyal et al. 2017, section 2.2; `steps` = 0 is no warm-up. Raises ValueError
    if steps < 0.
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    return lambda step: base(step) * min(1.0, (step + 1) / steps if steps else 1.0)


def cosine(lr: float, steps: int) -> Schedule:
    """lambda(i) = lr (1 + cos(pi i / steps)) / 2, zero from `steps` on (Loshchilov and Hutter 2016,
    eq. 5).
    """
    _positive("lr", lr)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return lambda step: lr * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")
