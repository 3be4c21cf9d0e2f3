"""What is decided by the validation losses so far, one a check."""

from dataclasses import dataclass, field


@dataclass
class Halve:
    """rate <- factor rate      after `patience` checks in a row without a new best validation loss

    The count begins anew where the rate falls.

    >>> halve = Halve(patience=2, factor=0.5)
    >>> [halve.rescale(loss) for loss in (3.0, 3.5, 3.2, 2.9, 3.1, 3.0)]
    [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    """

    patience: int
    factor: float
    scale: float = 1.0
    best: float = float("inf")
    without: int = 0  # checks since the best loss, or since the rate fell

    def rescale(self, loss: float) -> float:
        """What the rate is multiplied with from this check on."""
        self.without = 0 if loss < self.best else self.without + 1
        self.best = min(self.best, loss)
        if self.without == self.patience:
            self.scale *= self.factor
            self.without = 0
        return self.scale


@dataclass
class NonMonotone:
    """Average from the first check t > n on with v_t > min(v_0, ..., v_{t-n-1})

    v: validation losses; n: `n`. Merity, Keskar and Socher 2018, algorithm 1 (NT-ASGD).

    >>> trigger = NonMonotone(n=1)
    >>> [trigger.fires(loss) for loss in (5.0, 4.0, 4.5, 4.2, 3.9)]
    [False, False, False, True, True]
    """

    n: int
    fired: bool = False
    losses: list[float] = field(default_factory=list)

    def fires(self, loss: float) -> bool:
        """Whether iterates are averaged from this check on."""
        earlier = self.losses[: -self.n] if self.n else self.losses
        self.fired = self.fired or (bool(earlier) and loss > min(earlier))
        self.losses.append(loss)
        return self.fired
