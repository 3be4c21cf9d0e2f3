"""phi <- phi + alpha (theta_k - phi),   theta <- phi      after every k inner steps

phi: slow weights (`state[p]["slow"]`), theta: fast weights (the parameters), k: `k`, alpha:
`alpha`, inner steps: `inner`.

Zhang, Lucas, Hinton, Ba 2019, Lookahead Optimizer: k steps forward, 1 step back (arXiv:1907.08610),
Algorithm 1. Public versions leave it in three places. timm and alphadl let the slow weights begin
at the first pull, which therefore pulls nothing. In pytorch_optimizer and in the authors' file
momentum is "momentum_buffer" only, so that around Adam "reset" and "pullback" (here "interpolate")
are "none". The authors' slow copy of the momentum is the live buffer itself after the first
"pullback", so that from the second on nothing is interpolated.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from replicate.errors import BadParameter, unknown
from replicate.optim.method import is_whole
from replicate.optim.wrapper import Wrapper, check_shape, innermost, layers

INNER_STATES = ("maintain", "reset", "interpolate")
MOMENTA = ("momentum_buffer", "exp_avg")  # of SGD and RMSprop; Adam's first moment
PIECE = 2**16  # numbers that stay in a core's cache from the pull's first line to its second


class Lookahead(Wrapper):
    """Lookahead around any torch optimizer; schedulers, scalers and checkpoints take it for one.

    Its parameter groups are the inner optimizer's, so a rate that is set here holds there. The slow
    weights start where the parameters are when this is made or when they come, in float32 where the
    parameters are of half precision. A step that a GradScaler leaves out does not count.

    `inner_state` says what becomes of the inner optimizer's state at a pull (section 2 and appendix
    of the paper): "maintain" keeps it; "reset" forgets it, as before the first step; "interpolate"
    takes the momentum (the buffers in MOMENTA; an optimizer without them keeps its state) to
    m <- m' + alpha (m - m'), where m' is its value after the last pull, and 0 at first.

    Around another Lookahead it is the two-layer algorithm: k counts steps of the innermost
    optimizer and is a multiple of the inner k, and at the outer pull the inner slow weights are
    pulled too.

    >>> from replicate.optim import SGD, Lookahead
    >>> theta = torch.nn.Parameter(torch.tensor([8.0]))
    >>> optimizer = Lookahead(SGD([theta], lr=1.0), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     theta.grad = torch.ones(1)
    ...     optimizer.step()
    >>> theta.item()  # half way back from 6 to 8
    7.0
    """

    ENTRY = "lookahead"
    SETTINGS = ("k", "alpha", "inner_state", "extrapolate")
    COUNTS = ("counter",)

    def __init__(
        self,
        inner: Optimizer,
        k: int = 5,
        alpha: float = 0.5,
        inner_state: str = "maintain",
        extrapolate: bool = False,
    ):
        """k: inner steps a cycle; alpha: the slow weights' step, in (0, 1].

        Defaults: k = 5 and alpha = 0.5 are the setting of the paper's robustness figure; "maintain"
        is Algorithm 1's. extrapolate: alpha may be above 1, past the fast weights, which is not in
        the paper.

        Raises BadParameter (a ValueError) if `inner` is no torch optimizer, k is not a whole number
        of at least 1, alpha is not a finite number above 0, alpha is above 1 without `extrapolate`,
        `inner_state` is unknown, or k does not fit a Lookahead inside.
        """
        settings = {"k": k, "alpha": alpha, "inner_state": inner_state, "extrapolate": extrapolate}
        _check_settings(settings)
        super().__init__(inner)
        _check_nesting(inner, k, 0)
        self.k = int(k)
        self.alpha = float(alpha)
        self.inner_state = inner_state
        self.extrapolate = bool(extrapolate)
        self.counter = 0  # inner steps since the last pull
        self._join()

    def step(self, closure: Callable[[], Tensor] | None = None):
        """One inner step, and at the end of a cycle the pull; gives what the closure gave.

        Raises BadParameter inside `slow_weights()`; nothing has moved then.

        >>> from replicate.optim import SGD, Lookahead
        >>> theta = torch.nn.Parameter(torch.tensor([8.0]))
        >>> theta.grad = torch.ones(1)
        >>> optimizer = Lookahead(SGD([theta], lr=1.0), k=2)
        >>> optimizer.step()
        >>> theta.item(), optimizer.counter
        (7.0, 1)
        """
        self._refuse_step_on_loan()
        self._join()
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.counter += 1
        if self.counter >= self.k:
            self._pull()
            self.counter = 0
        return loss

    @contextmanager
    def slow_weights(self) -> Iterator[None]:
        """The slow weights in the parameters' place, for evaluation; then the fast ones are back.

        The fast weights come back bit by bit. Buffers of the model, such as BatchNorm's statistics,
        are no parameters: they stay those of the fast weights, see
        `averaging.recompute_batch_norm`.

        >>> from replicate.optim import SGD, Lookahead
        >>> theta = torch.nn.Parameter(torch.tensor([8.0]))
        >>> theta.grad = torch.ones(1)
        >>> optimizer = Lookahead(SGD([theta], lr=1.0))
        >>> optimizer.step()
        >>> with optimizer.slow_weights():
        ...     theta.item()
        8.0
        >>> theta.item()
        7.0
        """
        self._join()
        with self._lent():
            with torch.no_grad():
                for parameter in self._parameters():
                    parameter.copy_(self.state[parameter]["slow"])
            yield

    def _check(self, entry: dict) -> None:
        _check_settings(entry)
        counter = entry["counter"]
        if not is_whole(counter) or not 0 <= counter < entry["k"]:
            raise BadParameter(
                f"state_dict has counter {counter!r}, which must be in [0, k = {entry['k']})"
            )

    def _read(self, parameter: Tensor, saved: dict, entry: dict) -> dict:
        names = {"slow", *(f"slow {name}" for name in MOMENTA)}
        if "slow" not in saved or not set(saved) <= names:
            raise BadParameter(
                f"state_dict must have 'slow' for every parameter and at most {sorted(names)}, "
                f"got {sorted(map(str, saved))}"
            )
        for name, value in saved.items():
            check_shape(name, value, parameter.shape)
        kind = _wide(parameter)
        return {name: value.to(parameter.device, kind, copy=True) for name, value in saved.items()}

    def _check_inner(self, entry: dict) -> None:
        super()._check_inner(entry)
        _check_nesting(self.inner, entry["k"], entry["counter"])

    def _join(self) -> None:
        for parameter in self._parameters():
            if parameter not in self.state:
                slow = parameter.detach().to(_wide(parameter), copy=True)
                self.state[parameter]["slow"] = slow

    @torch.compiler.disable  # traced, it interpolated the momentum of a bias wrongly
    @torch.no_grad()
    def _pull(self) -> None:
        for parameter in self._parameters():
            _interpolate(self.state[parameter]["slow"], parameter, self.alpha)
            if self.inner_state == "interpolate":
                self._interpolate_momenta(parameter)
        for layer in layers(self.inner):
            if isinstance(layer, Lookahead):
                layer._begin_cycle(self.inner_state == "reset")
            elif self.inner_state == "reset":
                for parameter in self._parameters():
                    layer.state.pop(parameter, None)

    def _interpolate_momenta(self, parameter: Tensor) -> None:
        for name, value in _momenta(self, parameter):
            fast = value.to_dense() if value.is_sparse else value
            slow = self.state[parameter].get(f"slow {name}")
            if slow is None:
                slow = torch.zeros_like(fast, dtype=_wide(value))
                self.state[parameter][f"slow {name}"] = slow
            _interpolate(slow, fast, self.alpha)
            if value.is_sparse:
                sparse = fast.to_sparse(value.sparse_dim())
                innermost(self).state[parameter][name] = sparse

    def _begin_cycle(self, forget: bool) -> None:
        """Slow weights where the fast ones have been put from outside, and slow momenta."""
        self.counter = 0
        for parameter in self._parameters():
            state = self.state[parameter]
            state["slow"].copy_(parameter)
            if forget:
                self.state[parameter] = {"slow": state["slow"]}
            else:
                for name, value in _momenta(self, parameter):
                    if f"slow {name}" in state:
                        state[f"slow {name}"].copy_(value)


def _check_settings(settings: dict) -> None:
    k = settings["k"]
    alpha = settings["alpha"]
    if not is_whole(k) or k < 1:
        raise BadParameter(f"k must be a whole number of at least 1, got {k!r}")
    is_number = isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
    if not is_number or not (math.isfinite(alpha) and alpha > 0):
        raise BadParameter(f"alpha must be a finite number above 0, got {alpha!r}")
    if alpha > 1 and settings["extrapolate"] is not True:
        raise BadParameter(
            f"alpha must be at most 1, got {alpha!r}; "
            "say extrapolate=True to go past the fast weights"
        )
    if settings["inner_state"] not in INNER_STATES:
        raise unknown("inner_state", str(settings["inner_state"]), INNER_STATES)


def _check_nesting(inner: Optimizer, k: int, counter: int) -> None:
    """Raise BadParameter where cycles of a Lookahead inside would not end with those outside."""
    for layer in layers(inner):
        if isinstance(layer, Lookahead) and (k % layer.k or layer.counter != counter % layer.k):
            raise BadParameter(
                f"k must be a multiple of the inner Lookahead's and both at the start of a cycle, "
                f"got {k} around {layer.k} at step {layer.counter} of its cycle"
            )


def _wide(tensor: Tensor) -> torch.dtype:
    """float32 for half precision, in which a small pull would be lost to rounding; else its own."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _momenta(optimizer: Optimizer, parameter: Tensor) -> Iterator[tuple[str, Tensor]]:
    state = innermost(optimizer).state.get(parameter, {})
    return ((name, state[name]) for name in MOMENTA if isinstance(state.get(name), Tensor))


def _interpolate(slow: Tensor, fast: Tensor, alpha: float) -> None:
    """slow <- slow + alpha (fast - slow), fast <- slow; in place, and two tensors they remain."""
    pieces = [(slow, fast)]
    if slow.device.type == "cpu" and slow.is_contiguous() and fast.is_contiguous():
        pieces = zip(slow.view(-1).split(PIECE), fast.view(-1).split(PIECE), strict=True)
    for slow_piece, fast_piece in pieces:
        slow_piece.lerp_(fast_piece.to(slow_piece.dtype), alpha)
        fast_piece.copy_(slow_piece)
