"""phi <- phi + alpha (theta_k - phi),   theta <- phi      after every k inner steps, as pure
functions in jax

phi: slow weights, in the state; theta: fast weights, the params; k: `k`, alpha: `alpha`, inner
steps: `inner`. The form is optax's: `init(params)` gives a state, `update(gradients, state,
params)` gives moves to add to the params, and a state. optax itself is not needed for it.

Zhang, Lucas, Hinton, Ba 2019, Algorithm 1. optax's own `lookahead` keeps the slow weights beside
the fast ones in a pair that goes everywhere in the params' place. Here they are in the state, the
params are the fast weights, and so it goes into `chain`, `masked` and `MultiSteps` as it is:

- last in a `chain`: what comes after would change the move that leads onto the slow weights;
- inside `MultiSteps`, which then counts one step for many gradients, and not around it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from replicate.errors import BadParameter, unknown
from replicate.optim.cycle import check_cycle

INNER_STATES = ("maintain", "reset", "interpolate")  # as of the torch optimizer
MOMENTUM_FIELDS = (
    "trace",
    "mu",
)  # optax's names: of SGD's and RMSprop's momentum, of Adam's first moment


class Transformation(Protocol):
    """What optax calls a GradientTransformation: a named tuple of two functions.

    >>> from typing import NamedTuple
    >>> class Descent(NamedTuple):
    ...     init: object = lambda params: ()
    ...     update: object = lambda gradients, state, params=None: (gradients, state)
    >>> lookahead(Descent()).init({"w": 1.0}).step
    Array(0, dtype=int32)
    """

    init: Callable
    update: Callable


class LookaheadState(NamedTuple):
    """Inner steps since the last pull, the slow weights, the inner state, and slow momenta.

    `slow` has the structure and shapes of the params, and so has each of `momenta`, which are there
    where momenta are interpolated.

    >>> LookaheadState(0, {"w": 8.0}, (), ()).slow
    {'w': 8.0}
    """

    step: Any
    slow: Any
    inner: Any
    momenta: tuple


def lookahead(
    inner: Transformation,
    k: int = 5,
    alpha: float = 0.5,
    inner_state: str = "maintain",
    extrapolate: bool = False,
) -> Transformation:
    """Lookahead around an optax transformation, as one of the same type.

    Defaults: k = 5 and alpha = 0.5 are the setting of the paper's robustness figure; "maintain" is
    Algorithm 1's. inner_state: at a pull, "maintain" keeps the inner state; "reset" makes it anew,
    the count of a schedule inside too; "interpolate" takes momenta (the fields in MOMENTUM_FIELDS) to
    m <- m' + alpha (m - m'), where m' is the value after the last pull, and 0 at first.

    The slow weights are in float32 where the params are of half precision. The params after a pull
    are the slow weights up to one rounding, since a sum leads there; the slow weights are exact.

    Raises BadParameter for a k, alpha or inner_state that the torch optimizer refuses, an `inner`
    that is no transformation or has a Lookahead inside, and for an update without the params.

    >>> import jax.numpy as jnp
    >>> from collections import namedtuple
    >>> Pair = namedtuple("Pair", "init update")
    >>> descent = Pair(lambda params: (), lambda g, state, params=None: (-g, state))
    >>> rule = lookahead(descent, k=2, alpha=0.5)
    >>> theta = jnp.float32(8)
    >>> state = rule.init(theta)
    >>> for _ in range(2):
    ...     move, state = rule.update(jnp.float32(1), state, theta)
    ...     theta = theta + move
    >>> float(theta)  # half way back from 6 to 8
    7.0
    """
    check_cycle(k, alpha, extrapolate)
    if inner_state not in INNER_STATES:
        raise unknown("inner_state", str(inner_state), INNER_STATES)
    if getattr(type(inner), "_fields", None) != ("init", "update"):
        raise BadParameter(
            f"inner must be an optax transformation (init, update), got {type(inner).__name__}"
        )

    cycle = _Cycle(inner, k, alpha, inner_state)
    return inner._replace(init=cycle.init, update=cycle.update)


class _Cycle(NamedTuple):
    """`lookahead`'s arguments, checked, with the two functions of the transformation."""

    inner: Transformation
    k: int
    alpha: float
    inner_state: str

    def init(self, params):
        """The state before the first step: the slow weights are the params."""
        state = self.inner.init(params)
        if _states(state):
            raise BadParameter(
                "a Lookahead around another needs its slow weights pulled with it, which this form "
                "does not do; nest replicate.optim.Lookahead"
            )
        slow = jax.tree.map(lambda p: jnp.array(p, _wide(p), copy=True), params)
        momenta = jax.tree.map(lambda m: jnp.zeros(m.shape, _wide(m)), self._momenta_of(state))
        return LookaheadState(jnp.zeros([], jnp.int32), slow, state, momenta)

    def update(self, updates, state, params=None, **extra):
        """The moves of an inner step, or at a cycle's end those that lead to the slow weights."""
        if params is None:
            raise BadParameter("Lookahead needs the params: update(gradients, state, params)")
        moves, within = self.inner.update(updates, state.inner, params, **extra)
        ends = state.step + 1 >= self.k
        fast = jax.tree.map(lambda s, p, u: p.astype(s.dtype) + u, state.slow, params, moves)
        slow = _interpolate(ends, state.slow, fast, self.alpha)
        moves = jax.tree.map(
            lambda s, p, u: jnp.where(ends, s - p, u.astype(s.dtype)), slow, params, moves
        )
        start = jax.tree.map(lambda s, p: s.astype(p.dtype), slow, params)
        within, momenta = self._pull_state(ends, within, state.momenta, start)
        step = jnp.where(ends, 0, state.step + 1).astype(jnp.int32)
        return moves, LookaheadState(step, slow, within, momenta)

    def _momenta_of(self, state) -> tuple:
        return _momenta(state) if self.inner_state == "interpolate" else ()

    def _pull_state(self, ends, within, momenta: tuple, start) -> tuple:
        """The inner state and the slow momenta after the step. start: the params at a cycle's end."""
        if self.inner_state == "interpolate":
            momenta = _interpolate(ends, momenta, _momenta(within), self.alpha)
            return _put_momenta(within, momenta, ends), momenta
        if self.inner_state == "reset":
            within = _choose(ends, self.inner.init(start), within)
        return within, momenta


