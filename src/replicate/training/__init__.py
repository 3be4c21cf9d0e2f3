"""Training runs, their branches, and the losses and accuracies at their weights."""

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
from replicate.training.loop import State, advance, branch, steps
from replicate.training.weights import distance, flat_weights, load_flat

__all__ = [
    "Checkpoints",
    "Evaluator",
    "Flat",
    "GraphedGradients",
    "Lanes",
    "State",
    "advance",
    "branch",
    "cuda_graph",
    "distance",
    "evaluate",
    "flat_weights",
    "lane_steps",
    "load_flat",
    "load_records",
    "load_state",
    "load_tensor_file",
    "measure",
    "save_state",
    "save_tensor_file",
    "steps",
]
