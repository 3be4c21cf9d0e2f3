"""A table in, axes out; nothing is computed here but the intervals of what is drawn."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.plots.across import ends_by_pace, filter_views, list_edges, list_ends
    from replicate.plots.fabi2021extrapolation import (
        arms_over,
        basin_shares,
        benefit_by_batch,
        changed_weights,
        error_orders,
        loss_by_rate,
        noise_and_batch,
        one_weight,
        stability_map,
        toy_paths,
        toy_rates,
    )
    from replicate.plots.fixed_batches import basins, drops_by_batch, single_steps
    from replicate.plots.foretold import cooldowns, kernel_gains
    from replicate.plots.sandler2023trajectories import (
        drag_and_drift,
        end_points,
        ratios,
        side_trip_starts,
        side_trips,
        spectrum,
        two_regimes,
        two_scales,
    )
    from replicate.plots.sandler2023trajectories_trips import (
        batch_gradients,
        distances_to_ends,
        flat_and_steep,
        gains,
        losses_under_drift,
        predictions_beside,
        radii,
        trips_apart,
    )
    from replicate.plots.style import interval
    from replicate.plots.warmerdam2020descent import (
        against_cost,
        iterations,
        leads,
        mse_against_time,
        on_batches,
        on_your_images,
        overview,
        rate_curves,
        second_order,
        speed_ups,
        time_shares,
        turning,
    )
    from replicate.plots.zhang2019lookahead import (
        accuracy_by_setup,
        accuracy_surface,
        accuracy_within_cycle,
        averages_and_acceleration,
        convergence_rates,
        ends_of_combinations,
        loss_by_arm,
        loss_by_inner_state,
        loss_by_k_and_alpha,
        loss_by_rate_and_momentum,
        losses_at_best_rates,
        table_of_accuracies,
        variance_by_rate,
    )
    from replicate.plots.zhang2019lookahead_recipes import accuracies_by_epoch, losses_at_defaults
    from replicate.plots.zhang2019lookahead_text import perplexities, translation_losses

lazy.attach(__name__)
