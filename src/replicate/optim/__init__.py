"""Optimizers: torch's own, under one roof with the methods of the sources (one file per method)."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from torch.optim import LBFGS, SGD, Adafactor, Adam, AdamW

    from replicate.optim.extrapolation import TaylorExtrapolation
    from replicate.optim.keep_stepping import KeepStepping
    from replicate.optim.keep_vaulting import KeepVaulting
    from replicate.optim.lookahead import Lookahead
    from replicate.optim.on_array import run_on_array
    from replicate.optim.outer_nesterov import OuterNesterov
    from replicate.optim.schedule_free import ScheduleFreeSGD

lazy.attach(__name__)
