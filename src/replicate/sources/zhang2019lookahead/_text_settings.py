"""What the experiments on text are told: a language model's settings, and a translator's.

The slides print none. Values are those that a replication reports of the paper's appendix, those of
the recipe or the paper that a model is from, or, where said, ours.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from replicate.sources.settings import STRICT, Count, Fraction, Natural, Rate, Seed

Drop = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(ge=0)]
Step = Annotated[float, Field(gt=0, le=1)]


class OnText:
    """What both settings check, and what their keys hold of the text."""

    def found_by_folder(self) -> dict[str, str]:
        """Module -> checksum of its data, of the text that the name chooses."""
        from replicate import datasets

        return {datasets.module_of(self.dataset): datasets.checksum(self.dataset)}

    def _check_grids(self, *names: str) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must name at least one seed and none twice, got {self.seeds}")
        for name in names:
            grid = getattr(self, name)
            if not grid or list(grid) != sorted(set(grid)):
                raise ValueError(f"{name} must name a rate and rise, got {grid}")


@dataclass(frozen=True, config=STRICT)
class LanguageSettings(OnText):
    """An AWD-LSTM on a text; alpha and k are Lookahead's, the symbols of the recipe have names."""

    dataset: Literal["ptb"] = "ptb"  # the slide
    embedding: Count = 400  # a replication's report
    hidden: Count = 1150  # a replication's report
    layers: Count = 3  # a replication's report
    word_drop: Drop = 0.1  # a replication's report: dropoute
    input_drop: Drop = 0.65  # a replication's report: dropouti
    hidden_drop: Drop = 0.3  # a replication's report: dropouth
    output_drop: Drop = 0.4  # silent; the recipe's
    weight_drop: Drop = 0.5  # a replication's report: wdrop
    activation: Penalty = 2.0  # a replication's report: alpha of AR
    change: Penalty = 1.0  # a replication's report: beta of TAR
    batch: Count = 80  # a replication's report; columns of the text
    bptt: Count = 70  # silent; the recipe's
    clip: Annotated[float, Field(gt=0)] = 0.25  # a replication's report
    weight_decay: Penalty = 1.2e-6  # a replication's report
    epochs: Count = 750  # a replication's report
    checks: Count = 1  # a replication's report; validation losses an epoch
    patience: Count = 15  # a replication's report; checks until the rate falls
    factor: Fraction = 0.5  # a replication's report; what it is multiplied with
    nonmonotone: Natural = 5  # the recipe's n, of ASGD
    sgd_rates: tuple[Rate, ...] = (0.1, 1.0, 2.5, 5.0, 10.0, 30.0, 50.0)  # a replication's report
    adam_rates: tuple[Rate, ...] = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1)  # the same
    alpha: Step = 0.5  # ours; of the paper's 0.5 and 0.8 the robustness figure's
    k: Count = 5  # ours; of the paper's 5 and 10 the robustness figure's
    tokens: Natural = 0  # words of the training text, 0 for all of them
    held_tokens: Natural = 0  # words of validation and of test text, 0 for all of them
    check_tokens: Natural = 0  # those of the validation words that a check reads, 0 for all
    measure_batch: Count = 10  # the recipe's; columns of a text that is measured
    seeds: tuple[Seed, ...] = (0, 1, 2)  # silent

    @model_validator(mode="after")
    def _fits(self):
        self._check_grids("sgd_rates", "adam_rates")
        return self


@dataclass(frozen=True, config=STRICT)
class TranslationSettings(OnText):
    """A transformer on sentence pairs; alpha and k are Lookahead's."""

    dataset: Literal["multi30k"] = "multi30k"  # ours; the source's WMT14 has 4.5 million pairs
    width: Count = 512  # the slide's transformer; Vaswani et al. 2017, table 3, base
    heads: Count = 8  # the same
    layers: Count = 6  # the same
    feed_forward: Count = 2048  # the same
    dropout: Drop = 0.1  # the same
    norm_first: bool = False  # Vaswani et al. 2017, section 3.1
    pieces: Count = 4000  # ours, for a text this small; Vaswani et al. 2017 have 37 000
    batch: Count = 128  # ours; sentence pairs, Vaswani et al. 2017 have 25 000 pieces
    smoothing: Drop = 0.1  # Vaswani et al. 2017, section 5.4
    beta_2: Drop = 0.98  # Vaswani et al. 2017, section 5.3
    epsilon: Annotated[float, Field(gt=0)] = 1e-9  # the same
    warmup: Count = 4000  # the same
    steps: Annotated[int, Field(ge=20)] = 50_000  # the paper's figure; its curve has 20 pieces
    # Peak rates around the 0.0007 of Vaswani et al. 2017, section 5.3, which is width^-1/2
    # warmup^-1/2; AdaFactor's are relative to the weights (Shazeer and Stern 2018: 0.01).
    adam_rates: tuple[Rate, ...] = (0.00035, 0.0007, 0.0014)
    adafactor_rates: tuple[Rate, ...] = (0.005, 0.01, 0.02)
    alpha: Step = 0.5  # ours; of the paper's 0.5 and 0.8 the robustness figure's
    k: Count = 5  # ours; of the paper's 5 and 10 the robustness figure's
    # The paper's figure: Lookahead is ahead until 20 000 of 50 000 steps; ours: from a tenth on.
    early: tuple[Fraction, Fraction] = (0.1, 0.4)
    late: tuple[Fraction, Fraction] = (0.9, 1.0)  # ours: the last tenth
    sentences: Natural = 0  # training pairs, 0 for all of them
    measured: Natural = (
        0  # pairs of validation, and of training, that losses are measured on, 0 for all
    )
    translated: Count = 1000  # test sentences that BLEU is measured on
    longest: Count = 60  # ours; pieces of a translation, the longest test sentence has fewer
    seeds: tuple[Seed, ...] = (0, 1, 2)  # silent

    @model_validator(mode="after")
    def _fits(self):
        self._check_grids("adam_rates", "adafactor_rates")
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.heads}")
        for name in ("early", "late"):
            begin, end = getattr(self, name)
            if round(begin * self.steps) >= round(end * self.steps):
                raise ValueError(f"{name} must hold a step of {self.steps}, got {(begin, end)}")
        return self
