"""An optimizer around another: its groups and defaults are that one's; it loads all or nothing."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import BadParameter
from replicate.optim.method import Method, check_groups

# Buffers of torch's optimizers that have their parameter's shape.
SHAPED = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")


class Wrapper(Method):
    """What Lookahead and TaylorExtrapolation share: an `inner` optimizer that moves the parameters.

    A subclass reads its tensors from a state by `_read`, and gives new parameters theirs in
    `_join`.

    >>> from torch.optim.lr_scheduler import StepLR
    >>> from replicate.optim import SGD, Lookahead
    >>> optimizer = Lookahead(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
    >>> scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    >>> optimizer.step(), scheduler.step()
    (None, None)
    >>> optimizer.inner.param_groups[0]["lr"]
    0.05
    """

    def __init__(self, inner: Optimizer):
        if not isinstance(inner, Optimizer):
            raise BadParameter(f"inner must be a torch optimizer, got {type(inner).__name__}")
        self.inner = inner
        self.loans = 0  # blocks that are open in which the parameters hold other weights
        # Not Optimizer.__init__, which would make groups and defaults of its own.
        self.__setstate__({"state": defaultdict(dict)})

    @property
    def param_groups(self) -> list[dict]:
        """The inner optimizer's, the very same list at all times.

        >>> from replicate.optim import SGD, Lookahead
        >>> optimizer = Lookahead(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
        >>> optimizer.param_groups is optimizer.inner.param_groups
        True
        """
        return self.inner.param_groups

    @property
    def defaults(self) -> dict:
        """The inner optimizer's, where schedulers look for a momentum to cycle.

        >>> from replicate.optim import SGD, Lookahead
        >>> optimizer = Lookahead(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9))
        >>> optimizer.defaults["momentum"]
        0.9
        """
        return self.inner.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the inner optimizer does it.

        >>> from replicate.optim import SGD, Lookahead
        >>> theta = torch.nn.Parameter(torch.zeros(1))
        >>> theta.grad = torch.ones(1)
        >>> Lookahead(SGD([theta], lr=0.1)).zero_grad(set_to_none=False)
        >>> theta.grad
        tensor([0.])
        """
        self.inner.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict) -> None:
        """Give the inner optimizer more parameters, whose history begins where they are now.

        Raises what the inner optimizer raises; nothing has changed then.

        >>> from replicate.optim import SGD, Lookahead
        >>> optimizer = Lookahead(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
        >>> optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.2})
        >>> [group["lr"] for group in optimizer.inner.param_groups]
        [0.1, 0.2]
        """
        self.inner.add_param_group(param_group)
        self._join()

    def state_dict(self) -> dict:
        """State of the parameters, settings and counts, and in "inner" the inner optimizer's own.

        >>> from replicate.optim import SGD, Lookahead
        >>> optimizer = Lookahead(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
        >>> sorted(optimizer.state_dict())
        ['inner', 'lookahead', 'param_groups', 'state']
        """
        self._join()
        return {**super().state_dict(), "inner": self.inner.state_dict()}

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict) -> None:
        """Go on exactly where `state_dict` was made, with its settings too.

        Raises BadParameter (a ValueError) if it is another optimizer's, if names, shapes, counts or
        settings are not what they may be, or if the inner optimizer refuses; nothing has changed
        then.

        >>> from replicate.optim import SGD, Lookahead
        >>> of_two = Lookahead(SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1))
        >>> of_three = Lookahead(SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1))
        >>> of_two.load_state_dict(of_three.state_dict())
        Traceback (most recent call last):
        replicate.errors.BadParameter: state_dict has 'slow' of shape (3,) for ... shape (2,); ...
        """
        state_dict = self._through_hooks(state_dict)
        entry = self._entry(state_dict, "state", "param_groups", "inner")
        check_groups(self, state_dict["param_groups"])
        self._check(entry)
        state = self._of_parameters(state_dict, entry)
        # The groups of the outermost layer decide, as somebody who changed a rate in them expects.
        inner = {**state_dict["inner"], "param_groups": state_dict["param_groups"]}
        self._load_inner(inner, entry)
        self._load_attributes({**entry, "state": state})

    def __getstate__(self) -> dict:
        return {"state": self.state, "inner": self.inner, "loans": 0, **self._attributes()}

    def __repr__(self) -> str:
        return f"{self._signature()}, inner={self.inner!r})"

    def _check(self, entry: dict) -> None:
        """Raise BadParameter where settings and counts that are to be loaded are not allowed."""
        raise NotImplementedError

    def _read(self, parameter: Tensor, saved: dict, entry: dict) -> dict:
        """What `state` holds for a parameter, by a state_dict; BadParameter if it does not fit."""
        raise NotImplementedError

    def _join(self) -> None:
        """Begin the state of parameters that have come since."""
        raise NotImplementedError

    def _parameters(self) -> Iterator[Tensor]:
        return (parameter for group in self.param_groups for parameter in group["params"])

    def _of_parameters(self, state_dict: dict, entry: dict) -> defaultdict:
        """The state by parameter; those of which none is saved are left to `_read`, too."""
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        state = defaultdict(dict)
        for index, parameter in zip(indices, self._parameters(), strict=True):
            read = self._read(parameter, state_dict["state"].get(index, {}), entry)
            if read:
                state[parameter] = read
        return state

    def _load_inner(self, state_dict: dict, entry: dict) -> None:
        """Load the inner optimizer; where it or a check refuses, all layers are as before."""
        # torch's load_state_dict leaves the old dicts alone and puts new ones in their place.
        before = [(layer, dict(vars(layer))) for layer in layers(self.inner)]
        options = [set(group) & set(self.defaults) for group in self.param_groups]
        try:
            self.inner.load_state_dict(state_dict)
            self._check_options(options)
            self._check_inner(entry)
        except Exception as error:
            for layer, attributes in before:
                vars(layer).clear()
                vars(layer).update(attributes)
            if isinstance(error, BadParameter):
                raise
            name = type(self.inner).__name__
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadParameter(f"the inner {name} refuses the state_dict: {line}") from error

    def _check_options(self, options: list[set[str]]) -> None:
        """Raise BadParameter where a group has lost an option: torch's SGD takes Adam's groups."""
        for i, (names, group) in enumerate(zip(options, self.param_groups, strict=True)):
            if missing := names - set(group):
                raise BadParameter(
                    f"state_dict has no {min(missing)!r} in group {i}, which "
                    f"{type(innermost(self)).__name__} needs; its inner optimizer was another one"
                )

    def _check_inner(self, entry: dict) -> None:
        """Raise BadParameter where the inner optimizer took what a later step would stumble on."""
        for parameter, saved in innermost(self).state.items():
            for name in SHAPED:
                if isinstance(saved.get(name), Tensor):
                    check_shape(name, saved[name], parameter.shape)

    @contextmanager
    def _lent(self) -> Iterator[None]:
        """A block after which the parameters are as they were, and in which none may step."""
        before = [(parameter, parameter.detach().clone()) for parameter in self._parameters()]
        self.loans += 1
        try:
            yield
        finally:
            self.loans -= 1
            with torch.no_grad():
                for parameter, value in before:
                    parameter.copy_(value)

    def _refuse_step_on_loan(self) -> None:
        if self.loans:
            raise BadParameter(
                f"{type(self).__name__}.step was called while other weights are lent to the "
                "parameters, where it would be lost; leave the with block first"
            )


def layers(optimizer: Optimizer) -> Iterator[Optimizer]:
    """An optimizer and those that it is around, from the outermost to the innermost.

    >>> from replicate.optim import SGD, Lookahead
    >>> inner = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> [type(layer).__name__ for layer in layers(Lookahead(inner))]
    ['Lookahead', 'SGD']
    """
    yield optimizer
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.inner
        yield optimizer


def innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside all wrappers.

    >>> from replicate.optim import SGD, Lookahead
    >>> inner = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> innermost(Lookahead(Lookahead(inner), k=10)) is inner
    True
    """
    return list(layers(optimizer))[-1]


def check_shape(name: str, saved: Tensor, shape: tuple[int, ...]) -> None:
    """Raise BadParameter unless a saved tensor has a shape.

    >>> check_shape("slow", torch.zeros(2), (2,))
    """
    if tuple(saved.shape) != tuple(shape):
        raise BadParameter(
            f"state_dict has {name!r} of shape {tuple(saved.shape)} for a tensor of shape "
            f"{tuple(shape)}; load it into an optimizer of the same parameters"
        )
