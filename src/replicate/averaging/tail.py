"""mean_t = mean_{t-1} + (theta_t - mean_{t-1}) / (t - T)      for t > T

T: the iterate at which `begin` was called, which need not be known before (Polyak and Juditsky
1992; as the second part of ASGD).
"""

import torch
from torch import Tensor, nn


class TailMean:
    """The mean of a model's iterates from a moment on that somebody chooses on the way.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> mean = TailMean()
    >>> for value in (9.0, 1.0, 2.0):
    ...     _ = nn.init.constant_(model.weight, value)
    ...     if value == 1.0:
    ...         mean.begin()
    ...     mean.update(model)
    >>> mean.weights.item(), mean.count
    (1.5, 2)
    """

    def __init__(self):
        self.begun = False
        self.count = 0  # iterates in the mean
        self.weights: Tensor | None = None  # (parameters,); None before the first of them

    def begin(self) -> None:
        """Take in the iterates that are told from now on; a second call changes nothing."""
        self.begun = True

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's parameters, if it has begun."""
        if not self.begun:
            return
        weights = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
        self.count += 1
        self.weights = (
            weights if self.weights is None else self.weights.lerp_(weights, 1 / self.count)
        )
