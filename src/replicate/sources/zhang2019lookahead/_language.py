"""A run of a language model: one optimizer at one rate, checked on validation text on its way."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, datasets, models, training
from replicate.errors import Diverged
from replicate.sources.zhang2019lookahead._text_methods import LANGUAGE_METHODS, forget_like_pulls
from replicate.sources.zhang2019lookahead._text_settings import LanguageSettings

LANGUAGE_METRICS = ("train_loss", "early_loss", "valid_loss", "test_loss")
CURVE_TENTHS = tuple(f"loss_{percent}" for percent in range(10, 101, 10))  # training curve
EARLY_CHECKS = (
    0.3  # share of the checks whose training loss is the early one; the images' first drop
)


@dataclass(frozen=True, eq=False)
class Text:
    """The three splits as columns on the device, (rows, batch) each; `check` is read at checks."""

    words: int
    train: object
    valid: object
    check: object
    test: object

    @classmethod
    def load(cls, settings: LanguageSettings, device: str) -> Text:
        """The settings' share of the text."""
        corpus = datasets.load(settings.dataset)
        train = corpus.train[: settings.tokens or None]
        valid, test = (text[: settings.held_tokens or None] for text in (corpus.valid, corpus.test))
        fold = functools.partial(datasets.fold, device=device)
        measured = {"valid": valid, "check": valid[: settings.check_tokens or None], "test": test}
        columns = {name: fold(text, settings.measure_batch) for name, text in measured.items()}
        return cls(len(corpus.words), fold(train, settings.batch), **columns)


class LanguageRun:
    """A seed of a method at one rate. point: `seed`, `method`, `lr`."""

    def __init__(self, settings: LanguageSettings, point: dict, device: str):
        self.settings, self.seed, self.rate = settings, point["seed"], point["lr"]
        self.method = LANGUAGE_METHODS[point["method"]]
        self.text = Text.load(settings, device)
        self.model = models.awd_lstm(shape(settings, self.text.words), self.seed).to(device)
        self.optimizer = self.method.make(self.model.parameters(), settings, self.rate)
        penalise = functools.partial(
            models.penalise, activation=settings.activation, change=settings.change
        )
        self.reader = training.TextReader(
            self.model, self.text.train, self.optimizer, penalise, settings.bptt, settings.clip, self.seed
        )  # fmt: skip
        self.pieces = list(cut_epochs(settings, len(self.text.train), self.seed))
        self.tail = averaging.TailMean()
        self.mean = self._make_mean()
        self.averages = [self.tail] if self.method.tail else []
        self.averages += [self.mean] if self.mean else []

    def _make_mean(self) -> averaging.KernelAverages | None:
        """The running mean of all iterates, where the method has that arm."""
        if not self.method.mean:
            return None
        steps = sum(len(windows) for _, windows in self.pieces)
        kernel = averaging.ema(steps, forget_like_pulls(self.settings))
        return averaging.KernelAverages({self.method.mean: kernel}, self.model)

    def train(self) -> list[float]:
        """The mean training loss of the windows up to each check. Raises Diverged."""
        halve = training.Halve(self.settings.patience, self.settings.factor)
        trigger = training.NonMonotone(self.settings.nonmonotone)
        losses, scale = [], 1.0
        for begins, windows in self.pieces:
            if begins:
                self.reader.begin()
            losses.append(self.reader.read(windows, scale * self.rate, self.averages))
            loss = self.measure("check")
            if not math.isfinite(loss):
                raise Diverged(f"validation loss became {loss}", self.reader.step)
            if not self.method.tail:
                scale = halve.rescale(loss)
            elif trigger.fires(loss):
                self.tail.begin()
        return losses

    def measure(self, name: str) -> float:
        """Nats per word of a split at the weights that the method is judged by."""
        columns = getattr(self.text, name)
        with self._show():
            return training.measure_text(self.model, columns, self.settings.bptt)

    def _show(self):
        if self.tail.weights is not None:
            return training.lend(self.model, self.tail.weights)
        return self.method.show(self.optimizer)

    def measure_ends(self) -> Iterator[dict]:
        """Validation and test loss of each arm."""
        splits = ("valid", "test")
        yield {f"{split}_loss": self.measure(split) for split in splits}
        if self.mean:
            with training.lend(self.model, self.mean[self.method.mean]):
                yield {
                    f"{split}_loss": training.measure_text(
                        self.model, getattr(self.text, split), self.settings.bptt
                    )
                    for split in splits
                }


def shape(settings: LanguageSettings, words: int) -> models.Shape:
    """The network of the settings."""
    return models.Shape(
        words, settings.embedding, settings.hidden, settings.layers, settings.word_drop, settings.input_drop,
        settings.hidden_drop, settings.output_drop, settings.weight_drop,
    )  # fmt: skip


def cut_epochs(
    settings: LanguageSettings, rows: int, seed: int
) -> Iterator[tuple[bool, list[tuple[int, int]]]]:
    """(whether an epoch begins, windows up to the next check), of the whole run."""
    for epoch in range(settings.epochs):
        windows = datasets.cut_windows(rows, settings.bptt, seed, epoch)
        checks = min(settings.checks, len(windows))
        bounds = np.linspace(0, len(windows), checks + 1).round().astype(int)
        for place in range(checks):
            yield place == 0, windows[bounds[place] : bounds[place + 1]]


def language_run(
    settings: LanguageSettings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """The arms of one point: a row an arm, columns arm, LANGUAGE_METRICS, CURVE_TENTHS, and `averaged`: how
    many iterates are in the mean that ASGD is judged by.

    early_loss, train_loss: of the windows under their masks, up to EARLY_CHECKS of the checks and in the last
    epoch. A run that diverges has NaN.
    """
    run = LanguageRun(settings, point, device)
    arms = [arm for arm in (point["method"], run.method.mean) if arm]
    try:
        losses = run.train()
    except Diverged:
        nothing = dict.fromkeys((*LANGUAGE_METRICS, *CURVE_TENTHS), math.nan)
        return pd.DataFrame([{"arm": arm} | nothing | {"averaged": 0} for arm in arms])
    first, last = round(EARLY_CHECKS * len(losses)) or 1, min(settings.checks, len(losses))
    curve = np.interp(np.linspace(0.1, 1, len(CURVE_TENTHS)), share_of(losses), losses)
    seen = {"early_loss": np.mean(losses[:first]), "train_loss": np.mean(losses[-last:])}
    seen |= dict(zip(CURVE_TENTHS, curve, strict=True)) | {"averaged": run.tail.count}
    ends = run.measure_ends()
    return pd.DataFrame([{"arm": arm} | seen | end for arm, end in zip(arms, ends, strict=True)])


def share_of(losses: list[float]) -> np.ndarray:
    """The share of the run at which each check was."""
    return np.arange(1, len(losses) + 1) / len(losses)
