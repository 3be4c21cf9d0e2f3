"""theta <- theta - lr (1 + scale_i sqrt(i)) g,   i = 0, 1, 2, ...      with one gradient g, until the loss gets worse

Warmerdam 2020, More descent, less gradient, section Towards Networks. The published class does something else in four
places; variant "published" does it too:

    its sign is wrong       theta <- theta - lr (1 - scale_i sqrt(i)) g: at scale_i = 2 it walks 1, 1, -1, -1.83, ...
    i = 0 comes twice       before its loop and as the first in it
    one more                up to max_steps + 1 mini-steps
    forwards with a graph   which nothing uses; and one for the loss that the training loop has computed already
"""

from collections.abc import Callable, Iterable
from math import isfinite, sqrt

from torch import Tensor

from replicate.errors import BadParameter
from replicate.optim.forward_checks import ForwardChecks


class KeepStepping(ForwardChecks):
    """Gradient descent that keeps stepping along one gradient while a forward pass says that the loss falls.

    "corrected" takes mini-step i = 0, 1, ..., max_steps - 1 once each; the first is the step that SGD would take. It
    stops after the first mini-step that does not lower the loss. That one is kept, as the source has it, or with
    `rollback` taken back bit by bit: then the loss never rises, and with all rows at once a walk whose very first
    mini-step is too long stands still until its rate is lowered. Where the gradient is zero it takes no mini-step.
    """

    OWN = (*ForwardChecks.OWN, "scale_i", "rollback")

    def __init__(
        self,
        params: Iterable,
        lr: float,
        max_steps: int = 20,
        scale_i: float = 0.0,
        variant: str = "corrected",
        rollback: bool = False,
    ):
        """max_steps: the most mini-steps a gradient; scale_i: impatience; both defaults are the published class's.

        Raises ValueError if lr is not finite and above 0, max_steps is not a whole number of at least 1, scale_i is not
        finite and at least 0, the variant is unknown, or the published one is to roll back.
        """
        if not (isfinite(scale_i) and scale_i >= 0):
            raise BadParameter(f"scale_i must be finite and at least 0, got {scale_i}")
        if rollback and variant == "published":
            raise BadParameter('rollback must be False with variant "published", got True')
        self.scale_i, self.rollback = scale_i, rollback
        super().__init__(params, lr, max_steps, variant)

    def _walk(self, moved: list, closure: Callable[[], Tensor], loss: Tensor | None) -> Tensor:
        if self.variant == "published":
            return self._published(moved, closure)
        old = self._before(closure, loss)
        if not any(gradient.any() for _, gradient, _ in moved):
            return old
        for i in range(self.max_steps):
            start = [parameter.clone() for parameter, _, _ in moved] if self.rollback else []
            self._mini_step(moved, 1 + self.scale_i * sqrt(i))
            new = self._forward(closure, end=not self.rollback)
            if not new < old:
                if self.rollback:
                    self._go(moved, start, 0.0)
                return old if self.rollback else new
            old = new
        return old

    def _published(self, moved: list, closure: Callable[[], Tensor]) -> Tensor:
        old = self._forward(closure)
        self._mini_step(moved, 1.0)
        new, i = self._forward(closure), 0
        while new < old and i < self.max_steps:
            self._mini_step(moved, 1 - self.scale_i * sqrt(i))
            old, new = new, self._forward(closure)
            i += 1
        return new
