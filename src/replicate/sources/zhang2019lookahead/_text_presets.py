"""What each preset changes in the settings of the experiments on text."""

from collections.abc import Mapping
from dataclasses import asdict, replace

from replicate.sources.protocol import THE_SOURCES
from replicate.sources.zhang2019lookahead._text_settings import (
    LanguageSettings,
    TranslationSettings,
)

LANGUAGE = LanguageSettings()
TRANSLATION = TranslationSettings()

# What a CPU has time for. Batch 20 and windows of 35 words, where the paper has 80 and 70: as many
# words an epoch in four times as many steps.
SMALL_LSTM = replace(
    LANGUAGE,
    embedding=100,
    hidden=200,
    layers=2,
    batch=20,
    bptt=35,
    epochs=4,
    checks=4,
    patience=2,
    check_tokens=16_000,
    sgd_rates=(10.0, 20.0, 40.0),
    adam_rates=(0.001, 0.003, 0.01),
    seeds=tuple(range(5)),
)
SMALL_TRANSFORMER = replace(
    TRANSLATION,
    width=128,
    heads=4,
    layers=2,
    feed_forward=256,
    steps=1130,  # 5 epochs
    warmup=90,  # the same share of the run as 4000 of 50 000
    adam_rates=(0.001, 0.002, 0.004),
    adafactor_rates=(0.01, 0.02, 0.04),
    seeds=tuple(range(5)),
)

# What ten minutes of one core have time for: far less than the source's own, in width, words and steps.
# The grids have the lowest validation losses of seed 99 inside, which was looked at once for that, in
# runs of 40 000 words and of 160 steps.
SHORT_LSTM = replace(
    SMALL_LSTM,
    embedding=64,
    hidden=64,
    batch=10,
    bptt=20,
    epochs=1,
    tokens=30_000,
    held_tokens=10_000,
    check_tokens=2000,
    adam_rates=(0.01, 0.03, 0.1),
)
SHORT_TRANSFORMER = replace(
    SMALL_TRANSFORMER,
    width=64,
    heads=2,
    layers=1,
    feed_forward=128,
    batch=32,
    sentences=3520,
    pieces=2000,
    steps=110,  # 1 epoch
    warmup=9,  # the same share of the run
    measured=200,
    translated=50,
    adam_rates=(0.005, 0.015, 0.045),
    adafactor_rates=(0.03, 0.1, 0.3),
)


def shrink(
    settings: LanguageSettings | TranslationSettings,
) -> LanguageSettings | TranslationSettings:
    """The settings at a size at which every line runs once."""
    few = {"seeds": (0, 1), "adam_rates": settings.adam_rates[:1]}
    if isinstance(settings, LanguageSettings):
        return replace(
            settings, **few, sgd_rates=settings.sgd_rates[:1], embedding=6, hidden=8, layers=2, batch=4,
            bptt=10, epochs=2, checks=2, tokens=200, held_tokens=100, check_tokens=100, nonmonotone=0,
        )  # fmt: skip
    return replace(
        settings, **few, adafactor_rates=settings.adafactor_rates[:1], width=8, heads=2, layers=1,
        feed_forward=16, batch=16, sentences=80, pieces=200, steps=20, warmup=2, measured=20, translated=4,
        longest=5,
    )  # fmt: skip


TEXT: dict[str, dict[str, LanguageSettings | TranslationSettings]] = {
    "smoke": {"ptb": shrink(SHORT_LSTM), "multi30k": shrink(SHORT_TRANSFORMER)},
    "cpu": {"ptb": SHORT_LSTM, "multi30k": SHORT_TRANSFORMER},
    "night": {"ptb": SMALL_LSTM, "multi30k": SMALL_TRANSFORMER},
    "gpu": {
        "ptb": replace(
            LANGUAGE, epochs=60, patience=3, sgd_rates=(10.0, 20.0, 40.0),
            adam_rates=(0.0005, 0.001, 0.003), seeds=tuple(range(5)),
        ),
        "multi30k": replace(
            TRANSLATION, layers=3, width=256, heads=8, feed_forward=1024, steps=9040, warmup=723,
            seeds=tuple(range(5)),
        ),
    },
    "paper": {"ptb": LANGUAGE, "multi30k": TRANSLATION},
}  # fmt: skip

OF_THE_TABLE = ("embedding", "hidden", "layers", "batch", "bptt", "epochs", "tokens")


def name_setting(entry: str, settings: Mapping[str, object]) -> str:
    """ "the source's", or what stands in for it. settings: fields by name, as provenance keeps
    them.
    """
    if isinstance(TEXT["paper"][entry], LanguageSettings):
        paper = asdict(LANGUAGE)
        if all(settings[name] == paper[name] for name in OF_THE_TABLE):
            return THE_SOURCES
        layers = f"{settings['layers']} x {settings['hidden']}"
        part = f"{tokens} words of " if (tokens := settings["tokens"]) else ""
        return f"stand-in: an AWD-LSTM of {layers} on {part}{settings['dataset']}"
    part = f"{pairs} pairs of " if (pairs := settings["sentences"]) else ""
    return f"stand-in: a transformer of width {settings['width']} on {part}{settings['dataset']}"
