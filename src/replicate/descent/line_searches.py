"""min over t of L(w - t lr g): the best that any walk along one gradient can do, and the classical
way to do well.

ExactSearch    the lowest point there is, for comparison: no method that pays for its forward passes could afford it
Armijo         the first t of t_0, s t_0, s^2 t_0, ... with L(w - t lr g) <= L(w) - c t lr |g|^2
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from replicate.descent.methods import Outcome, Point
from replicate.errors import BadParameter

# Lengths looked at first, in units of the step to a smallest loss of 0. Far out deep nets have
# narrow second valleys.
LENGTHS = np.concatenate([np.logspace(-14, -2, 192, endpoint=False), np.logspace(-2, 2, 256)])
BATCH = 64  # forward passes at once: with many rows more would not fit into a cache, and hundreds not into memory
FINER, ROUNDS = (
    16,
    7,
)  # each round narrows the bracket eightfold: to 1e-8 of t, as far as losses can tell


@dataclass(frozen=True)
class ExactSearch:
    """Steepest descent with the lowest point along -g, to about 1e-8 of its distance.

    degree: of L along a ray. A linear net of l maps has degree 2 l, and a polynomial of that degree
    is known from degree - 1 losses besides L(w) and L'(w): that is what a step is said to cost, 0
    where the degree is not known. The search looks from 1e-14 to 100 times L / |g|^2, the step to a
    smallest loss of 0, in steps of 4 % from a hundredth of it on: a valley much narrower than that
    may be missed.
    """

    degree: int = 0

    def __post_init__(self):
        if self.degree < 0 or self.degree == 1:
            raise BadParameter(f"degree must be 0 or at least 2, got {self.degree}")

    def start(self, weights) -> tuple:
        """Nothing to keep."""
        return ()

    def step(self, loss_at: Callable, point: Point, memory: tuple) -> Outcome:
        """See `methods`."""

        def losses(t):
            return jax.lax.map(lambda length: loss_at(point.at(length)), t, batch_size=BATCH)

        slope = point.lr * jnp.sum(point.gradient**2)
        dtype = point.loss.dtype
        t = point.loss / slope * jnp.asarray(LENGTHS, dtype)

        def lowest(t):
            at = losses(t)
            i = jnp.nanargmin(jnp.where(jnp.isfinite(at), at, jnp.inf))
            return t[jnp.maximum(i - 1, 0)], t[i], t[jnp.minimum(i + 1, len(t) - 1)]

        def narrower(_, bracket):
            low, _, high = bracket
            return lowest(jnp.linspace(low, high, FINER + 1, dtype=dtype))

        _, best, _ = jax.lax.fori_loop(0, ROUNDS, narrower, lowest(t))
        there = point.at(best)
        weights = jnp.where((slope > 0) & (loss_at(there) < point.loss), there, point.weights)
        return Outcome(weights, memory, max(self.degree - 1, 0), 1)


@dataclass(frozen=True)
class Armijo:
    """Backtracking. Each search starts `grow` times as far as the last one ended, the first at the
    rate itself.

    c: the part of the fall by the slope that is asked for; c and shrink as in Nocedal and Wright
    2006, section 3.1; grow = 1 / shrink takes back one step too short a search. After max_steps
    lengths in vain it stays where it is.
    """

    c: float = 1e-4
    shrink: float = 0.5
    grow: float = 2.0
    max_steps: int = 20

    def __post_init__(self):
        if not (0 < self.c < 1 and 0 < self.shrink < 1):
            raise BadParameter(f"c and shrink must be in (0, 1), got {self.c} and {self.shrink}")
        if not (math.isfinite(self.grow) and self.grow >= 1):
            raise BadParameter(f"grow must be finite and at least 1, got {self.grow}")
        if self.max_steps < 1:
            raise BadParameter(f"max_steps must be at least 1, got {self.max_steps}")

    def start(self, weights):
        """The length to try first, in units of lr."""
        return jnp.ones((), weights.dtype)

    def step(self, loss_at: Callable, point: Point, memory) -> Outcome:
        """See `methods`."""
        slope = point.lr * jnp.sum(point.gradient**2)

        def searching(state):
            count, _, lower = state
            return ~lower & (count < self.max_steps) & (slope > 0)

        def shorter(state):
            count, t, _ = state
            t = jnp.where(count > 0, t * self.shrink, t)
            return count + 1, t, loss_at(point.at(t)) <= point.loss - self.c * t * slope

        count, t, lower = jax.lax.while_loop(searching, shorter, (0, memory, jnp.asarray(False)))
        weights = jnp.where(lower, point.at(t), point.weights)
        return Outcome(weights, jnp.where(lower, t * self.grow, t), count, count)
