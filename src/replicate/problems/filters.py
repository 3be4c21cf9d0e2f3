"""s <- P_p s + b_p u,    u = -lambda g(s_0),    y = c . s        p = t mod N: the phase of step t

Every method as a filter on past gradients: a linear machine whose state s begins with the weights
that the gradient is taken at, with N phases, P_p `push`, b_p `inject`, and what is looked at, c
`look`, which is s_0 unless weights are averaged beside the run. Two questions are asked of it. On
gradients that do not depend on the weights: what does one of them move, j steps later (`impulse`),
and how much of a frequency passes (`response`)? On a quadratic, where u = -x s_0 + e with x = rate
times curvature and e noise: up to which x does it stand (`largest_stable`), and what does it make of
noise (`variance`)? All of it is exact: no path is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from replicate.errors import unknown

KEPT_STATES = ("maintain", "reset", "interpolate")  # what a pull does to the momentum
GRID_STEP, FARTHEST_X = (
    1e-3,
    8.0,
)  # the grid of x on which the first crossing is looked for, and its end
SETTLED_SHARE = 1e-12  # of a response, below which what is still to come counts for nothing
LONGEST_IMPULSE = 2**16  # of a response that does not settle


@dataclass(frozen=True, eq=False)
class Filter:
    """A method: push (N, n, n), inject (N, n), look (n,); loop: how many of the n variables, the
    first ones, the weights depend on, all but those of an average.
    """

    push: np.ndarray
    inject: np.ndarray
    look: np.ndarray
    loop: int

    @property
    def phases(self) -> int:
        """N: steps until the method does the same again."""
        return len(self.push)

    def impulse(self, steps: int, phase: int = 0) -> np.ndarray:
        """How far a displacement of 1 at a step of this phase has moved what is looked at, after
        that step and each of the next: (steps,).
        """
        moved = np.empty(steps)
        state = np.zeros(len(self.look))
        for j in range(steps):
            at = (phase + j) % self.phases
            state = self.push[at] @ state
            if j == 0:
                state = state + self.inject[at]
            moved[j] = self.look @ state
        return moved

    @property
    def pace(self) -> float:
        """How far a gradient that stays the same moves the weights a step, in units of the rate.

            c . r  l . f / (N l . r)        l M = l,  M r = r: M a cycle without gradients, f what
                                            a displacement of 1 in each of its steps adds

        Raises ValueError if the state has no such pair, as at beta = 1.
        """
        whole = np.eye(len(self.look))
        added = np.zeros(len(self.look))
        for push, inject in zip(self.push, self.inject, strict=True):
            whole, added = push @ whole, push @ added + inject
        right = _find_steady(whole)
        left = _find_steady(whole.T)
        if abs(left @ right) < SETTLED_SHARE:
            raise ValueError("a constant gradient must lead to a constant pace, it grows")
        return float((self.look @ right) * (left @ added) / (left @ right) / self.phases)

    @property
    def lag(self) -> float:
        """The mean age in steps of the gradients that a step is made of, each by its share of the
        pace; below 0 where the newest count for more than the whole.
        """
        total = 0.0
        for phase in range(self.phases):
            moved = self._settle(phase)
            total += float((moved[-1] - moved).sum())
        return total / self.phases / self.pace

    def response(self, frequencies: Sequence[float]) -> np.ndarray:
        """sum_j a_j exp(-i omega j), a_j: what an impulse moves in its j-th step, mean over phases;
        complex, (frequencies,). omega: radians a step, in [0, pi].
        """
        omega = np.asarray(frequencies, dtype=np.float64)
        total = np.zeros(omega.shape, dtype=complex)
        for phase in range(self.phases):
            steps = np.diff(self._settle(phase), prepend=0.0)
            total += np.exp(-1j * np.outer(omega, np.arange(len(steps)))) @ steps
        return total / self.phases

    def decay(self, x) -> np.ndarray:
        """The factor by which the weights fall or grow a step in the long run, for every x = rate
        times curvature, of any shape.
        """
        x, size = np.asarray(x, dtype=np.float64), self.loop
        whole = np.eye(size)
        for push, inject in zip(self.push, self.inject, strict=True):
            step = np.broadcast_to(push[:size, :size], (*x.shape, size, size)).copy()
            step[..., 0] -= x[..., None] * inject[:size]
            whole = step @ whole
        return np.abs(np.linalg.eigvals(whole)).max(-1) ** (1 / self.phases)

    def largest_stable(self) -> float:
        """The x up to which the weights do not grow: the first crossing on a grid of 0.001, then
        bisection; 8 if there is none below.
        """
        grid = np.arange(1, round(FARTHEST_X / GRID_STEP) + 1) * GRID_STEP
        unstable = np.flatnonzero(self._grows(grid))
        if not len(unstable):
            return FARTHEST_X
        return _bisect(self._grows, grid[unstable[0]] - GRID_STEP, grid[unstable[0]])

    def _grows(self, x) -> np.ndarray:
        return self.decay(x) > 1 + SETTLED_SHARE

    def variance(self, x: float) -> float:
        """Var y in the long run, the mean over a cycle, in units of a step's noise (lambda sigma)^2;
        inf where the weights grow.
        """
        if self.decay(x) >= 1:
            return math.inf
        steps = [push - x * np.outer(inject, _first(len(inject)))
                 for push, inject in zip(self.push, self.inject, strict=True)]  # fmt: skip
        whole = np.eye(len(self.look))
        added = np.zeros((len(self.look),) * 2)
        for step, inject in zip(steps, self.inject, strict=True):
            whole, added = step @ whole, step @ added @ step.T + np.outer(inject, inject)
        moments = solve_discrete_lyapunov(whole, added)
        total = 0.0
        for step, inject in zip(steps, self.inject, strict=True):
            moments = step @ moments @ step.T + np.outer(inject, inject)
            total += float(self.look @ moments @ self.look)
        return total / self.phases

    def noise_at_pace(self, x: float) -> float:
        """`variance` at the rate at which the method goes as far as SGD does at x, over SGD's there:
        1 / (x (2 - x)).
        """
        rate = x / self.pace
        return self.variance(rate) / self.pace**2 * x * (2 - x)

    def _settle(self, phase: int) -> np.ndarray:
        """An impulse until it moves nothing any more. Raises ValueError if it never does."""
        steps = 4 * len(self.look) * self.phases
        while steps <= LONGEST_IMPULSE:
            moved = self.impulse(steps, phase)
            if np.ptp(moved[steps // 2 :]) <= SETTLED_SHARE * np.abs(moved).max():
                return moved
            steps *= 2
        raise ValueError(f"an impulse must settle within {LONGEST_IMPULSE} steps, it still moves")


def sgd() -> Filter:
    """theta <- theta + u"""
    return heavy_ball(0.0)


def heavy_ball(beta: float) -> Filter:
    """d <- beta d + u,  theta <- theta + d        torch's SGD with momentum"""
    return _single([[1, beta], [0, beta]], [1, 1])


