"""A table in, axes out; nothing is computed here but the intervals of what is drawn."""

from replicate.plots.descent import (
    against_cost,
    iterations,
    leads,
    on_batches,
    overview,
    rate_curves,
    speed_ups,
    time_shares,
    turning,
)
from replicate.plots.figure import interval
from replicate.plots.trajectories import end_points, late_starts, ratios, side_trips

__all__ = [
    "against_cost",
    "end_points",
    "interval",
    "iterations",
    "late_starts",
    "leads",
    "on_batches",
    "overview",
    "rate_curves",
    "ratios",
    "side_trips",
    "speed_ups",
    "time_shares",
    "turning",
]
