"""What the method and the published class do, seen from outside, where every gradient has a
formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from replicate import models, optim
from replicate.optim.stencils import derivative_weights
from replicate.problems import rosenbrock
from replicate.sources.fabi2021extrapolation.presets import ALGEBRA
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import experiment

CURVATURE = np.array([1.0, 0.3, 0.05])
START = np.array([[1.0, -2.0, 3.0]])
ETA = 0.1
LARGE = 0.5  # another rate
S = 0.5
STEPS = 100
RATES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 1.9])  # eta a, a the largest curvature
ROUNDING = 1e-12  # of a displacement: what is above was moved by more than the inner step


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def behaviour(settings: Settings) -> pd.DataFrame:
    """One row per check: columns claim, case, value, control (NaN where none)."""
    rows = [
        *_identities(),
        *_beginnings(),
        *_assumption(),
        *_check_late_and_stale(),
        *_gradients(),
        *_relatives(),
    ]
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def quadratic(x):
    """1/2 sum a w^2, (..., 3) -> (...)."""
    return sum(0.5 * a * x[..., i] ** 2 for i, a in enumerate(CURVATURE))


def _path(
    optimizers: Callable, f: Callable = quadratic, start: np.ndarray = START, steps: int = STEPS
) -> np.ndarray:
    """theta_0 .. theta_steps of one parameter, (steps + 1, d)."""
    from replicate.problems import minimise

    return minimise(f, start, optimizers, steps)[:, 0]


def _taylor(**options) -> Callable:
    return lambda theta: [optim.TaylorExtrapolation(optim.SGD(theta, lr=ETA), S * ETA, **options)]


def _identities() -> Iterator[tuple]:
    """EXTRA-03: derivatives from states and from gradients; EXTRA-15: the class against the
    formula.
    """
    # Third differences of a path fall as eta^3 and lose the digits of their sum: few steps, and a
    # large rate.
    descent = _path(lambda theta: [optim.SGD(theta, lr=LARGE)], steps=20)
    adam = _path(lambda theta: [optim.Adam(theta, lr=LARGE)], steps=20)
    for m in (1, 2, 3):
        weights = [
            derivative_weights(m, order, kind) for kind, order in (("backward", m), ("bdf", 3))
        ]
        gaps = [[_states_against_gradients(path, a) for a in weights] for path in (descent, adam)]
        for kind, gap, of_adam in zip(("backward", "bdf"), *gaps, strict=True):
            yield "EXTRA-03", f"{kind} m={m}", gap, of_adam
    made = _path(_taylor(variant="published"))
    yield "EXTRA-15", "", _apart(made, _by_formula("bdf")), _apart(made, _by_formula("backward"))


def _states_against_gradients(path: np.ndarray, a) -> float:
    """Largest relative difference of sum_j a_j w_{n-j} and of that sum with -eta g for
    displacements.
    """
    tails = np.cumsum([float(x) for x in a])[:-1]
    states = sum(float(x) * path[len(a) - 1 - j : len(path) - j] for j, x in enumerate(a))
    gradients = CURVATURE * path[:-1]
    steps = sum(
        -LARGE * c * gradients[len(tails) - 1 - j : len(gradients) - j] for j, c in enumerate(tails)
    )
    return float(np.abs(states - steps).max() / np.abs(states).max())


def _by_formula(derivative: str) -> np.ndarray:
    """The page's update as it is printed, on the three newest gradients, from the fourth call on."""
    from replicate.sources.fabi2021extrapolation import _printed

    printed = _printed.UPDATE[derivative].subs(_printed.s, S).expand()
    c = [float(printed.coeff(g)) for g in _printed.g]
    w = START[0]
    gradients: list = []
    path = [w]
    for call in range(1, STEPS + 1):
        gradients = [CURVATURE * w, *gradients[:2]]
        w = w - ETA * gradients[0]
        if call > 3:
            w = w - ETA * sum(x * g for x, g in zip(c, gradients, strict=True))
        path.append(w)
    return np.array(path)


def _beginnings() -> Iterator[tuple]:
    """EXTRA-13, X-8, X-9: which calls extrapolate."""
    corrected = _extrapolating(_path(_taylor(variant="corrected")))
    published = _extrapolating(_path(_taylor(variant="published")))
    yield "EXTRA-13", "third order", corrected[0], np.nan
    share = len(published) / (STEPS - published[0] + 1)
    yield "X-8", "", share, np.nan
    yield "X-9", "", published[0], np.nan


def _extrapolating(path: np.ndarray) -> np.ndarray:
    """The calls, from 1, that moved the weights by more than the inner step."""
    more = np.diff(path, axis=0) + ETA * CURVATURE * path[:-1]
    return 1 + np.flatnonzero(np.abs(more).max(1) > ROUNDING * np.abs(path[:-1]).max(1))