def nesterov(beta: float) -> Filter:
    """d <- beta d + u,  theta <- theta + u + beta d        torch's SGD with nesterov=True"""
    return _single([[1, beta**2], [0, beta]], [1 + beta, 1])


def extrapolation(coefficients: Sequence[float], every: int = 1) -> Filter:
    """d_0 <- u,  theta <- theta + d_0,  and after each N-th step theta <- theta + sum_j c_j d_j

    coefficients: c_0, the newest, to c_{m-1}, as `step_coefficients` of `replicate.optim` gives
    them; every: N.
    """
    m = len(coefficients)
    plain = np.zeros((m + 1, m + 1))
    due = np.eye(m + 1)
    plain[0, 0] = 1
    plain[range(2, m + 1), range(1, m)] = 1
    due[0, 1:] = coefficients
    inject = np.array([1.0, 1.0, *np.zeros(m - 1)])
    push = [plain] * (every - 1) + [due @ plain]
    return _cycle(push, [inject] * (every - 1) + [due @ inject])


def lookahead(k: int, alpha: float, beta: float = 0.0, kept: str = "maintain") -> Filter:
    """phi <- phi + alpha (theta - phi),  theta <- phi        after every k steps of heavy ball

    kept: what becomes of the momentum d at a pull: maintain, reset to 0, or interpolate towards its
    value at the pull before. Raises BadParameter on another word.
    """
    if kept not in KEPT_STATES:
        raise unknown("inner state", kept, KEPT_STATES)
    inner = np.eye(4)  # of theta, d, phi and the momentum at the last pull
    inner[0, 1] = inner[1, 1] = beta
    pull = np.eye(4)
    pull[0] = pull[2] = [alpha, 0, 1 - alpha, 0]
    momenta = {
        "maintain": [0, 1, 0, 0],
        "reset": np.zeros(4),
        "interpolate": [0, alpha, 0, 1 - alpha],
    }
    pull[1] = pull[3] = momenta[kept]
    inject = np.array([1.0, 1.0, 0.0, 0.0])
    push = [inner] * (k - 1) + [pull @ inner]
    return _cycle(push, [inject] * (k - 1) + [pull @ inject])


