"""theta <- theta_0 - t lr g, as far as forward passes say that it pays.

What KeepStepping and KeepVaulting share: one gradient g, found before the step as with torch's SGD,
is used for many mini-steps; a closure that computes the loss, and nothing else, says after each of
them where the weights have come to. Every forward pass is counted.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from replicate.errors import BadParameter, Diverged, unknown
from replicate.optim.method import Method, check_groups, is_whole
from replicate.optim.watch import Watch

VARIANTS = ("corrected", "published")


class ForwardChecks(Method):
    """Counts the forward passes and mini-steps of the last step and of all steps.

    forwards, mini_steps: of the last step; total_forwards, total_mini_steps, steps: since this was
    made. A mini-step that was undone is counted too. A forward pass leaves buffers of the modules
    that it calls (BatchNorm's statistics and count) and torch's random state (dropout's) as they
    were, so that all passes of a step see the same masks.

    >>> from replicate.optim import KeepStepping
    >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = KeepStepping([theta], lr=0.25, max_steps=3)
    >>> (theta**2).sum().backward()
    >>> loss = optimizer.step(lambda: (theta**2).sum())
    >>> isinstance(optimizer, ForwardChecks), optimizer.forwards, optimizer.mini_steps
    (True, 4, 3)
    """

    ENTRY = "walk"
    SETTINGS = ("max_steps", "variant")
    COUNTS = ("forwards", "mini_steps", "total_forwards", "total_mini_steps", "steps")

    def __init__(self, params: Iterable, lr: float, **settings):
        self._check_settings(settings)
        self.__dict__.update(dict.fromkeys(self.COUNTS, 0) | settings)
        self._watch = Watch()
        super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict) -> None:
        """As torch does it; raises BadParameter if the group's rate is not finite and above 0.

        >>> from replicate.optim import KeepStepping
        >>> optimizer = KeepStepping([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.2})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.2]
        """
        lr = param_group.get("lr", self.defaults["lr"])
        if not (math.isfinite(lr) and lr > 0):
            raise BadParameter(f"lr must be finite and above 0, got {lr}")
        super().add_param_group(param_group)

    def step(
        self, closure: Callable[[], Tensor] | None = None, loss: Tensor | None = None
    ) -> Tensor:
        """Walk along the gradients that are in `.grad`, and give the loss where the walk ends.

        closure: computes the loss of the same rows and gives it, a scalar; it must not touch
        gradients. loss: the loss at the weights as they are, where the loop has it, which saves
        "corrected" a forward pass; "published" computes it again. Parameters without a gradient
        stay where they are.

        Raises BadParameter (a ValueError) without a closure, if it calls zero_grad or backward, as
        torch's usual closures do, if it calls a DistributedDataParallel, if it gives no scalar or
        if a gradient is sparse; nothing has moved then. Raises Diverged if the loss is not finite
        where the walk would have to end.

        >>> from replicate.optim import KeepStepping
        >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
        >>> loss = (theta**2).sum()
        >>> loss.backward()
        >>> KeepStepping([theta], lr=0.25, max_steps=1).step(lambda: (theta**2).sum(), loss)
        tensor(0.2500)
        """
        name = type(self).__name__
        if closure is None:
            raise BadParameter(f"{name}.step needs a closure that computes the loss, got None")
        moved = self._with_gradients()
        before = {count: getattr(self, count) for count in self.COUNTS}
        start = [parameter.clone() for parameter, _, _ in moved]
        self.forwards = 0
        self.mini_steps = 0
        with torch.set_grad_enabled(self.variant == "published"), self._watch.of(moved, name):
            try:
                end = self._walk(moved, start, closure, loss).detach()
            except BadParameter:
                self.__dict__.update(before)
                self._go(moved, start, 0.0)
                raise
            except BaseException:
                self._add_up()
                raise
        self._add_up()
        return end

    def _add_up(self) -> None:
        self.steps += 1
        self.total_forwards += self.forwards
        self.total_mini_steps += self.mini_steps

    def _walk(
        self,
        moved: list[tuple[Tensor, Tensor, float]],
        start: list[Tensor],
        closure: Callable[[], Tensor],
        loss: Tensor | None,
    ) -> Tensor:
        """Move the parameters from `start` to where the walk ends; the loss there."""
        raise NotImplementedError

    def _with_gradients(self) -> list[tuple[Tensor, Tensor, float]]:
        """(parameter, gradient, rate) of every parameter that has a gradient."""
        groups = self.param_groups
        moved = [(p, p.grad, g["lr"]) for g in groups for p in g["params"] if p.grad is not None]
        if any(gradient.is_sparse for _, gradient, _ in moved):
            raise BadParameter(
                f"{type(self).__name__} takes dense gradients only, got a sparse one; "
                "make the embedding with sparse=False"
            )
        return moved

    def _before(self, closure: Callable[[], Tensor], loss: Tensor | None) -> Tensor:
        """The loss before the walk, by a forward pass unless it is known."""
        return self._forward(closure) if loss is None else self._check_loss(loss.detach())

    def _forward(self, closure: Callable[[], Tensor], end: bool = True) -> Tensor:
        """The closure's loss, counted; it need be finite only if the walk may `end` here."""
        self.forwards += 1
        return self._check_loss(self._watch(closure), end)

    def _check_loss(self, loss: Tensor, end: bool = True) -> Tensor:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise BadParameter(f"the loss must be a tensor with one number, got {got}")
        if end and not torch.isfinite(loss):
            place = f"after mini-step {self.mini_steps} of step {self.steps}"
            line = f"loss is {loss.item()} {place} of {type(self).__name__}"
            raise Diverged(line, self.steps)
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

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where `state_dict` was made, with its settings too.

        Raises BadParameter if it is another method's, or if names, counts or settings are not what
        they may be; nothing has changed then.

        >>> from replicate.optim import SGD, KeepStepping
        >>> theta = torch.nn.Parameter(torch.zeros(1))
        >>> KeepStepping([theta], lr=0.1).load_state_dict(SGD([theta], lr=0.1).state_dict())
        Traceback (most recent call last):
        replicate.errors.BadParameter: state_dict must be a KeepStepping's, with ...
        """
        state_dict = self._through_hooks(state_dict)
        entry = self._entry(state_dict, "state", "param_groups")
        check_groups(self, state_dict["param_groups"])
        self._check_settings(entry)
        for name in ForwardChecks.COUNTS:
            if not is_whole(entry[name]) or entry[name] < 0:
                raise BadParameter(f"state_dict has {name} {entry[name]!r}, which must be whole")
        pairs = zip(self.param_groups, state_dict["param_groups"], strict=True)
        groups = [{**group, **saved, "params": group["params"]} for group, saved in pairs]
        self._load_attributes({**entry, "param_groups": groups})

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"_watch": Watch()}

    def _check_settings(self, settings: dict) -> None:
        """Raise BadParameter where a setting is not what it may be."""
        max_steps = settings["max_steps"]
        if not is_whole(max_steps) or max_steps < 1:
            raise BadParameter(f"max_steps must be a whole number of at least 1, got {max_steps!r}")
        if settings["variant"] not in VARIANTS:
            raise unknown("variant", settings["variant"], VARIANTS)
