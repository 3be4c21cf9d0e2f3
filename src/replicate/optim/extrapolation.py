"""w <- w + sum_j c_j(s) d_j after inner steps,    s = dt / h,    d_j = w_{n-j} - w_{n-j-1}

d_j: what the j-th last inner step moved, j = 0 .. order - 1 (`state[p]["ring"]`), times eta_n /
eta_{n-j} where the rate eta has changed since (`state[p]["rates"]`); c_j:
`stencils.step_coefficients`; dt: `dt`; h: `h`. For plain gradient descent d_j = -eta g_j, which is
how the source writes it.

Fabi 2021, Weight extrapolation, equations thirdOrderExtrapolationBackward and
thirdOrderExtrapolationBDF.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from replicate.errors import BadParameter, unknown
from replicate.optim.history import add, full_precision, in_ring, ring
from replicate.optim.method import is_whole
from replicate.optim.stencils import step_coefficients
from replicate.optim.wrapper import Wrapper, check_shape

HISTORIES = ("weights", "gradient")
VARIANTS = ("corrected", "published")
PUBLISHED = {"order": 3, "derivative": "bdf", "history": "gradient", "every": 1}
PLAIN_SGD = {"momentum": 0, "weight_decay": 0, "dampening": 0, "nesterov": False, "maximize": False}
RISE = 10  # a rate that rises by more makes of a short step's rounding a displacement


class TaylorExtrapolation(Wrapper):
    """Taylor's series in the time of training, around any torch optimizer.

    Its parameter groups are the inner optimizer's, so a rate that is set here holds there. A step
    that a GradScaler leaves out does not count. Not self-starting: a parameter is first
    extrapolated after `order` steps with a gradient, which is at `first_step` if it always has one.

    A step takes the time h at every rate: where h is None, s stays dt over the group's first rate,
    and the extrapolation shrinks with the rate as the step does. Displacements at an older rate are
    scaled to the newest. The history begins anew after a step at rate 0, which moved nothing, and
    where the rate rises more than tenfold in a step.

    `history` says what is remembered. "weights": what the inner step moved, right for every
    optimizer, and whatever was extrapolated in between. "gradient": d_j = -eta g_j, right for plain
    SGD. `variant` "published" is the code in the source: raw gradients under any optimizer, eta and
    h as they were when this was made, first from the 4th step on, one later than needed, and by the
    count of the optimizer's steps, so that a parameter whose gradient comes late is extrapolated
    with its first gradient in place of the missing history.

    >>> from replicate.optim import SGD, TaylorExtrapolation
    >>> w = torch.nn.Parameter(torch.tensor([8.0]))
    >>> optimizer = TaylorExtrapolation(SGD([w], lr=1.0), dt=0.5, order=1)  # s = 1/2
    >>> for _ in range(2):
    ...     w.grad = torch.ones(1)
    ...     optimizer.step()
    >>> w.item()  # two steps of 1, each made longer by half
    5.0
    """

    ENTRY = "extrapolation"
    SETTINGS = ("dt", "h", "order", "derivative", "history", "every", "variant")
    COUNTS = ("steps", "did_extrapolate", "eta")

    def __init__(
        self,
        inner: Optimizer,
        dt: float,
        h: float | None = None,
        order: int = 3,
        derivative: str = "bdf",
        history: str | None = None,
        every: int | None = 1,
        variant: str = "corrected",
    ):
        """dt: how far ahead, h: the time that a step takes; h = None is the group's rate at first.

        That unit is the source's (its aside); where a scheduler is there already, it is the rate
        that the schedule begins with. order and derivative are the source's last formula. every:
        extrapolate after each N-th step (its text has N = order, its code 1), None: never, for
        `extrapolated`. history = None: "weights", for "published" "gradient".

        Raises BadParameter (a ValueError) if `inner` is no torch optimizer, dt or h is not positive
        and finite, order is not in [1, 6], every is below 1, a name is unknown, `inner` is not
        plain SGD where history is "gradient", or "published" is asked for what the source's code
        has not.
        """
        if history is None:
            history = "gradient" if variant == "published" else "weights"
        settings = {
            "dt": dt, "h": h, "order": order, "derivative": derivative,
            "history": history, "every": every, "variant": variant,
        }  # fmt: skip
        _check_settings(settings)
        super().__init__(inner)
        self.__dict__.update(settings)
        self.steps = 0  # inner steps so far
        self.did_extrapolate = False  # whether the last step was followed by an extrapolation
        self.eta: list[float] = []  # every group's rate when it came
        self._join()
        self._refuse_groups()

    @property
    def first_step(self) -> int:
        """The first step, counted from 1, that is extrapolated, or with every = None that can be.

        >>> from replicate.optim import SGD, TaylorExtrapolation
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> TaylorExtrapolation(SGD([w], lr=1.0), dt=0.5, order=3, every=2).first_step
        4
        """
        if self.variant == "published":
            return self.order + 1
        every = self.every or 1
        return every * math.ceil(self.order / every)

    def step(self, closure: Callable[[], Tensor] | None = None):
        """One inner step, and the extrapolation where it is due; gives what the closure gave.

        Raises BadParameter if a gradient is sparse or complex, a rate is negative or not finite, or
        inside `extrapolated()`; nothing has moved then.

        >>> from replicate.optim import SGD, TaylorExtrapolation
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> w.grad = torch.ones(1)
        >>> optimizer = TaylorExtrapolation(SGD([w], lr=1.0), dt=0.5, order=1)
        >>> optimizer.step()
        >>> w.item(), optimizer.did_extrapolate
        (-1.5, True)
        """
        self._refuse_step_on_loan()
        self._join()
        self._refuse_groups()
        opened: list[tuple[int, Tensor, int]] = []

        def watched():
            loss = closure()
            if not opened:  # the weights have not moved yet when a closure is called first
                opened.extend(self._open())
            return loss

        if closure is None:
            opened.extend(self._open())
            loss = self.inner.step()
        else:
            loss = self.inner.step(watched)
        self._close(opened)
        self.steps += 1
        due = self.every is not None and self.steps % self.every == 0
        self.did_extrapolate = due and self._extrapolate([(i, p) for i, p, _ in opened])
        return loss

    @contextmanager
    def extrapolated(self) -> Iterator[None]:
        """The extrapolated weights in the parameters' place; then all is as it was, bit by bit.

        Where the last step was followed by an extrapolation they are there already, and nothing is
        added.

        >>> from replicate.optim import SGD, TaylorExtrapolation
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> w.grad = torch.ones(1)
        >>> optimizer = TaylorExtrapolation(SGD([w], lr=1.0), dt=0.5, order=1, every=None)
        >>> optimizer.step()
        >>> with optimizer.extrapolated():
        ...     w.item()
        -1.5
        >>> w.item()
        -1.0
        """
        with self._lent():
            if not self.did_extrapolate:
                groups = enumerate(self.param_groups)
                self._extrapolate([(i, p) for i, group in groups for p in group["params"]])
            yield

    def _check(self, entry: dict) -> None:
        _check_settings(entry)
        steps = entry["steps"]
        if not is_whole(steps) or steps < 0:
            raise BadParameter(f"state_dict has steps {steps!r}, which must be a whole number")
        if len(entry["eta"]) != len(self.param_groups):
            raise BadParameter(
                f"state_dict has {len(entry['eta'])} first rates for "
                f"{len(self.param_groups)} groups; add the groups before the state is loaded"
            )
        entry["eta"] = [float(rate) for rate in entry["eta"]]

    def _read(self, parameter: Tensor, saved: dict, entry: dict) -> dict:
        if not saved:
            return {}
        if set(saved) != {"ring", "rates", "taken"}:
            raise BadParameter(
                "state_dict must have 'ring', 'rates' and 'taken' for a parameter, "
                f"got {sorted(map(str, saved))}"
            )
        check_shape("ring", saved["ring"], (entry["order"], *parameter.shape))
        rates = [float(rate) for rate in saved["rates"]]
        if len(rates) != entry["order"] or not is_whole(saved["taken"]) or saved["taken"] < 0:
            raise BadParameter(
                f"state_dict has {len(rates)} rates and {saved['taken']!r} steps taken for a "
                f"history of order {entry['order']}"
            )
        room = saved["ring"].to(parameter.device, parameter.dtype, copy=True)
        return {"ring": room, "rates": rates, "taken": saved["taken"]}

    def _join(self) -> None:
        for group in self.param_groups[len(self.eta) :]:
            begins = "lr" if self.variant == "published" else "initial_lr"
            self.eta.append(float(group.get(begins, group["lr"])))
        for i, rate in enumerate(self.eta):
            if rate == 0 and self.variant == "corrected":  # a group that came frozen
                self.eta[i] = float(self.param_groups[i]["lr"])

    def _refuse_groups(self) -> None:
        """Raise BadParameter where a group is what the formula does not allow."""
        for i, group in enumerate(self.param_groups):
            rate = float(group["lr"])
            if not (math.isfinite(rate) and rate >= 0):
                raise BadParameter(
                    f"the rate of group {i} must be at least 0 and finite, got {rate}"
                )
            if self.history == "gradient" and self.variant == "corrected":
                self._refuse_unless_plain(i, group)

    def _refuse_unless_plain(self, i: int, group: dict) -> None:
        is_plain = all(group.get(name) == value for name, value in PLAIN_SGD.items())
        if not (isinstance(self.inner, SGD) and is_plain):
            got = {name: group[name] for name in PLAIN_SGD if name in group}
            raise BadParameter(
                "inner must be plain SGD where history is 'gradient' ('weights' takes any "
                f"optimizer), got {type(self.inner).__name__} with {got} in group {i}"
            )

    @torch.compiler.disable  # counts and rates would be guards, and every step compiled anew
    @torch.no_grad()
    def _open(self) -> list[tuple[int, Tensor, int]]:
        """Write what is there before the inner step into the oldest row.

        Gives (group, parameter, steps taken before) of every parameter with a gradient.
        """
        groups = enumerate(self.param_groups)
        places = [(i, p) for i, g in groups for p in g["params"] if p.grad is not None]
        for _, p in places:
            _refuse_gradient(p.grad)
        opened = []
        for i, p in places:
            state = self.state[p]
            if not state:
                state.update(ring=ring(p, self.order), rates=[0.0] * self.order, taken=0)
            rate = float(self.param_groups[i]["lr"])
            taken = state["taken"] if self._continues(state, rate) else 0
            if self.variant == "published" and taken == 0:
                state["ring"].copy_(p.grad)
            row = taken % self.order
            state["ring"][row].copy_(p if self.history == "weights" else p.grad)
            state["rates"][row] = rate
            opened.append((i, p, taken))
            state["taken"] = 0  # should the inner step break off, the history begins anew
        return opened

    def _continues(self, state: dict, rate: float) -> bool:
        """Whether a step at this rate can stand beside the history."""
        if self.history == "gradient":
            return True
        newest = state["rates"][(state["taken"] - 1) % self.order]
        return 0 < rate <= RISE * newest

    @torch.compiler.disable
    @torch.no_grad()
    def _close(self, opened: list[tuple[int, Tensor, int]]) -> None:
        """Make the newest row what the inner step moved."""
        for _, p, taken in opened:
            state = self.state[p]
            if self.history == "weights":
                row = state["ring"][taken % self.order]
                torch.sub(p, row, out=row)
            state["taken"] = taken + 1

    def _is_ready(self, i: int, p: Tensor) -> bool:
        taken = self.state[p]["taken"] if p in self.state else 0
        if not (self.h or self.eta[i]):
            return False
        if self.variant == "published":
            return taken > 1 and self.steps > self.order
        return taken >= self.order

    def _scales(self, i: int, state: dict) -> tuple[float, ...]:
        """What makes of each row a displacement at the rate of the newest, (order,)."""
        newest = state["rates"][(state["taken"] - 1) % self.order]
        if self.history == "weights":
            return tuple(newest / rate for rate in state["rates"])
        eta = self.eta[i] if self.variant == "published" else newest
        return (-eta,) * self.order

    @torch.compiler.disable
    @torch.no_grad()
    def _extrapolate(self, places: list[tuple[int, Tensor]]) -> bool:
        """Add sum_j c_j d_j to each of (group, parameter) that is ready; whether there was one."""
        ready = [(i, p) for i, p in places if self._is_ready(i, p)]
        with full_precision():
            for i, p in ready:
                state = self.state[p]
                s = self.dt / (self.h or self.eta[i])
                newest = (state["taken"] - 1) % self.order
                dtype = torch.promote_types(p.dtype, torch.float32)
                c = in_ring(s, self._scales(i, state), self.derivative, newest, dtype, p.device)
                add(p, state["ring"], c)
        return bool(ready)


def _refuse_gradient(gradient: Tensor) -> None:
    if gradient.layout != torch.strided or gradient.is_complex():
        kind = "complex" if gradient.is_complex() else gradient.layout
        raise BadParameter(
            f"gradients must be dense and real, got {kind}; "
            "give such parameters to another optimizer"
        )


def _check_settings(settings: dict) -> None:
    for name in ("dt", "h"):
        value = settings[name]
        if name == "h" and value is None:
            continue
        if not (math.isfinite(value) and value > 0):
            raise BadParameter(f"{name} must be positive and finite, got {value}")
    for name, choices in (("variant", VARIANTS), ("history", HISTORIES)):
        if settings[name] not in choices:
            raise unknown(name, settings[name], choices)
    every = settings["every"]
    if every is not None and (not is_whole(every) or every < 1):
        raise BadParameter(f"every must be a whole number of at least 1, or None, got {every!r}")
    step_coefficients(1.0, settings["order"], settings["derivative"])  # refuses what they cannot be
    got = {name: settings[name] for name in PUBLISHED}
    if settings["variant"] == "published" and got != PUBLISHED:
        raise BadParameter(f"variant 'published' must have {PUBLISHED}, got {got}")
