"""theta <- theta_0 - t g,   t from the losses seen on the way:   one gradient g, few long jumps

Warmerdam 2020, More descent, less gradient, section One Step Further, means t to be Newton's step
in one dimension. With f(t) the loss along -g, and f'(0) = -|g|^2 known and free, the parabola
through f(0), f'(0) and f(t) has its lowest point at

    t' = |g|^2 t^2 / 2 (f(t) - f(0) + |g|^2 t)                                         rule "secant"

The published class divides a slope by a slope of another unit, and what it computes amounts, with
L_0 and L_1 the last two losses, to a jump by lr (1 + lr L_1 / (L_0 - L_1)), which is

    lr (1 + L_1 / |g|^2)        with the secant slope put right                        rule "polyak"

L / |g|^2 being Polyak's step to a smallest loss of 0, taken lr times over. Variant "published" is
the class as it stands, but for BatchNorm's statistics and dropout's random state, which it moves.
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

    "corrected" tries t = lr, and from each length tried takes the next by `rule`, at most `cap`
    times as long and at least 1/cap as long, until the loss gets worse, the rule is content or
    max_steps lengths were tried. While none is better than not moving it tries shorter ones. It
    ends where the loss was lowest, so that the loss never rises and never stops being finite; where
    the gradient is zero it does not move. With groups, t lr is in the place of t.

    >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = KeepVaulting([theta], lr=0.1)
    >>> loss = (theta**2).sum()
    >>> loss.backward()
    >>> end = optimizer.step(lambda: (theta**2).sum(), loss)
    >>> abs(theta.item()) < 1e-5, optimizer.forwards  # a parabola's lowest point at once
    (True, 2)
    """

    SETTINGS = (*ForwardChecks.SETTINGS, "rule", "cap")
    COUNTS = (*ForwardChecks.COUNTS, "lr_orig")  # the rate of its making, by which "published" goes

    def __init__(
        self,
        params: Iterable,
        lr: float,
        max_steps: int = 20,
        variant: str = "corrected",
        rule: str = "secant",
        cap: float = 10.0,
    ):
        """max_steps: lengths tried, the published default; cap: how far a length may change.

        cap = 10: an interpolated step is no shorter than a tenth of the one before, after Dennis
        and Schnabel 1983, section 6.3.2; and in the other direction it may grow as much. `rule` and
        `cap` are without effect on "published". Raises BadParameter (a ValueError) if lr is not
        finite and above 0, max_steps is not a whole number of at least 1, cap is not finite and
        above 1, or the variant or rule is unknown.
        """
        settings = {"max_steps": max_steps, "variant": variant}
        super().__init__(params, lr, **settings, rule=rule, cap=cap, lr_orig=lr)

    def _check_settings(self, settings: dict) -> None:
        super()._check_settings(settings)
        if settings["rule"] not in RULES:
            raise unknown("rule", settings["rule"], RULES)
        cap = settings["cap"]
        if not (math.isfinite(cap) and cap > 1):
            raise BadParameter(f"cap must be finite and above 1, got {cap}")
        lr = settings["lr_orig"]
        if not (math.isfinite(lr) and lr > 0):
            raise BadParameter(f"lr must be finite and above 0, got {lr}")

    def _walk(
        self, moved: list, start: list[Tensor], closure: Callable[[], Tensor], loss: Tensor | None
    ) -> Tensor:
        if self.variant == "published":
            return self._step_as_published(moved, closure)
        before = self._before(closure, loss)
        if self.rule == "polyak" and before < 0:
            raise BadParameter(f'rule "polyak" takes losses of at least 0, got {before.item()}')
        squares = [(_square(gradient), lr) for _, gradient, lr in moved]
        norm = sum(square for square, _ in squares)
        slope = sum(square * lr for square, lr in squares)
        if not math.isfinite(slope):
            line = f"the gradient is not finite before step {self.steps} of KeepVaulting"
            raise Diverged(line, self.steps)
        return before if slope == 0 else self._search(moved, start, closure, before, slope, norm)

    def _search(self, moved, start, closure, before: Tensor, slope: float, norm: float) -> Tensor:
        """Try lengths, go to the best, and give its loss. slope: -f'(0), norm: |g|^2."""
        t = 1.0  # lengths in units of lr
        best = 0.0
        lowest = before
        while self.mini_steps < self.max_steps:
            self._go(moved, start, t)
            self.mini_steps += 1
            new = self._forward(closure, end=False)
            better = bool(new < lowest)
            if better:
                best = t
                lowest = new
            elif best > 0:
                break
            longer = self._propose(t, new.item(), before.item(), slope, norm, better)
            if longer == t:
                break
            t = longer
        self._go(moved, start, best)
        return lowest

    def _propose(
        self, t: float, new: float, before: float, slope: float, norm: float, better: bool
    ) -> float:
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

    def _step_as_published(self, moved: list, closure: Callable[[], Tensor]) -> Tensor:
        old = self._forward(closure)
        self._mini_step(moved, 1.0)
        new = self._forward(closure)
        i = 0
        while new < old and i < self.max_steps:
            f1 = (new.item() - old.item()) / self.lr_orig
            f2 = (new.item() - f1) / self.lr_orig
            self._mini_step(moved, -f2 / f1 * self.lr_orig)
            old = new
            new = self._forward(closure)
            i += 1
        return new


def _square(gradient: Tensor) -> float:
    """|g|^2, of a complex gradient too, in float64."""
    real = torch.view_as_real(gradient) if gradient.is_complex() else gradient
    return torch.linalg.vector_norm(real, dtype=torch.float64).item() ** 2
