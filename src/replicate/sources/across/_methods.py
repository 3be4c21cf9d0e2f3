"""The methods that are looked at side by side, each as a filter, and as an optimizer where it is one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from replicate import averaging, optim
from replicate.optim.stencils import step_coefficients
from replicate.problems import filters
from replicate.sources.across._task import Task
from replicate.sources.across.settings import Settings


def show_last(optimizer) -> AbstractContextManager:
    """The weights that the model has."""
    return nullcontext()


def show_slow(optimizer) -> AbstractContextManager:
    """The slow weights in the model's place."""
    return optimizer.slow_weights()


@dataclass(frozen=True, eq=False)
class Method:
    """A filter, and what makes its optimizer, at rate 1, from parameters; None: an average beside
    SGD, whose weights no gradient is taken at. show: what puts the weights that it is judged by on
    a task into the model.
    """

    filter: filters.Filter
    make: Callable | None = None
    show: Callable[[object], AbstractContextManager] = show_last


def list_methods(settings: Settings) -> dict[str, Method]:
    """Every method by its name in tables, plain SGD first."""
    return list_optimizers(settings) | _list_averages(settings)


def list_optimizers(settings: Settings | Task) -> dict[str, Method]:
    """The methods that have an optimizer, plain SGD first."""
    beta = settings.beta
    s = settings.s
    k = settings.k
    alpha = settings.alpha
    methods = {
        "SGD": Method(filters.sgd(), _sgd()),
        "momentum": Method(filters.heavy_ball(beta), _sgd(momentum=beta)),
        "Nesterov": Method(filters.nesterov(beta), _sgd(momentum=beta, nesterov=True)),
    }
    for order, name in enumerate(("first order", "second order", "third order"), 1):
        methods[f"extrapolation, {name}"] = Method(
            filters.extrapolation(step_coefficients(s, order)), _extrapolation(s, order)
        )
    for kept in filters.KEPT_STATES:
        methods[f"Lookahead, momentum, {kept}"] = Method(
            filters.lookahead(k, alpha, beta, kept),
            _lookahead(k, alpha, kept, momentum=beta),
            show_slow,
        )
    methods["Lookahead"] = Method(
        filters.lookahead(k, alpha), _lookahead(k, alpha, "maintain"), show_slow
    )
    return methods


def _list_averages(settings: Settings) -> dict[str, Method]:
    plain = filters.sgd()
    means = {
        f"average, {name}": filters.average(plain, mu) for name, mu in kernels(settings).items()
    }
    means["running mean"] = filters.running_mean(plain, settings.delta)
    return {name: Method(mean) for name, mean in means.items()}


def kernels(settings: Settings) -> dict:
    """Table 1's kernels over the window, (window + 1,) each."""
    k = settings.window
    return {"swa": averaging.swa(k), "two-point": averaging.two_point(k), "ema": averaging.ema(k)}


def _sgd(**words) -> Callable:
    return lambda parameters: optim.SGD(parameters, lr=1.0, **words)


def _extrapolation(s: float, order: int) -> Callable:
    return lambda parameters: optim.TaylorExtrapolation(_sgd()(parameters), dt=s, order=order)


def _lookahead(k: int, alpha: float, kept: str, **words) -> Callable:
    return lambda parameters: optim.Lookahead(
        _sgd(**words)(parameters), k=k, alpha=alpha, inner_state=kept
    )
