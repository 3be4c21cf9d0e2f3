"""What one gradient is used for: a step by SGD or Adam, a walk, a jump, a line search; compiled
whole.

A method is told a point of descent, `Point`, and the loss as a function of the weights, and says
where to go, what it keeps for next time, and how many forward passes and mini-steps that took:
`step(loss_at, point, memory) -> Outcome`. `Stepping` and `Vaulting` are `optim.KeepStepping` and
`optim.KeepVaulting`, with the same variants; their semantics are documented there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replicate.errors import BadParameter, unknown

VARIANTS = ("corrected", "published")
RULES = ("secant", "polyak")
CLOSE = 0.1  # as in optim.KeepVaulting


class Point(NamedTuple):
    """weights w: (P,), loss L(w), gradient g: (P,), and the rate lr."""

    weights: Any
    loss: Any
    gradient: Any
    lr: Any

    def at(self, t):
        """w - t lr g."""
        return self.weights - t * self.lr * self.gradient


class Outcome(NamedTuple):
    """Where a step ends, the method's memory, and what it cost besides the gradient."""

    weights: Any
    memory: Any
    forwards: Any
    mini_steps: Any


@dataclass(frozen=True)
class Sgd:
    """w <- w - lr g."""

    def start(self, weights) -> tuple:
        """Nothing to keep."""
        return ()

    def step(self, loss_at: Callable, point: Point, memory: tuple) -> Outcome:
        """See the module."""
        return Outcome(point.at(1.0), memory, 0, 1)


