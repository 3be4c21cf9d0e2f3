"""The authors' wrapper as others describe it, faults and all; written from the descriptions of its
behaviour, not from the file.

Its slow momentum is bound to the live buffer, it knows no momentum but "momentum_buffer", its state
is the inner optimizer's, it has nothing of torch's base class, and its slow weights are copies of
parameters alone.
"""

from __future__ import annotations


class PublishedLookahead:
    """Lookahead around a torch optimizer; `pullback_momentum` is "none", "pullback" or "reset"."""

    def __init__(self, inner, k: int = 5, alpha: float = 0.8, pullback_momentum: str = "none"):
        """Defaults: the authors' code."""
        self.inner = inner
        self.k = k
        self.alpha = alpha
        self.pullback_momentum = pullback_momentum
        self.counter = 0
        self.slow = {p: p.detach().clone() for p in self._parameters()}
        self.slow_momenta = {p: p.detach() * 0 for p in self._parameters()}

    @property
    def param_groups(self) -> list:
        """The inner optimizer's."""
        return self.inner.param_groups

    def _parameters(self) -> list:
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """As the inner optimizer's, without its argument."""
        self.inner.zero_grad()

    def state_dict(self) -> dict:
        """The inner optimizer's state alone."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Into the inner optimizer alone."""
        self.inner.load_state_dict(state)

    def step(self) -> None:
        """An inner step, and after k of them the pull."""
        self.inner.step()
        self.counter += 1
        if self.counter >= self.k:
            self.counter = 0
            for p in self._parameters():
                self._pull(p)

    def _pull(self, p) -> None:
        fast = p.detach()
        fast.mul_(self.alpha).add_(self.slow[p], alpha=1 - self.alpha)
        self.slow[p].copy_(fast)
        state = self.inner.state[p]
        if self.pullback_momentum == "pullback":
            momentum = state["momentum_buffer"]
            momentum.mul_(self.alpha).add_(self.slow_momenta[p], alpha=1 - self.alpha)
            self.slow_momenta[p] = momentum  # the same tensor, not a copy
        elif self.pullback_momentum == "reset":
            state["momentum_buffer"] = fast * 0


def tensorflow_pulls(k: int, steps: int) -> list[int]:
    """The steps, from 1, at which the TensorFlow version pulls: its count is tested, then raised."""
    count = 0
    pulls = []
    for step in range(1, steps + 1):
        if count >= k:
            pulls.append(step)
            count = 0
        else:
            count += 1
    return pulls
