"""A table in, axes out; nothing is computed here but the intervals of what is drawn."""

from replicate.plots.figure import interval
from replicate.plots.trajectories import end_points, late_starts, ratios, side_trips

__all__ = ["end_points", "interval", "late_starts", "ratios", "side_trips"]
