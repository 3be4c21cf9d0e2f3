"""The optimizers that are compared on text, and the weights that each is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from replicate import optim
from replicate.sources.zhang2019lookahead._text_settings import (
    LanguageSettings,
    TranslationSettings,
)


@dataclass(frozen=True)
class TextMethod:
    """make: (parameters, settings, rate) -> optimizer. rates: the name of its grid in the settings.

    lookahead: whether it is judged by slow weights. mean: an arm that is a running mean of its
    iterates, which is only looked at; "" for none. tail: whether it is judged by the mean of its
    iterates from a moment on that validation losses choose. warmup: whether its rate rises first.
    """

    make: Callable
    rates: str
    lookahead: bool = False
    mean: str = ""
    tail: bool = False
    warmup: bool = False

    def show(self, optimizer) -> AbstractContextManager:
        """The optimizer's weights that it is judged by, in the model's place."""
        return optimizer.slow_weights() if self.lookahead else nullcontext()


def make_sgd(parameters: Iterable, settings: LanguageSettings, lr: float):
    """SGD without momentum, as a replication reports it of the paper."""
    return optim.SGD(parameters, lr=lr, weight_decay=settings.weight_decay)


def make_adam(parameters: Iterable, settings: LanguageSettings, lr: float):
    """Adam with its own betas, as a replication reports it of the paper."""
    return optim.Adam(parameters, lr=lr, weight_decay=settings.weight_decay)


def make_translators_adam(parameters: Iterable, settings: TranslationSettings, lr: float):
    """Adam as Vaswani et al. 2017 have it."""
    betas = (0.9, settings.beta_2)
    return optim.Adam(parameters, lr=lr, betas=betas, eps=settings.epsilon)


def make_adafactor(parameters: Iterable, settings: TranslationSettings, lr: float):
    """AdaFactor without momentum, with steps relative to the weights."""
    return optim.Adafactor(parameters, lr=lr, weight_decay=0.0)


def wrap(make: Callable) -> Callable:
    """Lookahead around what `make` makes."""

    def make_lookahead(parameters: Iterable, settings, lr: float):
        return optim.Lookahead(make(parameters, settings, lr), settings.k, settings.alpha)

    return make_lookahead


LANGUAGE_METHODS = {
    "sgd": TextMethod(make_sgd, "sgd_rates", mean="sgd-ema"),
    "lookahead-sgd": TextMethod(wrap(make_sgd), "sgd_rates", lookahead=True),
    "adam": TextMethod(make_adam, "adam_rates", mean="adam-ema"),
    "lookahead-adam": TextMethod(wrap(make_adam), "adam_rates", lookahead=True),
    "asgd": TextMethod(make_sgd, "sgd_rates", tail=True),
}
TRANSLATION_METHODS = {
    "adam-warmup": TextMethod(make_translators_adam, "adam_rates", warmup=True),
    "adam": TextMethod(make_translators_adam, "adam_rates", mean="adam-ema"),
    "lookahead-warmup": TextMethod(
        wrap(make_translators_adam), "adam_rates", lookahead=True, warmup=True
    ),
    "lookahead": TextMethod(wrap(make_translators_adam), "adam_rates", lookahead=True),
    "adafactor-warmup": TextMethod(make_adafactor, "adafactor_rates", warmup=True),
}


def list_points(settings, methods: dict[str, TextMethod]) -> list[dict]:
    """A point a seed, method and rate of the method's grid."""
    return [
        {"seed": seed, "method": name, "lr": lr}
        for seed in settings.seeds
        for name, method in methods.items()
        for lr in getattr(settings, method.rates)
    ]


def name_arms(methods: dict[str, TextMethod]) -> tuple[str, ...]:
    """Every arm: the methods, and means that are only looked at."""
    return tuple(arm for name, method in methods.items() for arm in (name, method.mean) if arm)


def forget_like_pulls(settings) -> float:
    """The share that a running mean takes of every iterate, so that it forgets in k steps what a pull
    leaves of the slow weights, 1 - alpha.
    """
    return 1 - (1 - settings.alpha) ** (1 / settings.k)