def average(inner: Filter, mu: np.ndarray) -> Filter:
    """y = sum_j mu_j theta_{t-k+j}        the kernel mu, (k + 1,), on the last k + 1 weights of a run

    The run itself is that of `inner`; its weights are only looked at.
    """
    mu = np.asarray(mu, dtype=np.float64)
    n = len(inner.look)
    size = len(inner.look) + len(mu)
    push = np.zeros((inner.phases, size, size))
    inject = np.zeros((inner.phases, size))
    push[:, :n, :n] = inner.push
    inject[:, :n] = inner.inject
    push[:, n, :n] = inner.look @ inner.push
    inject[:, n] = inner.inject @ inner.look
    push[:, range(n + 1, size), range(n, size - 1)] = 1  # theta_t, theta_{t-1}, ...
    return Filter(push, inject, np.array([*np.zeros(n), *mu[::-1]]), inner.loop)


def running_mean(inner: Filter, delta: float) -> Filter:
    """y <- y + delta (theta - y)        an EMA that runs for ever beside the run of `inner`"""
    n = len(inner.look)
    push = np.zeros((inner.phases, n + 1, n + 1))
    inject = np.zeros((inner.phases, n + 1))
    push[:, :n, :n] = inner.push
    inject[:, :n] = inner.inject
    push[:, n, :n] = delta * inner.look @ inner.push
    inject[:, n] = delta * inner.inject @ inner.look
    push[:, n, n] = 1 - delta
    return Filter(push, inject, _first(n + 1)[::-1].copy(), inner.loop)


def look_ahead(inner: Filter, variable: int, share: float) -> Filter:
    """y = theta + share s_variable        what is looked at lies ahead along a variable of the state"""
    look = inner.look.copy()
    look[variable] += share
    return replace(inner, look=look)


def difference(first: Filter, second: Filter, rate: float = 1.0, steps: int = 64) -> float:
    """The largest difference of two methods' impulses in any phase, over the largest of the first.

    rate: the second one's, in units of the first one's. Two methods of one phase with n and m
    variables are one and the same on frozen gradients if n + m steps agree.
    """
    phases = range(math.lcm(first.phases, second.phases))
    ours = np.array([first.impulse(steps, phase) for phase in phases])
    theirs = np.array([second.impulse(steps, phase) for phase in phases])
    return float(np.abs(ours - rate * theirs).max() / np.abs(ours).max())


def _single(push: Sequence, inject: Sequence) -> Filter:
    return _cycle([np.array(push, dtype=np.float64)], [np.array(inject, dtype=np.float64)])


def _cycle(push: list[np.ndarray], inject: list[np.ndarray]) -> Filter:
    size = len(inject[0])
    return Filter(np.array(push), np.array(inject), _first(size), size)


def _find_steady(matrix: np.ndarray) -> np.ndarray:
    """The eigenvector of the eigenvalue 1, (n,) of length 1."""
    values, vectors = np.linalg.eig(matrix)
    return vectors[:, np.abs(values - 1).argmin()].real


def _first(size: int) -> np.ndarray:
    unit = np.zeros(size)
    unit[0] = 1.0
    return unit


def _bisect(is_beyond, low: float, high: float) -> float:
    while high - low > SETTLED_SHARE:
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return float(low)