def slow_weights(state: Any) -> Any:
    """The slow weights in the state of a Lookahead, or of what it is a part of, for evaluation.

    state: what `init` or `update` gave, of the Lookahead or of the chain it is in. Raises
    BadParameter unless it has exactly one Lookahead.

    >>> state = LookaheadState(0, {"w": 8.0}, (), ())
    >>> slow_weights((None, {"masked": state}))
    {'w': 8.0}
    """
    states = _states(state)
    if len(states) != 1:
        raise BadParameter(f"the state must have one Lookahead in it, got {len(states)}")
    return states[0].slow


def _states(state: Any) -> list[LookaheadState]:
    def is_state(node):
        return isinstance(node, LookaheadState)

    return [node for node in jax.tree.leaves(state, is_leaf=is_state) if is_state(node)]


def _wide(param: Any) -> jnp.dtype:
    """float32 for half precision, in which a small pull would be lost to rounding; else its own."""
    return jnp.promote_types(jnp.asarray(param).dtype, jnp.float32)


def _has_momentum(node: Any) -> bool:
    return bool({*MOMENTUM_FIELDS} & {*getattr(node, "_fields", ())})


def _momenta(state: Any) -> tuple:
    """The momenta in an inner state, each a tree like the params."""
    nodes = jax.tree.leaves(state, is_leaf=_has_momentum)
    fields = [(node, name) for node in nodes if _has_momentum(node) for name in MOMENTUM_FIELDS]
    return tuple(getattr(node, name) for node, name in fields if name in node._fields)


def _put_momenta(state: Any, momenta: tuple, ends: jax.Array) -> Any:
    """The inner state with other momenta where a cycle ends."""
    rest = iter(momenta)

    def put(node):
        if not _has_momentum(node):
            return node
        names = [name for name in MOMENTUM_FIELDS if name in node._fields]
        fresh = {name: _choose(ends, next(rest), getattr(node, name)) for name in names}
        return node._replace(**fresh)

    return jax.tree.map(put, state, is_leaf=_has_momentum)


def _choose(ends: jax.Array, new: Any, old: Any) -> Any:
    """Of two trees the new one where a cycle ends, in the old one's precision."""
    return jax.tree.map(lambda n, o: jnp.where(ends, n.astype(jnp.asarray(o).dtype), o), new, old)


def _interpolate(ends: jax.Array, slow: Any, fast: Any, alpha: float) -> Any:
    """slow + alpha (fast - slow) where a cycle ends, else slow."""
    return jax.tree.map(lambda s, f: jnp.where(ends, s + alpha * (f - s), s), slow, fast)
