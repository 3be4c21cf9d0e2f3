"""w <- w + sum_j c_j(s) d_j after inner steps,    s = dt / h,    d_j = w_{n-j} - w_{n-j-1}

d_j: what the j-th last inner step moved, j = 0 .. order - 1 (`state[p]["ring"]`), c_j: `stencils.step_coefficients`, dt
`dt`, h `h`. For plain gradient descent d_j = -eta g_j, which is how the source writes it.

Fabi 2021, Weight extrapolation, equations thirdOrderExtrapolationBackward and thirdOrderExtrapolationBDF.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from replicate.errors import unknown
from replicate.optim.stencils import step_coefficients

HISTORIES = ("weights", "gradient")
VARIANTS = ("corrected", "published")
PUBLISHED = {"order": 3, "derivative": "bdf", "history": "gradient", "every": 1}
PLAIN = {"momentum": 0, "weight_decay": 0, "dampening": 0, "nesterov": False, "maximize": False}


class TaylorExtrapolation(Optimizer):
    """Taylor's series in the time of training, around any torch optimizer; schedulers and checkpoints take it for one.

    Its parameter groups are the inner optimizer's own, so a rate that is set here holds there. A step that a GradScaler
    leaves out does not count. Not self-starting: a parameter is first extrapolated when `order` of its own steps are
    known, which is at `first_step` for one that has a gradient from the start; one without gradient is left out.

    `history` says what is remembered. "weights": what the inner step moved, right for every optimizer, and whatever was
    extrapolated in between. "gradient": d_j = -eta g_j with the rate of now, right for plain SGD at a constant rate.
    `variant` "published" is the code in the source: raw gradients under any optimizer, eta and h as they were when this
    was made, first from the 4th step on, one later than needed, and by the count of the optimizer's steps, so that a
    parameter whose gradient comes late is extrapolated with its first gradient in the place of those it never had.
    """

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
        """dt: how far ahead, h: time between two steps; h = None is the group's rate, the source's unit (its aside).

        order and derivative are the source's last formula; every: extrapolate after each N-th step (its text has
        N = order, its code 1), None: never, for `extrapolated`. history = None: "weights", for "published" "gradient".
        Raises ValueError if `inner` is no torch optimizer, dt or h is not positive and finite, order is not in [1, 6],
        every is below 1, a name is unknown, `inner` is not plain SGD where history is "gradient", or "published" is
        asked for what the source's code has not.
        """
        if not isinstance(inner, Optimizer):
            raise ValueError(f"inner must be a torch optimizer, got {type(inner).__name__}")
        for name, value in {"dt": dt, "h": 1.0 if h is None else h}.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if variant not in VARIANTS:
            raise unknown("variant", variant, VARIANTS)
        if history is None:
            history = "gradient" if variant == "published" else "weights"
        if history not in HISTORIES:
            raise unknown("history", history, HISTORIES)
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"every must be a whole number of at least 1, or None, got {every!r}")
        step_coefficients(1.0, order, derivative)  # refuses what they cannot be
        self.inner, self.dt, self.h, self.order, self.derivative = inner, dt, h, order, derivative
        self.history, self.every, self.variant = history, every, variant
        asked = {name: getattr(self, name) for name in PUBLISHED}
        if variant == "published" and asked != PUBLISHED:
            raise ValueError(f"variant 'published' must have {PUBLISHED}, got {asked}")
        self.steps, self.did_extrapolate = 0, False  # inner steps so far; whether the last one was followed by more
        self.eta: list[float] = []  # every group's rate when it came
        super().__init__(inner.param_groups, {})
        self.param_groups = inner.param_groups
        self._refuse()

    @property
    def first_step(self) -> int:
        """The first step, counted from 1, that is extrapolated, or with every = None the first that can be."""
        if self.variant == "published":
            return self.order + 1
        every = self.every or 1
        return every * math.ceil(self.order / every)

    def step(self, closure: Callable[[], Tensor] | None = None):
        """One inner step, and the extrapolation where it is due; gives what the closure gave."""
        self._refuse()
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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the inner optimizer does it."""
        self.inner.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict) -> None:
        """Give the inner optimizer more parameters, whose history begins with their first gradient."""
        if not any(param_group is group for group in self.inner.param_groups):
            self.inner.add_param_group(param_group)
            param_group = self.inner.param_groups[-1]
        self.eta.append(float(param_group["lr"]))

    @contextmanager
    def extrapolated(self) -> Iterator[None]:
        """The extrapolated weights in the parameters' place, for evaluation; afterwards all is as it was, bit by bit.

        Where the last step was followed by an extrapolation they are there already, and nothing is added.
        """
        places = [(i, p) for i, group in enumerate(self.param_groups) for p in group["params"]]
        before = [(p, p.detach().clone()) for _, p in places]
        try:
            if not self.did_extrapolate:
                self._extrapolate(places)
            yield
        finally:
            with torch.no_grad():
                for parameter, value in before:
                    parameter.copy_(value)

    def state_dict(self) -> dict:
        """Histories, the count of steps and the inner optimizer's own `state_dict`."""
        about = {name: getattr(self, name) for name in OWN}
        return {**super().state_dict(), "extrapolation": about, "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on exactly where `state_dict` was made, with a history half full too, by its dt, h, order and so on.

        Raises ValueError if it is another optimizer's; then nothing has changed.
        """
        if not {"extrapolation", "inner"} <= set(state_dict):
            raise ValueError(
                "state_dict must be a TaylorExtrapolation's, with 'extrapolation' and 'inner', "
                f"got {sorted(state_dict)}"
            )
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups
        for own in self.state.values():
            own["ring"] = own["ring"].clone()  # torch keeps the tensor it is given, which may be another's, and in use
        self.__dict__.update(state_dict["extrapolation"])

    def __getstate__(self) -> dict:
        # torch's version keeps three attributes only, which would leave a copy without its inner optimizer.
        return super().__getstate__() | {name: getattr(self, name) for name in ("inner", *OWN)}

    def _refuse(self) -> None:
        """Raise ValueError where a group is what the formula does not allow; before anything has moved."""
        for i, group in enumerate(self.inner.param_groups):
            self._time(i)
            if self.history == "gradient" and self.variant == "corrected":
                plain = isinstance(self.inner, SGD) and all(group[name] == value for name, value in PLAIN.items())
                if not plain:
                    got = {name: group[name] for name in PLAIN if name in group}
                    raise ValueError(
                        "inner must be plain SGD where history is 'gradient' ('weights' takes any optimizer), "
                        f"got {type(self.inner).__name__} with {got} in group {i}"
                    )

    def _time(self, i: int) -> tuple[float, float]:
        """eta and s = dt / h of group i. Raises ValueError if h is its rate, and that is not positive."""
        eta = self.eta[i] if self.variant == "published" else float(self.inner.param_groups[i]["lr"])
        h = eta if self.h is None else self.h
        if not (math.isfinite(h) and h > 0):
            raise ValueError(f"h is the rate of group {i}, which must be positive and finite, got {h}; give h a number")
        return eta, self.dt / h

    @torch.no_grad()
    def _open(self) -> list[tuple[int, Tensor, int]]:
        """Write what is known before the inner step into the oldest row: (group, parameter, steps it has known)."""
        places = [(i, p) for i, group in enumerate(self.param_groups) for p in group["params"] if p.grad is not None]
        for _, p in places:
            if p.grad.layout != torch.strided or p.grad.is_complex():
                kind = "complex" if p.grad.is_complex() else p.grad.layout
                raise ValueError(f"gradients must be dense and real, got {kind}")
        opened = []
        for i, p in places:
            own = self.state[p]
            if not own:
                own["ring"], own["known"] = _ring(p, self.order), 0
            if self.variant == "published" and own["known"] == 0:
                own["ring"].copy_(p.grad)
            own["ring"][own["known"] % self.order].copy_(p if self.history == "weights" else p.grad)
            opened.append((i, p, own["known"]))
            own["known"] = 0  # should the inner step break off, the history begins anew
        return opened

    @torch.no_grad()
    def _close(self, opened: list[tuple[int, Tensor, int]]) -> None:
        """Make the newest row what the inner step moved."""
        for _, p, known in opened:
            own = self.state[p]
            if self.history == "weights":
                row = own["ring"][known % self.order]
                torch.sub(p, row, out=row)
            own["known"] = known + 1

    def _is_ready(self, p: Tensor) -> bool:
        known = self.state[p]["known"] if p in self.state else 0
        if self.variant == "published":
            return known > 1 and self.steps > self.order
        return known >= self.order

    @torch.no_grad()
    def _extrapolate(self, places: list[tuple[int, Tensor]]) -> bool:
        """Add sum_j c_j d_j to each of (group, parameter) that is ready; whether there was one."""
        ready = [(i, p) for i, p in places if self._is_ready(p)]
        with _full_precision():
            for i, p in ready:
                own, (eta, s) = self.state[p], self._time(i)
                scale, newest = 1.0 if self.history == "weights" else -eta, (own["known"] - 1) % self.order
                dtype = torch.promote_types(p.dtype, torch.float32)
                _add(p, own["ring"], _in_ring(s, scale, self.order, self.derivative, newest, dtype, p.device))
        return bool(ready)


OWN = ("dt", "h", "order", "derivative", "history", "every", "variant", "steps", "did_extrapolate", "eta")


@lru_cache(maxsize=1024)  # groups times order, for a grid of rates in one optimizer
def _in_ring(s: float, scale: float, order: int, derivative: str, newest: int, dtype, device) -> Tensor:
    """scale c_j of row (newest - j) mod order, (order,)."""
    c = step_coefficients(s, order, derivative)
    return torch.tensor([scale * c[(newest - row) % order] for row in range(order)], dtype=dtype, device=device)


def _ring(p: Tensor, order: int) -> Tensor:
    """Room for `order` tensors of the parameter's shape, in its place in memory."""
    strides = p.stride() if _is_dense(p) else torch.empty(p.shape, device="meta").stride()
    return torch.empty_strided((order, *p.shape), (p.numel(), *strides), dtype=p.dtype, device=p.device).zero_()


def _add(p: Tensor, ring: Tensor, c: Tensor) -> None:
    """p <- p + sum_r c_r ring_r, rounded once."""
    n = p.numel()
    if ring.stride() == (n, *p.stride()) and p.dtype == c.dtype:  # the ring's are those of a dense tensor
        # As vectors in the order of memory: a matrix and a vector, one pass.
        p.as_strided((n,), (1,)).addmv_(ring.as_strided((n, len(c)), (1, n)), c)
    else:
        p.add_(torch.tensordot(c, ring.to(c.dtype), dims=1))


def _is_dense(p: Tensor) -> bool:
    return p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32: neither TF32 nor bfloat16, whatever the training around them uses."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
