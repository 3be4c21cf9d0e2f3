"""Training runs, their branches, and what their weights are worth."""

from replicate.training.checkpoint import load_state, load_tensor_file, save_state, save_tensor_file
from replicate.training.evaluation import evaluate
from replicate.training.loop import State, branch, steps
from replicate.training.weights import distance, flat_weights, load_flat

__all__ = [
    "State",
    "branch",
    "distance",
    "evaluate",
    "flat_weights",
    "load_flat",
    "load_state",
    "load_tensor_file",
    "save_state",
    "save_tensor_file",
    "steps",
]
