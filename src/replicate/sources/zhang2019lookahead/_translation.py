"""A run of a translator: one optimizer at one rate, with or without warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, models, training
from replicate.errors import Diverged
from replicate.sources.zhang2019lookahead._bleu import score
from replicate.sources.zhang2019lookahead._text_methods import (
    TRANSLATION_METHODS,
    forget_like_pulls,
)
from replicate.sources.zhang2019lookahead._text_settings import TranslationSettings

TRANSLATION_METRICS = ("early_loss", "late_loss", "seen_loss", "valid_loss", "bleu")
TWENTIETHS = tuple(f"loss_{percent}" for percent in range(5, 101, 5))  # training curve
SENTENCES_AT_ONCE = 250  # sentences that are measured or translated at once


@dataclass(frozen=True, eq=False)
class Bilingual:
    """Sentence pairs as pieces; seen: the first training pairs, as many as there are for
    validation.
    """

    pieces: datasets.Pieces
    train: datasets.Sentences
    valid: datasets.Sentences
    test: datasets.Sentences
    references: tuple[str, ...]

    @classmethod
    def load(cls, settings: TranslationSettings, device: str) -> Bilingual:
        """The settings' share of the pairs; pieces are learned from the training pairs alone."""
        pairs = datasets.load(settings.dataset)
        train = [text[: settings.sentences or None] for text in pairs.train]
        test = [text[: settings.translated] for text in pairs.test]
        pieces = datasets.Pieces([*train[0], *train[1]], settings.pieces)
        splits = [
            datasets.Sentences(*map(pieces.encode, texts), size, device)
            for texts, size in ((train, settings.batch), (pairs.valid, 1), (test, 1))
        ]
        return cls(pieces, *splits, test[1])


class TranslationRun:
    """A seed of a method at one rate. point: `seed`, `method`, `lr`."""

    def __init__(self, settings: TranslationSettings, point: dict, device: str):
        self.settings, self.seed = settings, point["seed"]
        self.method = TRANSLATION_METHODS[point["method"]]
        self.data = Bilingual.load(settings, device)
        self.model = models.translator(sizes(settings, len(self.data.pieces)), self.seed).to(device)
        self.optimizer = self.method.make(self.model.parameters(), settings, point["lr"])
        self.rate = schedule(settings, point["lr"], self.method.warmup)
        self.mean = self._make_mean()

    def _make_mean(self) -> averaging.KernelAverages | None:
        if not self.method.mean:
            return None
        kernel = averaging.ema(self.settings.steps, forget_like_pulls(self.settings))
        return averaging.KernelAverages({self.method.mean: kernel}, self.model)

    def train(self) -> np.ndarray:
        """The losses of all mini-batches. Raises Diverged."""
        steps = training.translation_steps(
            self.model, self.data.train, self.optimizer, self.rate, self.settings.smoothing, self.seed,
            range(self.settings.steps), [self.mean] if self.mean else [],
        )  # fmt: skip
        return np.array([loss for _, loss in steps])

    def measure_ends(self) -> Iterator[dict]:
        """What is seen of each arm's weights at the end."""
        with self.method.show(self.optimizer):
            yield self._measure()
        if self.mean:
            with training.lend(self.model, self.mean[self.method.mean]):
                yield self._measure()

    def _measure(self) -> dict[str, float]:
        """seen_loss, valid_loss: nats per piece of training and of validation pairs; bleu."""
        held = len(self.data.valid.source)
        valid = range(min(held, self.settings.measured or held))
        seen = range(min(len(valid), len(self.data.train.source)))
        return {
            "seen_loss": training.measure_pairs(
                self.model, self.data.train, seen, SENTENCES_AT_ONCE
            ),
            "valid_loss": training.measure_pairs(
                self.model, self.data.valid, valid, SENTENCES_AT_ONCE
            ),
            "bleu": score(self.translate_test(), self.data.references),
        }

    def translate_test(self) -> list[str]:
        """The model's translations of the test sentences, in their order."""
        source = self.data.test.source
        order = sorted(range(len(source)), key=lambda row: len(source[row]))
        translations = {}
        for first in range(0, len(order), SENTENCES_AT_ONCE):
            rows = order[first : first + SENTENCES_AT_ONCE]
            pieces = training.translate(
                self.model,
                self.data.test.gather(rows)[0],
                datasets.PIECE_MARKS.begin,
                datasets.PIECE_MARKS.end,
                self.settings.longest,
            )
            translations |= dict(zip(rows, self.data.pieces.decode(pieces), strict=True))
        return [translations[row] for row in range(len(source))]


def sizes(settings: TranslationSettings, pieces: int) -> models.Sizes:
    """The network of the settings."""
    return models.Sizes(
        pieces, settings.width, settings.heads, settings.layers, settings.feed_forward, settings.dropout,
        settings.norm_first, datasets.PIECE_MARKS.pad,
    )  # fmt: skip


def schedule(settings: TranslationSettings, peak: float, warmup: bool) -> Callable[[int], float]:
    """rate_t = peak min((t + 1) / W, sqrt(W / (t + 1))), W `warmup`: Vaswani et al. 2017, equation 3.

    Without warm-up the rate has its peak from the first step to the W-th, and then falls alike.
    """
    late = settings.warmup

    def rate(step: int) -> float:
        rise = min(1.0, (step + 1) / late) if warmup else 1.0
        return peak * rise * min(1.0, math.sqrt(late / (step + 1)))

    return rate


def translation_run(
    settings: TranslationSettings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one point: a row an arm, columns arm, TRANSLATION_METRICS and TWENTIETHS.

    early_loss, late_loss: mean loss of the mini-batches in the settings' shares of the run, as they are
    trained on: under dropout, labels smoothed. A run that diverges has NaN.
    """
    run = TranslationRun(settings, point, device)
    arms = [arm for arm in (point["method"], run.method.mean) if arm]
    try:
        losses = run.train()
    except Diverged:
        nothing = dict.fromkeys((*TRANSLATION_METRICS, *TWENTIETHS), math.nan)
        return pd.DataFrame([{"arm": arm} | nothing for arm in arms])
    curve = [float(piece.mean()) for piece in np.array_split(losses, len(TWENTIETHS))]
    seen = {
        "early_loss": mean_within(losses, settings.early),
        "late_loss": mean_within(losses, settings.late),
    }
    seen |= dict(zip(TWENTIETHS, curve, strict=True))
    ends = run.measure_ends()
    return pd.DataFrame([{"arm": arm} | seen | end for arm, end in zip(arms, ends, strict=True)])


def mean_within(losses: np.ndarray, shares: tuple[float, float]) -> float:
    """The mean loss from one share of the run to another."""
    begin, end = (round(share * len(losses)) for share in shares)
    return float(losses[begin:end].mean())
