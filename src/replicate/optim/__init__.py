"""Optimizers: torch's own, under one roof with the methods of the sources (one file a method)."""

from torch.optim import LBFGS, SGD, Adam, AdamW

from replicate.optim.extrapolation import TaylorExtrapolation
from replicate.optim.keep_stepping import KeepStepping
from replicate.optim.keep_vaulting import KeepVaulting
from replicate.optim.lookahead import Lookahead

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "AdamW",
    "KeepStepping",
    "KeepVaulting",
    "Lookahead",
    "TaylorExtrapolation",
]
