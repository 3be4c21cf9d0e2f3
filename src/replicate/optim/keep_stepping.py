"""theta <- theta - lr (1 + scale_i sqrt(i)) g,   i = 0, 1, 2, ...    until the loss gets worse

g: one gradient, for the whole walk; lr: the group's rate; scale_i: `scale_i`, impatience.

Warmerdam 2020, More descent, less gradient, section Towards Networks. The published class does
something else in four places; variant "published" does it too:

    its sign is wrong       theta <- theta - lr (1 - scale_i sqrt(i)) g: scale_i = 2 walks 1, 1, -1
    i = 0 comes twice       before its loop and as the first in it
    one more                up to max_steps + 1 mini-steps
    forwards with a graph   which nothing uses; and one for the loss that the loop has already

Its forward passes move BatchNorm's statistics and dropout's random state, which the networks of the
source do not have; here neither variant does.
"""

from collections.abc import Callable, Iterable
from math import isfinite, sqrt

from torch import Tensor

from replicate.errors import BadParameter
from replicate.optim.forward_checks import ForwardChecks


class KeepStepping(ForwardChecks):
    """Gradient descent that keeps stepping along one gradient while the loss falls.

    "corrected" takes mini-step i = 0, 1, ..., max_steps - 1 once each; the first is the step that
    SGD would take. It stops after the first mini-step that does not lower the loss. That one is
    kept, as the source has it, or with `rollback` taken back bit by bit: then the loss never rises,
    and with all rows at once a walk whose very first mini-step is too long stands still until its
    rate is lowered. Where the gradient is zero it takes no mini-step.

    >>> import torch
    >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = KeepStepping([theta], lr=0.25)
    >>> loss = (theta**2).sum()
    >>> loss.backward()  # the gradient is 2, a mini-step 0.5
    >>> optimizer.step(lambda: (theta**2).sum(), loss)  # 1, 0.5, 0, and -0.5, where the loss rises
    tensor(0.2500)
    >>> theta.item(), optimizer.mini_steps
    (-0.5, 3)
    """

    SETTINGS = (*ForwardChecks.SETTINGS, "scale_i", "rollback")

    def __init__(
        self,
        params: Iterable,
        lr: float,
        max_steps: int = 20,
        scale_i: float = 0.0,
        variant: str = "corrected",
        rollback: bool = False,
    ):
        """max_steps: the most mini-steps a gradient; scale_i: impatience.

        Both defaults are the published class's. Raises BadParameter (a ValueError) if lr is not
        finite and above 0, max_steps is not a whole number of at least 1, scale_i is not finite and
        at least 0, the variant is unknown, or the published one is to roll back.
        """
        settings = {"max_steps": max_steps, "variant": variant}
        super().__init__(params, lr, **settings, scale_i=scale_i, rollback=rollback)

    def _check_settings(self, settings: dict) -> None:
        super()._check_settings(settings)
        scale_i = settings["scale_i"]
        if not (isfinite(scale_i) and scale_i >= 0):
            raise BadParameter(f"scale_i must be finite and at least 0, got {scale_i}")
        if settings["rollback"] and settings["variant"] == "published":
            raise BadParameter('rollback must be False with variant "published", got True')

    def _walk(
        self, moved: list, start: list[Tensor], closure: Callable[[], Tensor], loss: Tensor | None
    ) -> Tensor:
        if self.variant == "published":
            return self._step_as_published(moved, closure)
        old = self._before(closure, loss)
        if not any(gradient.any() for _, gradient, _ in moved):
            return old
        for i in range(self.max_steps):
            better = [parameter.clone() for parameter, _, _ in moved] if self.rollback else []
            self._mini_step(moved, 1 + self.scale_i * sqrt(i))
            new = self._forward(closure, end=not self.rollback)
            if not new < old:
                if self.rollback:
                    self._go(moved, better, 0.0)
                return old if self.rollback else new
            old = new
        return old

    def _step_as_published(self, moved: list, closure: Callable[[], Tensor]) -> Tensor:
        old = self._forward(closure)
        self._mini_step(moved, 1.0)
        new = self._forward(closure)
        i = 0
        while new < old and i < self.max_steps:
            self._mini_step(moved, 1 - self.scale_i * sqrt(i))
            old = new
            new = self._forward(closure)
            i += 1
        return new
