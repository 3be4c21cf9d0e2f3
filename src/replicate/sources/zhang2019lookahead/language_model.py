"""Penn Treebank: perplexities of an AWD-LSTM under SGD, Adam, Lookahead around both, and ASGD."""

from __future__ import annotations

import pandas as pd

from replicate import runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _language, _rates, _text_operations, _tuning
from replicate.sources.zhang2019lookahead._text_methods import (
    LANGUAGE_METHODS,
    list_points,
    name_arms,
)
from replicate.sources.zhang2019lookahead._text_settings import LanguageSettings


def operations(settings: LanguageSettings) -> float:
    """Multiplications and additions of all runs."""
    points = list_points(settings, LANGUAGE_METHODS)
    return _text_operations.count_language(settings, points)


@experiment(
    fields={"arm": name_arms(LANGUAGE_METHODS), "regime": tuple(_tuning.GRID_MOVES)},
    metrics=_language.LANGUAGE_METRICS,
    datasets=("ptb",),
    needs_data=True,
    operations=operations,
    timed_step=_text_operations.make_language_step,
    derive=_rates.judge_at_best_rates,
    evidence={"ptb": Evidence(40, "the Penn Treebank's table, an AWD-LSTM of three layers")},
    night={"ptb": Evidence(56, "the Penn Treebank's table, a small AWD-LSTM")},
)
def language_model(settings: LanguageSettings) -> pd.DataFrame:
    """The ends of all runs: columns seed, method, lr, weight_decay, arm, the metrics (nats per word,
    the logarithm of a perplexity), the training curve, and `averaged`.

    Methods of one inner optimizer have the same grid of rates.
    """
    points = list_points(settings, LANGUAGE_METHODS)
    table = runs.each(_language.language_run, settings, points).table
    return table.assign(weight_decay=settings.weight_decay)
