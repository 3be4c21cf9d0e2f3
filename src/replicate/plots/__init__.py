"""A table in, axes out; nothing is computed here but the intervals of what is drawn."""

from replicate.plots.extrapolation import (
    arms_over,
    arriving,
    basin_shares,
    benefit_by_batch,
    error_orders,
    loss_by_rate,
    noise_and_batch,
    stability_map,
    toy_paths,
    toy_rates,
)
from replicate.plots.figure import interval
from replicate.plots.trajectories import end_points, late_starts, ratios, side_trips

__all__ = [
    "arms_over",
    "arriving",
    "basin_shares",
    "benefit_by_batch",
    "end_points",
    "error_orders",
    "interval",
    "late_starts",
    "loss_by_rate",
    "noise_and_batch",
    "ratios",
    "side_trips",
    "stability_map",
    "toy_paths",
    "toy_rates",
]
