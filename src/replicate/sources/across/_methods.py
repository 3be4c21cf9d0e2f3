"""The methods that are looked at side by side, each as a filter, and as an optimizer where it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from replicate import averaging, optim
from replicate.optim.stencils import step_coefficients
from replicate.problems import filters
from replicate.sources.across.settings import Settings


@dataclass(frozen=True, eq=False)
class Method:
    """A filter, and what makes its optimizer from parameters; None: an average beside SGD, whose
    weights no gradient is taken at.
    """

    filter: filters.Filter
    make: Callable | None = None


def list_methods(settings: Settings) -> dict[str, Method]:
    """Every method by its name in tables, plain SGD first."""
    return _list_optimizers(settings) | _list_averages(settings)


def _list_optimizers(settings: Settings) -> dict[str, Method]:
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
            filters.lookahead(k, alpha, beta, kept), _lookahead(k, alpha, kept, momentum=beta)
        )
    methods["Lookahead"] = Method(filters.lookahead(k, alpha), _lookahead(k, alpha, "maintain"))
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
