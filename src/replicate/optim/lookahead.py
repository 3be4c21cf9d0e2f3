"""phi <- phi + alpha (theta_k - phi),   theta <- phi      after every k inner steps

phi: slow weights (`state[p]["slow"]`), theta: fast weights (the parameters), k `k`, alpha `alpha`, inner steps `inner`.

Zhang, Lucas, Hinton, Ba 2019, Lookahead Optimizer: k steps forward, 1 step back (arXiv:1907.08610), Algorithm 1.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import unknown

INNER_STATES = ("maintain", "reset", "interpolate")
PIECE = 2**16  # numbers that stay in a core's cache from the pull's first line to its second: a third off its time


class Lookahead(Optimizer):
    """Lookahead around any torch optimizer; schedulers, scalers and checkpoints take it for one.

    Its parameter groups are the inner optimizer's own, so a rate that is set here holds there. The slow weights start
    where the parameters are when this is made. A step that a GradScaler leaves out does not count.

    `inner_state` says what becomes of the inner optimizer's state when the fast weights are pulled back (section 2 and
    appendix of the paper): "maintain" keeps it; "reset" forgets it, as before the first step; "interpolate" takes every
    tensor of a parameter's shape, momentum above all, to m <- m' + alpha (m - m'), m' its value after the last pull.
    """

    def __init__(self, inner: Optimizer, k: int = 5, alpha: float = 0.5, inner_state: str = "maintain"):
        """k: inner steps a cycle, alpha: the slow weights' step; defaults are Zhang et al. 2019's (k = 5, alpha = 0.5).

        alpha above 1 extrapolates. Raises ValueError if `inner` is no torch optimizer, k is not a whole number of at
        least 1, alpha is not finite and above 0, or `inner_state` is unknown.
        """
        if not isinstance(inner, Optimizer):
            raise ValueError(f"inner must be a torch optimizer, got {type(inner).__name__}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be finite and above 0, got {alpha}")
        if inner_state not in INNER_STATES:
            raise unknown("inner_state", inner_state, INNER_STATES)
        self.inner, self.k, self.alpha, self.inner_state = inner, k, alpha, inner_state
        self.counter = 0  # inner steps since the last pull
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups

    def step(self, closure: Callable[[], Tensor] | None = None):
        """One inner step, and at the end of a cycle the pull; gives what the closure gave."""
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.counter += 1
        if self.counter == self.k:
            self._pull()
            self.counter = 0
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the inner optimizer does it."""
        self.inner.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict) -> None:
        """Give the inner optimizer more parameters, whose slow weights start where they are now."""
        if not any(param_group is group for group in self.inner.param_groups):
            self.inner.add_param_group(param_group)
            param_group = self.inner.param_groups[-1]
        for parameter in param_group["params"]:
            self.state[parameter]["slow"] = parameter.detach().clone(memory_format=torch.preserve_format)

    @contextmanager
    def slow_weights(self) -> Iterator[None]:
        """The slow weights in the parameters' place, for evaluation; afterwards the fast ones are back, bit by bit."""
        fast = [(p, p.detach().clone()) for p in self._parameters()]
        with torch.no_grad():
            for parameter, _ in fast:
                parameter.copy_(self.state[parameter]["slow"])
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in fast:
                    parameter.copy_(value)

    def state_dict(self) -> dict:
        """Slow weights, the place in the cycle and the inner optimizer's own `state_dict`."""
        about = {"k": self.k, "alpha": self.alpha, "inner_state": self.inner_state, "counter": self.counter}
        return {**super().state_dict(), "lookahead": about, "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on exactly where `state_dict` was made, in the middle of a cycle too, at its k, alpha and inner_state.

        Raises ValueError if it is another optimizer's; then nothing has changed.
        """
        if not {"lookahead", "inner"} <= set(state_dict):
            raise ValueError(
                f"state_dict must be a Lookahead's, with 'lookahead' and 'inner', got {sorted(state_dict)}"
            )
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups
        for own in self.state.values():
            # torch keeps the tensors it is given, which may be another optimizer's, and in use.
            own.update({name: value.clone() for name, value in own.items()})
        self.__dict__.update(state_dict["lookahead"])

    def __getstate__(self) -> dict:
        # torch's version keeps three attributes only, which would leave a copy without its inner optimizer.
        own = ("inner", "k", "alpha", "inner_state", "counter")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    @torch.no_grad()
    def _pull(self) -> None:
        for parameter in self._parameters():
            own = self.state[parameter]
            _interpolate(own["slow"], parameter, self.alpha)
            if self.inner_state == "reset":
                self.inner.state.pop(parameter, None)
            elif self.inner_state == "interpolate":
                for name, value in self.inner.state.get(parameter, {}).items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim():
                        slow = own.setdefault(f"slow {name}", torch.zeros_like(value))  # momentum starts at zero
                        _interpolate(slow, value, self.alpha)

    def _parameters(self) -> Iterator[Tensor]:
        return (parameter for group in self.param_groups for parameter in group["params"])


def _interpolate(slow: Tensor, fast: Tensor, alpha: float) -> None:
    """slow <- slow + alpha (fast - slow), fast <- slow; in place, and two tensors they remain."""
    pieces = [(slow, fast)]
    if slow.device.type == "cpu" and slow.is_contiguous() and fast.is_contiguous():
        pieces = zip(slow.view(-1).split(PIECE), fast.view(-1).split(PIECE), strict=True)
    for one, other in pieces:
        one.lerp_(other, alpha)
        other.copy_(one)
