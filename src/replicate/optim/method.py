"""What every optimizer of a source keeps to: settings and counts in repr, copies and state_dict."""

import numbers

from torch.optim import Optimizer

from replicate.errors import BadParameter


class Method(Optimizer):
    """A torch optimizer whose settings and counts stand in its `repr`, its copies and its state.

    A subclass names them in SETTINGS (constructor arguments, attributes of the same name) and
    COUNTS, and in ENTRY the key of a state_dict that holds both.

    >>> import torch
    >>> from replicate.optim import KeepStepping
    >>> method = KeepStepping([torch.nn.Parameter(torch.zeros(1))], lr=0.1, max_steps=3)
    >>> isinstance(method, Method), method.SETTINGS[0], method.max_steps
    (True, 'max_steps', 3)
    """

    ENTRY: str = ""
    SETTINGS: tuple[str, ...] = ()
    COUNTS: tuple[str, ...] = ()

    def state_dict(self) -> dict:
        """torch's, and in ENTRY the settings and counts.

        >>> import torch
        >>> from replicate.optim import KeepStepping
        >>> method = KeepStepping([torch.nn.Parameter(torch.zeros(1))], lr=0.1, max_steps=3)
        >>> sorted(method.state_dict()), method.state_dict()["walk"]["max_steps"]
        (['param_groups', 'state', 'walk'], 3)
        """
        return {**super().state_dict(), self.ENTRY: self._attributes()}

    def __getstate__(self) -> dict:
        # torch's version has three attributes only, which leaves a copy without its settings.
        return super().__getstate__() | self._attributes()

    def __repr__(self) -> str:
        rest = super().__repr__().removeprefix(f"{type(self).__name__} (")
        return f"{self._signature()}, groups (" + rest + ")"

    def _signature(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.SETTINGS)
        return f"{type(self).__name__}({settings}"

    def _attributes(self) -> dict:
        return {name: getattr(self, name) for name in (*self.SETTINGS, *self.COUNTS)}

    def _through_hooks(self, state_dict: dict) -> dict:
        """What the hooks that torch calls before it loads make of a state_dict."""
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    def _load_attributes(self, attributes: dict) -> None:
        """Take over what has been checked, and call the hooks that torch calls then."""
        self.__setstate__(attributes)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _entry(self, state_dict: dict, *others: str) -> dict:
        """The settings and counts of a state_dict with all of `others` too, or BadParameter."""
        entry = state_dict.get(self.ENTRY)
        names = {*self.SETTINGS, *self.COUNTS}
        if not isinstance(entry, dict) or set(entry) != names or not set(others) <= set(state_dict):
            raise BadParameter(
                f"state_dict must be a {type(self).__name__}'s, with {sorted(names)} in "
                f"{self.ENTRY!r}, got {sorted(map(str, state_dict))}"
            )
        return dict(entry)


def check_groups(optimizer: Optimizer, saved: list[dict]) -> None:
    """Raise BadParameter unless saved parameter groups have an optimizer's counts and names.

    saved: the "param_groups" of a state_dict. Names are compared where both have them.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    >>> check_groups(sgd, [{"params": [0, 1]}])
    Traceback (most recent call last):
    replicate.errors.BadParameter: state_dict has 2 parameters in group 0, SGD has 1; ...
    """
    name = type(optimizer).__name__
    groups = optimizer.param_groups
    if len(saved) != len(groups):
        raise BadParameter(
            f"state_dict has {len(saved)} parameter groups, {name} has {len(groups)}; "
            "add the groups before the state is loaded"
        )
    for i, (group, other) in enumerate(zip(groups, saved, strict=True)):
        if len(other["params"]) != len(group["params"]):
            raise BadParameter(
                f"state_dict has {len(other['params'])} parameters in group {i}, {name} has "
                f"{len(group['params'])}; load it into an optimizer of the same parameters"
            )
        if "param_names" in group:
            _check_names(group["param_names"], other.get("param_names", group["param_names"]), i)


def _check_names(names: list[str], saved: list[str], i: int) -> None:
    for name, other in zip(names, saved, strict=True):
        if name != other:
            raise BadParameter(
                f"state_dict has a parameter {other!r} in group {i} where the optimizer has "
                f"{name!r}; rename it by register_load_state_dict_pre_hook, or load the right file"
            )


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, NumPy's too, and no truth value.

    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
