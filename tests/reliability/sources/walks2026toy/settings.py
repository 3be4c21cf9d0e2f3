"""How long the walks of a test are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    dataset: str = "plane"
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    steps: int = 20
    pause: float = 0.0  # seconds of a step, so that a signal comes in the middle of a walk
