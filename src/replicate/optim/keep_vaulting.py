"""theta <- theta_0 - t g,   t from the losses seen on the way:   one gradient g, few long jumps

Warmerdam 2020, More descent, less gradient, section One Step Further, means t to be Newton's step in one dimension.
With f(t) the loss along -g, and f'(0) = -|g|^2 known and free, the parabola through f(0), f'(0) and f(t) has its lowest
point at

    t' = |g|^2 t^2 / 2 (f(t) - f(0) + |g|^2 t)                                                          rule "secant"

The published class divides a slope by a slope of another unit, and what it computes amounts, with L_0 and L_1 the last
two losses, to a jump by

    lr (1 + lr L_1 / (L_0 - L_1)),    which is lr (1 + L_1 / |g|^2) with the secant slope put right     rule "polyak"

L / |g|^2 being Polyak's step to a smallest loss of 0, taken lr times over. Variant "published" is the class as it
stands.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from replicate.errors import BadParameter, Diverged, unknown
from replicate.optim.forward_checks import ForwardChecks

RULES = ("secant", "polyak")
CLOSE = 0.1  # a change of the step by a tenth has a hundredth of the parabola's fall left to gain


class KeepVaulting(ForwardChecks):
    """Gradient descent that tries a few lengths along one gradient and ends at the best of them.

    "corrected" tries t = lr, and from each length tried takes the next by `rule`, at most `cap` times as long and at
    least 1/cap as long, until the loss gets worse, the rule is content or max_steps lengths were tried. While none is
    better than not moving it tries shorter ones. It ends where the loss was lowest, so that the loss never rises and
    never stops being finite; where the gradient is zero it does not move. With groups, t lr is in the place of t.
    """

    OWN = (*ForwardChecks.OWN, "rule", "cap", "lr_orig")

    def __init__(
        self,
        params: Iterable,
        lr: float,
        max_steps: int = 20,
        variant: str = "corrected",
        rule: str = "secant",
        cap: float = 10.0,
    ):
        """max_steps: lengths tried, the published default. cap: an interpolated step is no shorter than a tenth of the
        one before, after Dennis and Schnabel 1983, section 6.3.2; and in the other direction it may grow as much.

        `rule` and `cap` are without effect on "published". Raises ValueError if lr is not finite and above 0, max_steps
        is not a whole number of at least 1, cap is not finite and above 1, or the variant or rule is unknown.
        """
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        if not (math.isfinite(cap) and cap > 1):
            raise BadParameter(f"cap must be finite and above 1, got {cap}")
        self.rule, self.cap, self.lr_orig = rule, cap, lr
        super().__init__(params, lr, max_steps, variant)

    def _walk(self, moved: list, closure: Callable[[], Tensor], loss: Tensor | None) -> Tensor:
        if self.variant == "published":
            return self._published(moved, closure)
        before = self._before(closure, loss)
        if self.rule == "polyak" and before < 0:
            raise BadParameter(f'rule "polyak" takes losses of at least 0, got {before.item()}')
        squares = [(torch.linalg.vector_norm(g, dtype=torch.float64).item() ** 2, lr) for _, g, lr in moved]
        norm, slope = sum(one for one, _ in squares), sum(one * lr for one, lr in squares)
        if not math.isfinite(slope):
            raise Diverged(f"the gradient is not finite before step {self.steps} of KeepVaulting", self.steps)
        if slope == 0:
            return before
        start = [parameter.clone() for parameter, _, _ in moved]
        t, best, lowest = 1.0, 0.0, before  # lengths in units of lr
        while self.mini_steps < self.max_steps:
            self._go(moved, start, t)
            self.mini_steps += 1
            new = self._forward(closure, end=False)
            better = bool(new < lowest)
            if better:
                best, lowest = t, new
            elif best > 0:
                break
            longer = self._next(t, new.item(), before.item(), slope, norm, better)
            if longer == t:
                break
            t = longer
        self._go(moved, start, best)
        return lowest

    def _next(self, t: float, new: float, before: float, slope: float, norm: float, better: bool) -> float:
        """The length to try after t, where the loss was `new`."""
        if self.rule == "polyak":
            wanted = t + 1 + new / norm if better else 0.0
        elif math.isnan(new):
            wanted = 0.0
        else:
            above = new - before + slope * t  # the tangent's; of a parabola a t^2
            wanted = t * (slope * t / (2 * above)) if above > 0 else math.inf
            if abs(wanted - t) <= CLOSE * t:
                return t
        return min(max(wanted, t / self.cap), t * self.cap)

    def _published(self, moved: list, closure: Callable[[], Tensor]) -> Tensor:
        old = self._forward(closure)
        self._mini_step(moved, 1.0)
        new, i = self._forward(closure), 0
        while new < old and i < self.max_steps:
            f1 = (new.item() - old.item()) / self.lr_orig
            f2 = (new.item() - f1) / self.lr_orig
            self._mini_step(moved, -f2 / f1 * self.lr_orig)
            old, new = new, self._forward(closure)
            i += 1
        return new
