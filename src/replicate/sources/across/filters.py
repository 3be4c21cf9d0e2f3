"""Every method as a filter on past gradients: what is the same, what is let through, what stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate import problems
from replicate.averaging import kernel_weights
from replicate.sources.across import _methods
from replicate.sources.across._methods import Method
from replicate.sources.across.presets import ALGEBRA
from replicate.sources.across.settings import Settings
from replicate.sources.protocol import experiment, keep_claims

IMPULSE_STEPS = 30  # steps of an impulse that are drawn
WARM_CYCLES = 12  # of Lookahead, without a gradient before a pulse
COMPARED_STEPS = 60  # steps of two impulses that are held against each other
FREQUENCIES = np.linspace(0.0, np.pi, 65)
RATES_TIMES_CURVATURE = np.geomspace(1e-4, 1.0, 33)  # x, rate times curvature of SGD
SLOW_X, FAST_X = 1e-4, 0.5  # x of a slow and of a fast direction
WITH_MOMENTUM = (
    "momentum",
    "Nesterov",
    "Lookahead, momentum, maintain",
    "Lookahead, momentum, reset",
    "Lookahead, momentum, interpolate",
)
MEANS_BESIDE = ("average, swa", "average, two-point", "average, ema", "running mean")
AMPLIFIES = ("extrapolation, second order", "extrapolation, third order", "Lookahead")
FED_BACK = (*WITH_MOMENTUM, "extrapolation, first order", *AMPLIFIES)
WITHOUT_MOMENTUM = ("extrapolation, first order", *AMPLIFIES, *MEANS_BESIDE)
DAMPS = ("momentum", "Nesterov", "average, swa", "average, ema", "running mean")
TABLE_COLUMNS = ["claim", "case", "value", "control", "what", "arm", "at"]


@experiment(
    fields={"claim": str, "case": str},
    metrics=("value", "control"),
    settings=ALGEBRA,
    derive=keep_claims,
    unbounded=("value",),  # the noise of a method that no pace keeps stable
)
def filters(settings: Settings) -> pd.DataFrame:
    """What is judged, and what is drawn: claim, case, value, control, what, arm (a method), at.

    what: "claim", a row to judge; "impulse": how far a displacement of 1 has moved the weights `at`
    steps later, mean over the phases of a cycle; "response": |sum_j a_j exp(-i at j)| over the pace;
    "noise": variance at SGD's pace over SGD's, where SGD has x = at; "pace", "lag", "edge": how far a constant
    gradient moves a step, the mean age of the gradients in a step, the largest stable x.
    """
    methods = _methods.list_methods(settings)
    rows = [("", "", value, np.nan, *words) for words, value in _describe(methods)]
    rows += [(*names, *values, "claim", "", np.nan) for names, values in _judge(settings, methods)]
    return pd.DataFrame(rows, columns=TABLE_COLUMNS)


def _describe(methods: dict[str, Method]) -> Iterator[tuple[tuple, float]]:
    """((what, arm, at), value) of everything that is drawn."""
    for name, method in methods.items():
        machine = method.filter
        phases = range(machine.phases)
        mean = np.mean([machine.impulse(IMPULSE_STEPS, phase) for phase in phases], axis=0)
        for j, moved in enumerate(mean):
            yield ("impulse", name, float(j)), moved
        for omega, passed in zip(FREQUENCIES, np.abs(machine.response(FREQUENCIES)), strict=True):
            yield ("response", name, omega), passed / machine.pace
        for x in RATES_TIMES_CURVATURE:
            yield ("noise", name, x), machine.noise_at_pace(x)
        for what in ("pace", "lag"):
            yield (what, name, np.nan), getattr(machine, what)
        yield ("edge", name, np.nan), machine.largest_stable()


def _judge(settings: Settings, methods: dict[str, Method]) -> Iterator[tuple[tuple, tuple]]:
    """((claim, case), (value, control)) of everything that is judged."""
    yield ("ACROSS-1", ""), _hold_against_optimizers(settings, methods)
    yield from _pair(settings, methods)
    yield from _hold_against_schedules(settings)
    yield ("ACROSS-7", ""), _look_at_pulls(settings)
    machines = {name: method.filter for name, method in methods.items()}
    slow = _slow_mean().noise_at_pace(SLOW_X)
    noise = {name: machines[name].noise_at_pace(SLOW_X) for name in FED_BACK}
    for name in FED_BACK:
        yield ("ACROSS-8", name), (noise[name], slow)
    reset = "Lookahead, momentum, reset"
    yield ("ACROSS-13", ""), (noise[reset] / _spread_within_cycle(machines[reset]), noise[reset])
    for claim, names, measure, beside in (
        ("ACROSS-9", WITH_MOMENTUM, _stretch, "SGD"),
        ("ACROSS-10", WITHOUT_MOMENTUM, _stretch, "momentum"),
        ("ACROSS-11", DAMPS, _pass_fastest, "SGD"),
        ("ACROSS-12", AMPLIFIES, _pass_fastest, "momentum"),
    ):
        for name in names:
            yield (claim, name), (measure(machines[name]), measure(machines[beside]))


def _hold_against_optimizers(settings: Settings, methods: dict) -> tuple[float, float]:
    """The largest difference between impulse and optimizer, and the same where SGD's answer stands
    for every optimizer's.
    """
    warm = WARM_CYCLES * settings.k
    plain = problems.answer_pulse(methods["SGD"].make, COMPARED_STEPS, warm)
    away = [0.0]
    control = [0.0]
    for method in methods.values():
        if method.make is not None:
            for phase in range(method.filter.phases):
                impulse = method.filter.impulse(COMPARED_STEPS, phase)
                answer = problems.answer_pulse(method.make, COMPARED_STEPS, warm + phase)
                away.append(_relate(impulse, answer))
                control.append(_relate(impulse, plain))
    return max(away), max(control)


def _pair(settings: Settings, methods: dict) -> Iterator[tuple[tuple, tuple]]:
    """Two methods that are the same on gradients which do not depend on the weights."""
    machines = problems.filters
    plain = methods["SGD"].filter
    ball = methods["momentum"].filter
    first, third = (methods[f"extrapolation, {order} order"].filter for order in ("first", "third"))
    gradual = 1 - settings.beta
    mean = machines.running_mean(plain, gradual)
    on_quadratic = mean.variance(FAST_X) / (gradual**2 * ball.variance(gradual * FAST_X)) - 1
    yield ("ACROSS-2", ""), (machines.difference(mean, ball, gradual), abs(on_quadratic))
    ahead = machines.look_ahead(ball, 1, settings.beta)
    fast = methods["Nesterov"].filter
    yield ("ACROSS-3", ""), (machines.difference(fast, ahead), machines.difference(fast, ball))
    longer = 1 + settings.s
    pull = machines.lookahead(1, longer)
    yield (
        ("ACROSS-4", ""),
        tuple(machines.difference(each, plain, longer) for each in (first, third)),
    )
    yield ("ACROSS-5", ""), tuple(machines.difference(each, pull) for each in (first, third))


def _hold_against_schedules(settings: Settings) -> Iterator[tuple[tuple, tuple]]:
    """What each average leaves of the last gradients, beside its own schedule and another's."""
    kernels = _methods.kernels(settings)
    names = list(kernels)
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        mean = problems.filters.average(problems.filters.sgd(), kernels[name])
        impulse = mean.impulse(settings.window)
        schedules = (kernel_weights(kernels[each])[::-1] for each in (name, other))
        yield ("ACROSS-6", name), tuple(_relate(impulse, schedule) for schedule in schedules)


