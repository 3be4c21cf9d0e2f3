"""What an experiment on networks may do to plain SGD: the source's method, and the controls that it
lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

from replicate import optim


@dataclass(frozen=True)
class Arm:
    """Plain SGD at `factor` times the rate with `momentum`, extrapolated by dt = s eta, or `dt` as
    it stands.

    From the share `begin` of the run on; for `length` times as many steps.
    """

    s: float = 0.0
    dt: float = 0.0
    derivative: str = "bdf"
    every: int = 1
    begin: float = 0.0
    factor: float = 1.0
    momentum: float = 0.0
    length: int = 1

    def optimizer(self, parameters, lr: float, step: int, steps: int):
        """Its optimizer at `step` of `steps`; an arm that begins late needs another one from that
        step on.
        """
        early = step < self.begin * steps
        inner = optim.SGD(
            parameters, lr=self.rate(lr, step, steps), momentum=self.momentum, fused=True
        )
        if early or not (self.s or self.dt):
            return inner
        return optim.TaylorExtrapolation(
            inner, self.dt or self.s * lr, derivative=self.derivative, every=self.every
        )

    def rate(self, lr: float, step: int, steps: int) -> float:
        """The rate of the inner step."""
        return lr * (self.factor if step >= self.begin * steps else 1.0)


ARMS = {
    "plain": Arm(),
    "plain again": Arm(),  # the same work: whether the clock gives it the same time
    "dt=1e-10": Arm(dt=1e-10),
    "s=0.1": Arm(s=0.1),
    "s=0.5": Arm(s=0.5),
    "s=1": Arm(s=1.0),
    "backward": Arm(s=0.5, derivative="backward"),
    # The same amount of extrapolation, a third of a step at each or a whole one at every third.
    "s=1/3": Arm(s=1 / 3),
    "every=3": Arm(s=1.0, every=3),
    "s=1 late": Arm(s=1.0, begin=0.8),
    # What a plain gradient step of length s eta after every step comes to: rate eta (1 + s).
    "rate-1.1": Arm(factor=1.1),
    "rate-1.25": Arm(factor=1.25),
    "rate-4/3": Arm(factor=4 / 3),
    "rate-1.5": Arm(factor=1.5),
    "rate-2": Arm(factor=2.0),
    "rate-2 late": Arm(factor=2.0, begin=0.8),
    "heavy-ball": Arm(momentum=0.9),
    "double": Arm(length=2),
}
