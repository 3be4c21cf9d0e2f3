"""theta <- theta_0 - t lr g, as far as forward passes say that it pays: what KeepStepping and KeepVaulting share.

One gradient g, found before the step as with torch's SGD, is used for many mini-steps; a closure that computes the
loss, and nothing else, says after each of them where the weights have come to. Every forward pass is counted.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import BadParameter, Diverged, unknown

VARIANTS = ("corrected", "published")


class ForwardChecks(Optimizer):
    """Counts the forward passes and mini-steps of the last step and of all steps, and keeps them in its state.

    forwards, mini_steps: of the last step; total_forwards, total_mini_steps, steps: since this was made. A mini-step
    that was undone is counted too. A method says what it adds to the state in `OWN`.
    """

    OWN: tuple[str, ...] = ("max_steps", "variant")
    COUNTS = ("forwards", "mini_steps", "total_forwards", "total_mini_steps", "steps")

    def __init__(self, params: Iterable, lr: float, max_steps: int, variant: str):
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise BadParameter(f"max_steps must be a whole number of at least 1, got {max_steps!r}")
        if variant not in VARIANTS:
            raise unknown("variant", variant, VARIANTS)
        self.max_steps, self.variant = max_steps, variant
        for name in self.COUNTS:
            setattr(self, name, 0)
        super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict) -> None:
        """As torch does it; raises ValueError if the group's rate is not finite and above 0."""
        lr = param_group.get("lr", self.defaults["lr"])
        if not (math.isfinite(lr) and lr > 0):
            raise BadParameter(f"lr must be finite and above 0, got {lr}")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Tensor] | None = None, loss: Tensor | None = None) -> Tensor:
        """Walk along the gradients that are in `.grad`, and give the loss where the walk ends, detached.

        closure: computes the loss of the same rows and gives it, a scalar; it must not touch gradients. loss: the loss
        at the weights as they are, where the loop has it, which saves "corrected" a forward pass; "published" computes
        it again. Parameters without a gradient stay where they are.

        Raises ValueError without a closure, if it gives no scalar or if a gradient is sparse; Diverged if the loss is
        not finite where the walk would have to end.
        """
        if closure is None:
            raise BadParameter(f"{type(self).__name__}.step needs a closure that computes the loss, got None")
        moved = self._with_gradients()
        self.forwards = self.mini_steps = 0
        try:
            with torch.set_grad_enabled(self.variant == "published"):
                return self._walk(moved, closure, loss).detach()
        finally:
            self.steps += 1
            self.total_forwards += self.forwards
            self.total_mini_steps += self.mini_steps

    def _walk(self, moved: list, closure: Callable[[], Tensor], loss: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _with_gradients(self) -> list[tuple[Tensor, Tensor, float]]:
        """(parameter, gradient, rate) of every parameter that has a gradient."""
        found = [(p, p.grad, g["lr"]) for g in self.param_groups for p in g["params"] if p.grad is not None]
        if any(gradient.is_sparse for _, gradient, _ in found):
            raise BadParameter(f"{type(self).__name__} takes dense gradients only, got a sparse one")
        return found

    def _before(self, closure: Callable[[], Tensor], loss: Tensor | None) -> Tensor:
        """The loss before the walk, by a forward pass unless it is known."""
        return self._forward(closure) if loss is None else self._checked(loss.detach())

    def _forward(self, closure: Callable[[], Tensor], end: bool = True) -> Tensor:
        """The closure's loss, counted; unless `end`, the walk need not end here and the loss need not be finite."""
        self.forwards += 1
        return self._checked(closure(), end)

    def _checked(self, loss: Tensor, end: bool = True) -> Tensor:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise BadParameter(f"the loss must be a tensor with one number, got {got}")
        if end and not torch.isfinite(loss):
            about = f"after mini-step {self.mini_steps} of step {self.steps}"
            raise Diverged(f"loss is {loss.item()} {about} of {type(self).__name__}", self.steps)
        return loss

    @torch.no_grad()
    def _mini_step(self, moved: list, multiple: float) -> None:
        """theta <- theta - multiple lr g."""
        self.mini_steps += 1
        for parameter, gradient, lr in moved:
            parameter.add_(gradient, alpha=-lr * multiple)

    @torch.no_grad()
    def _go(self, moved: list, start: list[Tensor], t: float) -> None:
        """theta <- theta_0 - t lr g, and bit by bit theta_0 at t = 0."""
        for (parameter, gradient, lr), value in zip(moved, start, strict=True):
            parameter.copy_(value)
            if t:
                parameter.add_(gradient, alpha=-lr * t)

    def state_dict(self) -> dict:
        """Groups, counts and the method's own arguments."""
        return {**super().state_dict(), "walk": {name: getattr(self, name) for name in self.OWN + self.COUNTS}}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where `state_dict` was made, with its arguments; ValueError if it is another method's."""
        walk = state_dict.get("walk", {})
        if set(walk) != {*self.OWN, *self.COUNTS}:
            raise BadParameter(f"state_dict must be a {type(self).__name__}'s, got {sorted(state_dict)}")
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        self.__dict__.update(walk)

    def __getstate__(self) -> dict:
        # torch's version keeps three attributes only.
        return super().__getstate__() | {name: getattr(self, name) for name in self.OWN + self.COUNTS}
