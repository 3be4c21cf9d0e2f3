"""y = (1 - beta) z + beta x,   z <- z - gamma (g(y) + lambda y),   x <- (1 - c) x + c z

x: the averaged weights, which are judged (`state[p]["averaged"]`); z: plain SGD's iterate
(`state[p]["z"]`); y: the parameters, where the gradient g is taken; gamma: rate, beta, lambda:
`weight_decay`; c: gamma^2 over the sum of gamma^2 so far, 1/t at a constant rate.

Defazio et al. 2024, The Road Less Scheduled (arXiv:2405.15682); the weights by gamma^2 are those of
its Algorithm 1.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import BadParameter


class ScheduleFreeSGD(Optimizer):
    """SGD without a schedule: the mean of its iterates is what is evaluated, and partly stepped from.

    >>> theta = torch.nn.Parameter(torch.tensor([8.0]))
    >>> optimizer = ScheduleFreeSGD([theta], lr=1.0, beta=0.5)
    >>> for _ in range(2):
    ...     theta.grad = torch.ones(1)
    ...     optimizer.step()
    >>> theta.item()  # z is 7, then 6; their mean 6.5; half way between 6 and 6.5
    6.25
    >>> with optimizer.mean_weights():
    ...     theta.item()
    6.5
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        beta: float = 0.9,
        weight_decay: float = 0.0,
    ):
        """lr: gamma, above 0; beta: in [0, 1], 0.9 is the paper's; weight_decay: lambda, at least 0.

        Raises BadParameter (a ValueError) for other numbers.
        """
        if not lr > 0 or not 0 <= beta <= 1 or not weight_decay >= 0:
            raise BadParameter(
                "lr must be above 0, beta in [0, 1] and weight_decay at least 0, "
                f"got {lr!r}, {beta!r} and {weight_decay!r}"
            )
        super().__init__(
            params, {"lr": lr, "beta": beta, "weight_decay": weight_decay, "squares": 0.0}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None):
        """One step; gives what the closure gave. Parameters without a gradient stay where they are.

        >>> theta = torch.nn.Parameter(torch.ones(1))
        >>> ScheduleFreeSGD([theta], lr=1.0).step()
        >>> theta.item()
        1.0
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["squares"] += group["lr"] ** 2
            share = group["lr"] ** 2 / group["squares"] if group["squares"] else 0.0
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group, share)
        return loss

    @contextmanager
    def mean_weights(self) -> Iterator[None]:
        """The averaged weights x in the parameters' place, for evaluation; then y is back.

        Buffers of the model, such as BatchNorm's statistics, stay those of y.

        >>> theta = torch.nn.Parameter(torch.ones(1))
        >>> with ScheduleFreeSGD([theta], lr=1.0).mean_weights():
        ...     theta.item()
        1.0
        """
        before = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        try:
            with torch.no_grad():
                for parameter, _ in before:
                    if "averaged" in self.state[parameter]:
                        parameter.copy_(self.state[parameter]["averaged"])
            yield
        finally:
            with torch.no_grad():
                for parameter, value in before:
                    parameter.copy_(value)

    def _move(self, parameter: Tensor, group: dict, share: float) -> None:
        state = self.state[parameter]
        if not state:
            state["z"] = parameter.detach().clone()
            state["averaged"] = parameter.detach().clone()
        direction = parameter.grad.add(parameter, alpha=group["weight_decay"])
        state["z"].sub_(direction, alpha=group["lr"])
        state["averaged"].lerp_(state["z"], share)
        torch.lerp(state["z"], state["averaged"], group["beta"], out=parameter)
