"""lambda'(i) = lambda(i) w_{i - start}: the schedule that leads to an average, in torch's form."""

from collections.abc import Callable

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from replicate.averaging.kernels import describe, kernel_weights


class EquivalentLR(LRScheduler):
    """lambda'(i) = lambda(i) w_{i - start} for every parameter group, as a torch scheduler.

    lambda is the group's rate, or `base`; w are the tail sums of `mu`, 1 before the window and 0
    behind it, where the weights rest at what would be the average. To be stepped once per update.

    >>> import torch
    >>> from replicate.averaging import swa
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> scheduler = EquivalentLR(optimizer, swa(4))
    >>> scheduler
    EquivalentLR(swa(k=4), start=0, step=0)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.1, 0.075, 0.05, 0.025, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mu: np.ndarray,
        start: int = 0,
        base: Callable[[int], float] | None = None,
        last_epoch: int = -1,
    ):
        """mu: (k + 1,); start: the step of theta_t1, counted from the scheduler's first; base: step
        -> rate.

        base None means each group's own rate, as in all of torch's schedulers; last_epoch is
        theirs. Raises ValueError if mu is no kernel or start is negative.
        """
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.tail_sums = kernel_weights(
            mu
        ).tolist()  # numbers, so that a state loads with weights_only
        self.mu = np.asarray(mu, dtype=np.float64).tolist()
        self.start = start
        self.base = base
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for the update that comes next."""
        weight = self._weight(self.last_epoch - self.start)
        rates = (
            self.base_lrs
            if self.base is None
            else [self.base(self.last_epoch)] * len(self.base_lrs)
        )
        return [rate * weight for rate in rates]

    def state_dict(self) -> dict:
        """As of torch's schedulers: all but the optimizer, and `base`, which is code."""
        return {name: value for name, value in super().state_dict().items() if name != "base"}

    def __repr__(self) -> str:
        kernel = describe(np.array(self.mu))
        return f"EquivalentLR({kernel}, start={self.start}, step={self.last_epoch})"

    def _weight(self, t: int) -> float:
        if t < 0:
            return 1.0
        return self.tail_sums[t] if t < len(self.tail_sums) else 0.0