@dataclass(frozen=True)
class Adam:
    """m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  w <- w - lr m_hat / (sqrt(v_hat) + eps); torch's defaults."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def start(self, weights) -> tuple:
        """m, v and the number of steps."""
        return jnp.zeros_like(weights), jnp.zeros_like(weights), jnp.zeros((), weights.dtype)

    def step(self, loss_at: Callable, point: Point, memory: tuple) -> Outcome:
        """See the module."""
        m, v, count = memory
        count = count + 1
        m = self.beta1 * m + (1 - self.beta1) * point.gradient
        v = self.beta2 * v + (1 - self.beta2) * point.gradient**2
        m_hat = m / (1 - self.beta1**count)
        v_hat = v / (1 - self.beta2**count)
        weights = point.weights - point.lr * m_hat / (jnp.sqrt(v_hat) + self.eps)
        return Outcome(weights, (m, v, count), 0, 1)


@dataclass(frozen=True)
class Stepping:
    """`optim.KeepStepping`. at_once: how many lengths one batched forward pass looks at; 1 is the
    walk as it stands.

    Above 1 it takes w - (l_1 + ... + l_i) lr g for i subtractions, so that two losses which differ
    in the last digit may end a walk elsewhere (`walks.ties` counts them), and speculates:
    `forwards` are those the walk needed.
    """

    max_steps: int = 20
    scale_i: float = 0.0
    variant: str = "corrected"
    rollback: bool = False
    at_once: int = 1

    def __post_init__(self):
        if self.max_steps < 1 or self.at_once < 1:
            raise BadParameter(
                f"max_steps and at_once must be at least 1, got {self.max_steps} and {self.at_once}"
            )
        if not (math.isfinite(self.scale_i) and self.scale_i >= 0):
            raise BadParameter(f"scale_i must be finite and at least 0, got {self.scale_i}")
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if self.rollback and self.variant == "published":
            raise BadParameter('rollback must be False with variant "published", got True')

    @property
    def lengths(self) -> np.ndarray:
        """The mini-steps in units of lr, as many as there can be."""
        grown = self.scale_i * np.sqrt(np.arange(self.max_steps))
        return np.append(1.0, 1 - grown) if self.variant == "published" else 1 + grown

    def start(self, weights) -> tuple:
        """Nothing to keep."""
        return ()

    def step(self, loss_at: Callable, point: Point, memory: tuple) -> Outcome:
        """See the module."""
        # The published class takes its first mini-step without asking, and computes the loss once
        # more before it.
        published = self.variant == "published"
        go = jnp.asarray(True) if published else jnp.any(point.gradient != 0)
        walk = self._one_by_one if self.at_once == 1 else self._many_at_once
        weights, count = walk(loss_at, point, go)
        return Outcome(weights, memory, count + published, count)

    def _one_by_one(self, loss_at: Callable, point: Point, go) -> tuple:
        lengths = jnp.asarray(self.lengths, point.weights.dtype)

        def walking(state):
            return state[-1] & (state[0] < len(lengths))

        def mini_step(state):
            i, weights, _, old, _ = state
            there = weights - lengths[i] * point.lr * point.gradient
            new = loss_at(there)
            return i + 1, there, weights, new, new < old

        start = (0, point.weights, point.weights, point.loss, go)
        count, weights, before, _, better = jax.lax.while_loop(walking, mini_step, start)
        return (jnp.where(better, weights, before) if self.rollback else weights), count

    def _many_at_once(self, loss_at: Callable, point: Point, go) -> tuple:
        total = len(self.lengths)
        sums = np.append(0.0, np.cumsum(self.lengths))
        # Filled up with nan, whose loss is below no other, so that a walk that runs out of lengths
        # stops there.
        ends = jnp.asarray(
            np.append(sums, np.full(-total % self.at_once, np.nan)), point.weights.dtype
        )

        def walking(state):
            return state[-1] & (state[0] < total)

        def block(state):
            first, _, old, _ = state
            t = jax.lax.dynamic_slice_in_dim(ends, first + 1, self.at_once)
            losses = jax.vmap(lambda length: loss_at(point.at(length)))(t)
            better = losses < jnp.append(old, losses[:-1])
            all_better = jnp.all(better)
            taken = jnp.where(all_better, self.at_once, jnp.argmin(better) + 1)
            return first + self.at_once, first + taken, losses[-1], all_better

        start = (0, 0, point.loss, go)
        _, count, _, better = jax.lax.while_loop(walking, block, start)
        undo = self.rollback & ~better & (0 < count) & (count <= total)
        count = jnp.minimum(count, total)
        return point.at(ends[count - undo]), count


@dataclass(frozen=True)
class Vaulting:
    """`optim.KeepVaulting`."""

    max_steps: int = 20
    variant: str = "corrected"
    rule: str = "secant"
    cap: float = 10.0

    def __post_init__(self):
        if self.max_steps < 1:
            raise BadParameter(f"max_steps must be at least 1, got {self.max_steps}")
        if not (math.isfinite(self.cap) and self.cap > 1):
            raise BadParameter(f"cap must be finite and above 1, got {self.cap}")
        for kind, name, names in (("variant", self.variant, VARIANTS), ("rule", self.rule, RULES)):
            if name not in names:
                raise unknown(kind, name, names)

    def start(self, weights) -> tuple:
        """Nothing to keep."""
        return ()

    def step(self, loss_at: Callable, point: Point, memory: tuple) -> Outcome:
        """See the module."""
        jump = self._jump_as_published if self.variant == "published" else self._jump_as_corrected
        weights, forwards, count = jump(loss_at, point)
        return Outcome(weights, memory, forwards, count)

    def _jump_as_published(self, loss_at: Callable, point: Point) -> tuple:
        def vaulting(state):
            i, _, old, new = state
            return (new < old) & (i <= self.max_steps)

        def jump(state):
            i, weights, old, new = state
            f1 = (new - old) / point.lr
            f2 = (new - f1) / point.lr
            there = weights - (-f2 / f1 * point.lr) * point.lr * point.gradient
            return i + 1, there, new, loss_at(there)

        first = point.at(1.0)
        count, weights, _, _ = jax.lax.while_loop(
            vaulting, jump, (1, first, point.loss, loss_at(first))
        )
        return weights, count + 1, count

    def _jump_as_corrected(self, loss_at: Callable, point: Point) -> tuple:
        norm = jnp.sum(point.gradient**2)
        slope = point.lr * norm

        def trying(state):
            return state[-1] & (state[0] < self.max_steps)

        def jump(state):
            count, t, best, lowest, _ = state
            new = loss_at(point.at(t))
            better = new < lowest
            best = jnp.where(better, t, best)
            lowest = jnp.where(better, new, lowest)
            following = self._propose(t, new, point.loss, slope, norm, better)
            return count + 1, following, best, lowest, (better | (best == 0)) & (following != t)

        unit = jnp.ones((), point.loss.dtype)
        start = (0, unit, 0 * unit, point.loss, slope > 0)
        count, _, best, _, _ = jax.lax.while_loop(trying, jump, start)
        return jnp.where(best > 0, point.at(best), point.weights), count, count

    def _propose(self, t, new, before, slope, norm, better):
        """The length to try after t, where the loss was `new`."""
        if self.rule == "polyak":
            wanted = jnp.where(better, t + 1 + new / norm, 0.0)
        else:
            above = new - before + slope * t
            wanted = jnp.where(
                above > 0, t * (slope * t / (2 * above)), jnp.where(jnp.isnan(new), 0.0, jnp.inf)
            )
        following = jnp.clip(wanted, t / self.cap, t * self.cap)
        return jnp.where((self.rule == "secant") & (jnp.abs(wanted - t) <= CLOSE * t), t, following)
