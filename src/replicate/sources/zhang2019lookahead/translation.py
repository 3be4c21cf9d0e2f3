"""Neural machine translation: training losses of a transformer under Adam, Lookahead around it and
AdaFactor, with and without warm-up.
"""

from __future__ import annotations

import pandas as pd

from replicate import datasets, runs
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import (
    _bleu,
    _rates,
    _text_operations,
    _translation,
    _tuning,
)
from replicate.sources.zhang2019lookahead._text_methods import (
    TRANSLATION_METHODS,
    list_points,
    name_arms,
)
from replicate.sources.zhang2019lookahead._text_settings import TranslationSettings

COPY = "source copied"  # arm: the test sentences as they are, BLEU's floor


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to judge: of every arm but COPY, at the rates that the other seeds choose."""
    return _rates.judge_at_best_rates(table[table.arm != COPY])


def operations(settings: TranslationSettings) -> float:
    """Multiplications and additions of all runs."""
    points = list_points(settings, TRANSLATION_METHODS)
    return _text_operations.count_translation(settings, points)


@experiment(
    fields={"arm": name_arms(TRANSLATION_METHODS), "regime": tuple(_tuning.GRID_MOVES)},
    metrics=_translation.TRANSLATION_METRICS,
    datasets=("multi30k",),
    needs_data=True,
    operations=operations,
    timed_step=_text_operations.make_translation_step,
    derive=derive,
    evidence={"multi30k": Evidence(38, "translation with and without warm-up, transformer base")},
    night={"multi30k": Evidence(54, "translation with and without warm-up, a small transformer")},
)
def translation(settings: TranslationSettings) -> pd.DataFrame:
    """The ends of all runs: columns seed, method, lr, weight_decay, arm, the metrics, the training
    curve, and `signature` of BLEU.

    The row of arm COPY has the BLEU of the source itself. Raises Missing where sentencepiece or
    sacrebleu is not installed.
    """
    source, references = (
        text[: settings.translated] for text in datasets.load(settings.dataset).test
    )
    floor = {"arm": COPY, "bleu": _bleu.score(source, references)}
    points = list_points(settings, TRANSLATION_METHODS)
    table = runs.each(_translation.translation_run, settings, points).table
    table = pd.concat([table, pd.DataFrame([floor])], ignore_index=True)
    return table.assign(weight_decay=0.0, signature=_bleu.sign(references))