def _assumption() -> Iterator[tuple]:
    """EXTRA-05 and X-7: when a displacement is -eta times a gradient, and when a gradient is a
    derivative.
    """
    from scipy import stats

    size = np.linalg.norm
    for name, slope in (
        ("quadratic", lambda w: w * np.linspace(0.05, 1, 20)),
        ("logistic", _logistic_slope),
    ):
        errors = []
        for eta in RATES:
            w = np.ones(20)
            worst = []
            for _ in range(20):
                before = w
                w = w - eta * slope(w)
                worst.append(size((w - before) / eta + slope(w)) / size(slope(w)))
            errors.append(np.mean(worst))
        yield "EXTRA-05", name, float(stats.spearmanr(RATES, errors).statistic), np.nan
    for m in (2, 3):
        # Above eta a = 1 a step changes the sign of the weight, and errors of two signs cancel.
        small = RATES[RATES <= 1]
        errors = [_derivative_error(m, eta) for eta in small]
        yield (
            "EXTRA-05",
            f"quadratic m={m}",
            float(stats.spearmanr(small, errors).statistic),
            np.nan,
        )
    path = _path(lambda theta: [optim.Adam(theta, lr=0.1)], rosenbrock, np.array([[-1.5, 1.0]]))
    steps = np.diff(path, axis=0)
    apart = size(steps + 0.1 * rosenbrock_slope(path[:-1]), axis=1)
    yield "X-7.adam", "rosenbrock", np.median(apart / size(steps, axis=1)), np.nan
    path = _path(_taylor())
    gradients = CURVATURE * path[3:-1]
    gap = np.diff(path, axis=0)[3:] + ETA * gradients
    yield (
        "X-7.interrupted",
        "",
        np.median(size(gap, axis=1) / size(ETA * gradients, axis=1)),
        np.nan,
    )


def _derivative_error(m: int, eta: float) -> float:
    """Relative error of the m-th difference of states over eta^m; of dw/dt = -a w the m-th
    derivative is (-a)^m w.
    """
    a = np.linspace(0.05, 1, 20)
    path = [(1 - eta * a) ** n for n in range(m + 1)]
    truth = (-a) ** m * path[-1]
    quotient = np.diff(path, n=m, axis=0)[0] / eta**m
    return float(np.linalg.norm(quotient - truth) / np.linalg.norm(truth))


def _logistic_slope(w: np.ndarray) -> np.ndarray:
    """Of log(1 + exp(-w)) + w^2 / 2, curvature 1 to 1.25, less 1/4 so that it does not exceed 1."""
    return -1 / (1 + np.exp(w)) + 0.75 * w


def rosenbrock_slope(x: np.ndarray) -> np.ndarray:
    """The gradient of (1 - x)^2 + 100 (y - x^2)^2, (..., 2)."""
    bend = x[..., 1] - x[..., 0] ** 2
    return np.stack([-2 * (1 - x[..., 0]) - 400 * x[..., 0] * bend, 200 * bend], axis=-1)


def _check_late_and_stale() -> Iterator[tuple]:
    """X-10: a gradient that first comes at call 10; X-11: a rate divided by ten. Gradients are
    ones.
    """
    early, late, *_ = models.mlp(2, (2,), 2, seed=0).parameters()
    optimizer = optim.TaylorExtrapolation(
        optim.SGD([early, late], lr=ETA), S * ETA, variant="published"
    )
    count = 0
    for call in range(1, 30):
        early.grad = _ones(early)
        late.grad = _ones(late) if call >= 10 else None
        count += call >= 10
        before = late.detach().clone()
        optimizer.step()
        if float((late.detach() - before).abs().max()) > 1.01 * ETA:
            break
    yield "X-10", "", count, np.nan
    optimizer.param_groups[0]["lr"] = ETA / 10
    before = early.detach().clone()
    optimizer.step()
    moved = float((early.detach() - before).abs().mean())
    yield "X-11", "", (moved - ETA / 10) / (S * ETA / 10), np.nan


def _gradients() -> Iterator[tuple]:
    """X-5 and X-13: how often a loss and its gradient are evaluated."""
    plain = _evaluations(lambda inner: inner)
    taylor = _evaluations(lambda inner: optim.TaylorExtrapolation(inner, S * ETA))
    yield "X-5", "", (taylor - plain) / 20, np.nan
    yield "X-13", "", taylor / plain, np.nan


def _evaluations(wrap: Callable) -> int:
    """How often 20 steps of SGD, wrapped, call their closure."""
    parameters = list(models.mlp(2, (2,), 2, seed=0).parameters())
    optimizer = wrap(optim.SGD(parameters, lr=ETA))
    calls = []

    def closure():
        calls.append(1)
        for parameter in parameters:
            parameter.grad = _ones(parameter)

    for _ in range(20):
        optimizer.step(closure)
    return len(calls)


def _relatives() -> Iterator[tuple]:
    """EXTRA-B4: first-order extrapolation is Lookahead with alpha above 1."""
    ahead = {"k": 1, "alpha": 1 + S, "extrapolate": True}
    lookahead = _path(lambda theta: [optim.Lookahead(optim.Adam(theta, lr=ETA), **ahead)], steps=50)
    first, third = (_path(_adam_extrapolated(order), steps=50) for order in (1, 3))
    yield "EXTRA-B4", "", _apart(first, lookahead), _apart(third, lookahead)


def _adam_extrapolated(order: int) -> Callable:
    return lambda theta: [
        optim.TaylorExtrapolation(optim.Adam(theta, lr=ETA), S * ETA, order=order)
    ]


def _apart(path: np.ndarray, other: np.ndarray) -> float:
    """Largest distance between two paths over the way from start to end."""
    return float(np.abs(path - other).max() / np.abs(path[-1] - path[0]).max())


def _ones(parameter):
    return parameter.detach() * 0 + 1