def _look_at_pulls(settings: Settings) -> tuple[float, float]:
    """How far Lookahead's impulses at its pulls are from alpha, and a step before its pulls."""
    machine = problems.filters.lookahead(settings.k, settings.alpha)
    away = ([], [])
    for phase in range(settings.k):
        moved = machine.impulse(COMPARED_STEPS, phase)
        after = (phase + 1 + np.arange(COMPARED_STEPS)) % settings.k  # steps since the last pull
        for place, since in zip(away, (0, settings.k - 1), strict=True):
            place += list(np.abs(moved[after == since] - settings.alpha))
    return max(away[0]), max(away[1])


def _relate(impulse: np.ndarray, other: np.ndarray) -> float:
    """The largest difference over the largest of the first."""
    return float(np.abs(impulse - other).max() / np.abs(impulse).max())


def _slow_mean():
    """A mean over ten times the time in which a slow direction decays."""
    return problems.filters.running_mean(problems.filters.sgd(), SLOW_X / 10)


def _spread_within_cycle(machine) -> float:
    """mean c_p^2 / (mean c_p)^2, c_p: how far a displacement at phase p has moved the weights in the
    end.
    """
    ends = np.array([machine.impulse(COMPARED_STEPS, phase)[-1] for phase in range(machine.phases)])
    return float((ends**2).mean() / ends.mean() ** 2)


def _stretch(machine) -> float:
    """The largest pace at which a method stands, over SGD's, which is 2."""
    return machine.largest_stable() * machine.pace / 2


def _pass_fastest(machine) -> float:
    """How much of a gradient whose sign changes every step is let through, over the pace."""
    return float(np.abs(machine.response([np.pi])[0])) / machine.pace
