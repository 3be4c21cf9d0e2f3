"""Multiplications and additions of runs on text, and the steps at whose rate a machine makes them.

Matrix products alone are counted: forward 2 x weights a token, with attention's own products of
tokens with tokens; a step of training is three times its forward pass.
"""

import functools
from collections.abc import Callable, Iterable

import numpy as np

from replicate import datasets, models, training
from replicate.sources.zhang2019lookahead import _language, _translation
from replicate.sources.zhang2019lookahead._text_methods import (
    LANGUAGE_METHODS,
    TRANSLATION_METHODS,
)
from replicate.sources.zhang2019lookahead._text_settings import (
    LanguageSettings,
    TranslationSettings,
)

TRAINED = 3  # a forward pass, the gradient of the inputs and that of the weights, alike
GATES = 4  # of an LSTM
# Pieces of a sentence of Multi30k with its marks, filled up within a mini-batch: means of 60
# mini-batches of preset night.
SOURCE_LENGTH, TARGET_LENGTH = 27, 21


def count_language(settings: LanguageSettings, points: Iterable[dict]) -> float:
    """Those of `language_run` at every point: all windows, a look at each check, and validation and
    test text at the end, for the running mean too.
    """
    described = datasets.describe(settings.dataset)
    words, held = described.tokens[0], list(described.tokens[1:])
    words = min(settings.tokens or words, words)
    held = [min(settings.held_tokens or size, size) for size in held]
    looked_at = min(settings.check_tokens or held[0], held[0])
    read = settings.epochs * (TRAINED * words + settings.checks * looked_at)
    arms = (1 + bool(LANGUAGE_METHODS[point["method"]].mean) for point in points)
    return per_word(settings) * sum(read + count * sum(held) for count in arms)


def per_word(settings: LanguageSettings) -> float:
    """Those of a forward pass over a word."""
    types = datasets.describe(settings.dataset).types
    widths = _language.shape(settings, types).widths
    layers = sum(GATES * units * (inputs + units) for inputs, units in widths)
    return 2.0 * (layers + settings.embedding * types)


def count_translation(settings: TranslationSettings, points: Iterable[dict]) -> float:
    """Those of `translation_run` at every point: all steps, two losses and the translations at the
    end, of which each is taken to be as long as it may be.
    """
    held = datasets.describe(settings.dataset).sentences[1]
    forward = count_encoder(settings) + count_decoder(settings, TARGET_LENGTH)
    trained = TRAINED * settings.steps * settings.batch * forward
    losses = 2 * min(settings.measured or held, held) * forward
    pieces = range(1, settings.longest + 1)
    sentence = count_encoder(settings) + sum(count_decoder(settings, have) for have in pieces)
    looked_at = losses + settings.translated * sentence
    arms = (1 + bool(TRANSLATION_METHODS[point["method"]].mean) for point in points)
    return sum(trained + count * looked_at for count in arms)


def count_encoder(settings: TranslationSettings) -> float:
    """Those of reading a source sentence."""
    width, length = settings.width, SOURCE_LENGTH
    weights = 4 * width**2 + 2 * width * settings.feed_forward
    return settings.layers * (2.0 * length * weights + 4 * length**2 * width)


def count_decoder(settings: TranslationSettings, length: int) -> float:
    """Those of the logits behind every piece of a target of this length."""
    width = settings.width
    weights = 6 * width**2 + 2 * width * settings.feed_forward  # of a target's piece
    memory = 2 * width**2  # keys and values of a source's piece
    looks = 4 * width * length * (length + SOURCE_LENGTH)
    layer = 2.0 * length * weights + 2 * SOURCE_LENGTH * memory + looks
    return settings.layers * layer + 2 * length * width * settings.pieces


def make_language_step(settings: LanguageSettings, device: str) -> tuple[Callable, float]:
    """(a step on words in their order in the vocabulary, its operations)."""
    types = datasets.describe(settings.dataset).types
    model = models.awd_lstm(_language.shape(settings, types), 0).to(device)
    words = np.arange((settings.bptt + 1) * settings.batch) % types
    columns = datasets.fold(words, settings.batch, device)
    (lowest, *_) = settings.sgd_rates
    optimizer = LANGUAGE_METHODS["sgd"].make(model.parameters(), settings, lowest)
    penalise = functools.partial(
        models.penalise, activation=settings.activation, change=settings.change
    )
    reader = training.TextReader(
        model, columns, optimizer, penalise, settings.bptt, settings.clip, 0
    )
    operations = TRAINED * settings.bptt * settings.batch * per_word(settings)
    return lambda: reader.read([(0, settings.bptt)], lowest), operations


def make_translation_step(settings: TranslationSettings, device: str) -> tuple[Callable, float]:
    """(a step on sentences of the mean length, all alike, its operations)."""
    model = models.translator(_translation.sizes(settings, settings.pieces), 0).to(device)
    (lowest, *_) = settings.adam_rates
    optimizer = TRANSLATION_METHODS["adam"].make(model.parameters(), settings, lowest)
    source, target = (
        settings.batch * [list(range(1, length))] for length in (SOURCE_LENGTH, TARGET_LENGTH)
    )  # and their marks
    data = datasets.Sentences(source, target, settings.batch, device)
    steps = training.translation_steps(
        model, data, optimizer, lambda _: lowest, settings.smoothing, 0, range(settings.steps)
    )
    forward = count_encoder(settings) + count_decoder(settings, TARGET_LENGTH)
    return lambda: next(steps), TRAINED * settings.batch * forward
