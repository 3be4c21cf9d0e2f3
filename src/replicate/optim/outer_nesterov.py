"""d = theta_k - phi,   b <- mu b + d,   phi <- phi + eta (d + mu b),   theta <- phi    after every k inner steps

phi: slow weights (`state[p]["slow"]`), theta: fast weights (the parameters), b: outer momentum
(`state[p]["outer"]`), eta: `alpha`, mu: `outer_momentum`.

Nesterov's momentum, in torch's form, on what a cycle moved as if it were a gradient: Douillard et
al. 2023, DiLoCo (arXiv:2311.08105), Algorithm 1, with one worker; SNOO (arXiv:2510.15830) is the same. With mu = 0 it is Lookahead.
"""

import math
import numbers

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import BadParameter
from replicate.optim.lookahead import Lookahead
from replicate.optim.wrapper import check_shape, layers


class OuterNesterov(Lookahead):
    """Lookahead whose pull has a momentum of its own; all else is Lookahead's.

    >>> from replicate.optim import SGD, OuterNesterov
    >>> theta = torch.nn.Parameter(torch.tensor([8.0]))
    >>> optimizer = OuterNesterov(SGD([theta], lr=1.0), k=2, alpha=0.5, outer_momentum=0.5)
    >>> for _ in range(2):
    ...     theta.grad = torch.ones(1)
    ...     optimizer.step()
    >>> theta.item()  # 8 + 0.5 (-2 + 0.5 * -2)
    6.5
    """

    ENTRY = "outer nesterov"
    SETTINGS = (*Lookahead.SETTINGS, "outer_momentum")

    def __init__(
        self, inner: Optimizer, k: int = 5, alpha: float = 0.7, outer_momentum: float = 0.9
    ):
        """k: inner steps a cycle; alpha: the outer rate; outer_momentum: in [0, 1).

        Defaults: k = 5 is Lookahead's; rate 0.7 and momentum 0.9 are DiLoCo's. Raises BadParameter
        (a ValueError) for what Lookahead refuses, and if outer_momentum is no number in [0, 1).
        """
        _check_momentum(outer_momentum)
        super().__init__(inner, k, alpha, "maintain")
        self.outer_momentum = float(outer_momentum)

    def _check(self, entry: dict) -> None:
        _check_momentum(entry["outer_momentum"])
        super()._check(entry)

    def _read(self, parameter: Tensor, saved: dict, entry: dict) -> dict:
        saved = dict(saved)
        outer = saved.pop("outer", None)
        state = super()._read(parameter, saved, entry)
        if outer is not None:
            check_shape("outer", outer, parameter.shape)
            state["outer"] = outer.to(state["slow"], copy=True)
        return state

    @torch.compiler.disable
    @torch.no_grad()
    def _pull(self) -> None:
        for parameter in self._parameters():
            state = self.state[parameter]
            displacement = parameter.to(state["slow"].dtype) - state["slow"]
            if "outer" not in state:
                state["outer"] = torch.zeros_like(state["slow"])
            state["outer"].mul_(self.outer_momentum).add_(displacement)
            displacement.add_(state["outer"], alpha=self.outer_momentum)
            state["slow"].add_(displacement, alpha=self.alpha)
            parameter.copy_(state["slow"])
        for layer in layers(self.inner):
            if isinstance(layer, Lookahead):
                layer._begin_cycle(forget=False)


def _check_momentum(value: float) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (math.isfinite(value) and 0 <= value < 1):
        raise BadParameter(f"outer_momentum must be a number in [0, 1), got {value!r}")
