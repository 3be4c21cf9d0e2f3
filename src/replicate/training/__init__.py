"""Training runs, their branches, and the losses and accuracies at their weights."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.training import full_batch, schedules
    from replicate.training.checkpoint import (
        Checkpoints,
        load_records,
        load_state,
        load_tensor_file,
        save_state,
        save_tensor_file,
    )
    from replicate.training.evaluation import Evaluator, evaluate, measure
    from replicate.training.flat import Flat
    from replicate.training.gradient import GraphedGradients, cuda_graph
    from replicate.training.lanes import Lanes, lane_steps
    from replicate.training.language import TextReader, measure_text
    from replicate.training.lend import lend
    from replicate.training.loop import State, advance, branch, steps
    from replicate.training.plateau import Halve, NonMonotone
    from replicate.training.surface import Surface
    from replicate.training.translation import measure_pairs, translate, translation_steps
    from replicate.training.weights import distance, flat_weights, load_flat

lazy.attach(__name__)
